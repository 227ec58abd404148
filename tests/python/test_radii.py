"""A radius for each row: the pairs of a join by the largest one that are within their query's."""

import lshjoin
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from lshjoin import radius_join, radius_join_batches

METRICS = ["euclidean", "manhattan", "cosine"]
ORDER = [(name, "ascending") for name in ("query", "distance", "item")]


def edges(found):
    left, right, distance = found.to_edges()
    return list(zip(left.tolist(), right.tolist(), distance.tolist(), strict=True))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pairs_are_those_within_the_radius_of_their_query(rng, metric, dtype):
    x, q = (rng.standard_normal((rows, 4)).astype(dtype) for rows in (300, 120))
    x[40:44] = x[7]
    keys, known = rng.integers(0, 3, 300), rng.integers(0, 120, (60, 2))
    for sides, options in (
        ((None, x), {}),
        ((q, x), {}),
        ((None, x), {"within": keys}),
        ((q, x), {"exclude": known}),
        ((None, x), {"apart": keys, "exclude": known}),
        ((q, x), {"ids": [f"x{row}" for row in range(300)]}),
        ((q, x), {"max_neighbors": 3}),
    ):
        queries = len(x if sides[0] is None else q)
        every = radius_join(*sides, np.inf, metric=metric, **options)
        largest = np.quantile(every.distances, 0.3)
        radii = rng.choice([0.0, 0.3 * largest, largest], queries)
        radii[5] = edges(every)[every.lims[5]][2]  # the nearest is as far, and not nearer
        expected = [pair for pair in edges(every) if pair[2] < radii[pair[0]]]
        found = radius_join(*sides, radii, metric=metric, **options)
        assert edges(found) == expected
        assert 10 < len(expected) < len(every.indices)
        assert found.distances.dtype == every.distances.dtype
        if options.keys() <= {"within", "apart", "exclude"}:
            batches = radius_join_batches(*sides, radii, metric=metric, batch_size=100, **options)
            columns = batches.read_all().sort_by(ORDER).to_pydict().values()
            assert list(zip(*columns, strict=True)) == expected


def test_a_pair_has_a_direction():
    """The one whose radius is larger finds the other, which need not find it."""
    x = [[0.0], [1.0], [2.5]]
    assert edges(radius_join(x, radius=[1.2, 0.5, 3.0])) == [(0, 1, 1.0), (2, 1, 1.5), (2, 0, 2.5)]
    assert edges(radius_join(x, radius=[0, 0, 0])) == []
    assert len(radius_join(x, radius=[np.inf] * 3).indices) == 6
    none = radius_join(np.empty((0, 1)), x, radius=[])
    assert (none.lims.tolist(), len(none.indices)) == ([0], 0)


@pytest.mark.parametrize(
    "radius",
    [
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        np.array([1, 2, 3], np.uint8),
        np.array([1, 2, 3], np.float16),
        pd.Series([1.0, 2, 3], index=[7, 8, 9]),
        pd.Series([1, 2, 3], dtype="Int64"),
        pl.Series([1, 2, 3]),
        pa.array([1, 2, 3]),
        pa.chunked_array([[1], [2, 3]]),
    ],
)
def test_radii_come_as_they_are(radius):
    x = np.array([[0.0], [0.9], [3.5]])
    assert radius_join(x, radius=radius).to_edges().left.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "message", "radius"),
    [
        (ValueError, "one for each query, but has 2 for 3 queries", [1.0, 2.0]),
        (ValueError, "one for each query, but has 1 for 3 queries", [1.0]),
        (ValueError, "null or NaN, but is nan for query 1", [1.0, np.nan, 2.0]),
        (ValueError, "null or NaN, but is nan for query 2", pa.array([1, 2, None])),
        (ValueError, "null or NaN, but is nan for query 0", pl.Series([None, 2, 3])),
        (ValueError, "negative.* but is -1.0 for query 2", [1, 2, -1]),
        (ValueError, "masked", np.ma.array([1.0, 2, 3], mask=[0, 1, 0])),
        (TypeError, "not an array of float64 with 2 dimensions", np.ones((3, 1))),
        (TypeError, "not an array of bool", [True, False, True]),
        (TypeError, "not an array of <U1", ["1", "2", "3"]),
        (TypeError, "radius of query 1 must be a number, not the NoneType", [1.0, None, 2.0]),
        (ValueError, "but is nan for query 1", pd.Series([1, None, 2], dtype="Int64")),
    ],
)
def test_radii_that_are_none(error, message, radius):
    for join in (radius_join, radius_join_batches):
        with pytest.raises(error, match=message):
            join(np.eye(3), radius=radius)


def of_kind(kind, columns):
    kinds = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    return (kinds | {"lazy": pl.LazyFrame})[kind](columns)


def names(frame):
    """Of both rows of each pair."""
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    table = pa.Table.from_pandas(frame) if isinstance(frame, pd.DataFrame) else pa.table(frame)
    return [(row["a_left"], row["a_right"]) for row in table.to_pylist()]


FRAME = {
    "v": [[0.0], [1.0], [3.0], [7.0]],
    "a": ["w", "x", "y", "z"],
    "n": [5, 6, 7, 8],
    "reach": [1.5, 0.5, 2.5, 6.5],
}


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "lazy"])
def test_frames(kind):
    frame = of_kind(kind, FRAME)

    def join(right=None, **options):
        return names(lshjoin.join(frame, right, on="v", columns=["a"], **options))

    by_row = [("w", "x"), ("y", "x"), ("z", "y"), ("z", "x")]
    assert join(radius="reach") == by_row
    assert join(radius=FRAME["reach"]) == by_row
    assert join(radius="reach", max_neighbors=1) == by_row[:3]
    assert join(radius=4.5, max_neighbors=1) == [("w", "x"), ("x", "w"), ("y", "x"), ("z", "y")]
    nearest = [("w", "y"), ("x", "y"), ("y", "x"), ("z", "x")]
    for exclude, ids in (
        ([(0, 1), (2, 3)], None),
        (np.array([(1, 0), (2, 3)]), None),
        ([("w", "x"), ("z", "y")], "a"),
        (of_kind(kind, {"one": ["w", "z"], "two": ["x", "y"], "why": ["", ""]}), "a"),
        (pa.table({"one": [5, 8], "two": [6, 7]}), "n"),
        (of_kind(kind, {"one": [0, 2], "two": [1, 3]}), None),
    ):
        assert join(k=1, exclude=exclude, ids=ids) == nearest
    found = join(of_kind(kind, FRAME), k=1, exclude=[("w", "w")], ids="a")
    assert found == [("w", "x"), ("x", "x"), ("y", "y"), ("z", "z")]


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "left has no columns 'far'", {"radius": "far"}),
        (TypeError, "radius of query 0 must be a number, not the str w", {"radius": "a"}),
        (ValueError, "has 2 for 4 queries", {"radius": [1.0, 2.0]}),
        (TypeError, "max_neighbors is for a radius", {"k": 2, "max_neighbors": 2}),
        (ValueError, "max_neighbors is 0", {"radius": 1.0, "max_neighbors": 0}),
        (
            TypeError,
            "max_neighbors must be a whole number, not the float 1.5",
            {"radius": 1.0, "max_neighbors": 1.5},
        ),
        (TypeError, "within must be the name of a column", {"k": 1, "within": [1, 1, 2, 2]}),
        (TypeError, "ids is for exclude", {"ids": "a"}),
        (ValueError, "exclude: no row has the id 'q'", {"exclude": [("w", "q")], "ids": "a"}),
        (ValueError, "exclude: no row has the id 9", {"exclude": [(0, 9)]}),
        (ValueError, "left has no columns 'id'", {"exclude": [(0, 1)], "ids": "id"}),
        (TypeError, "for an id", {"exclude": [(0, 1)], "ids": "v"}),
        (ValueError, "must have two columns", {"exclude": pl.DataFrame({"a": [1]})}),
        (ValueError, "of shape", {"exclude": [1, 2, 3]}),
    ],
)
def test_options_of_frames_that_cannot_be(error, message, options):
    with pytest.raises(error, match=message):
        lshjoin.join(pl.DataFrame(FRAME), on="v", **options)


def test_ids_that_come_twice_name_no_row():
    twice = pl.DataFrame(FRAME | {"a": ["w", "w", "x", "y"]})
    with pytest.raises(ValueError, match="a of left: w is the id of rows 0 and 1"):
        lshjoin.join(twice, on="v", exclude=[("w", "x")], ids="a")
