"""Whatever arrays, frames, parameters and files there are: right answers, or errors that say why.

Hypothesis draws them: some for each run of the tests, thousands with ``HYPOTHESIS_PROFILE=fuzz``.
"""

import os
import tempfile
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from frames import rows_of
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from lshjoin import (
    BucketedRandomProjectionLSH,
    Index,
    JoinPlan,
    ManhattanProjectionLSH,
    RandomHyperplaneLSH,
    build_index,
    dedup_files,
    knn_join,
    knn_join_files,
    open_dataset,
    plan_knn_join,
    query_index,
    radius_join,
    radius_join_batches,
    radius_join_files,
)

COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("quick", max_examples=50, derandomize=True, database=None, **COMMON)
settings.register_profile("fuzz", max_examples=3000, print_blob=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
#: For what writes files.
SLOW = settings(max_examples=settings().max_examples // 5)

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass")

COUNTS = Counter()


@pytest.fixture(scope="module", autouse=True)
def counts(record_testsuite_property):
    """How many of each there were, at the end: seen with ``pytest -s``, and in JUnit's report."""
    yield
    for (what, outcome), count in sorted(COUNTS.items()):
        record_testsuite_property(f"{what} {outcome}", count)
        print(f"\n{count:7,} {what} {outcome}", end="")


def outcome(what, wrong, call):
    """What ``call`` answers; None where it says, as it has to, that the input is wrong."""
    if not wrong:
        answer = call()
        COUNTS[what, "answered"] += 1
        return answer
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert 10 < len(str(caught.value)) < 600
    COUNTS[what, "refused"] += 1
    event(f"{what} refused: {wrong}")
    return None


# What answers are compared with.


def brute_force(metric, a, b):
    """All distances, in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if metric == "inner_product":
        return -(a @ b.T)
    if metric == "cosine":
        norms = [np.linalg.norm(side, axis=1, keepdims=True) for side in (a, b)]
        a, b = (
            side / np.where(norm > 0, norm, 1) for side, norm in zip((a, b), norms, strict=True)
        )
        return 1 - a @ b.T  # of zeros to all others, 1
    apart = a[:, None] - b[None]
    if metric == "manhattan":
        return np.abs(apart).sum(-1)
    return np.sqrt((apart * apart).sum(-1))


def slack(metric, a, b, single):
    """How far a distance may be from that of float64."""
    step = 4e-6 if single else 1e-10
    largest = max(float(np.abs(np.asarray(side, np.float64)).max(initial=0)) for side in (a, b))
    dim = a.shape[1]
    of_metric = {
        "euclidean": largest * dim**0.5,
        "manhattan": largest * dim,
        "cosine": 1,
        "inner_product": largest * largest * dim,
    }
    return step * of_metric[metric]


def check_nearest(right, distances, indices, k, near, exact=True):
    """Each row's nearest, by the right distances, in which inf is for what is no pair."""
    assert distances.shape == indices.shape == (len(right), k)
    found = np.isfinite(distances)
    assert (indices[~found] == -1).all()
    for row, there, of, to in zip(right, found, distances, indices, strict=True):
        of, to = of[there].astype(np.float64), to[there]
        assert len(set(to.tolist())) == len(to)
        assert (np.diff(of) >= 0).all()
        assert np.abs(row[to] - of).max(initial=0) <= near
        if exact:
            best = np.sort(row[row < np.inf])[:k]
            assert len(of) == len(best)
            assert np.abs(best - of).max(initial=0) <= near


def check_pairs(right, radius, left, others, distances, near):
    """All pairs nearer than the radius, but where it takes more than float32 to tell."""
    assert len(set(zip(left, others, strict=True))) == len(left)
    found = np.zeros(right.shape, bool)
    found[left, others] = True
    assert np.abs(right[left, others] - distances).max(initial=0) <= near
    assert (right[found] < radius + near).all()
    assert found[right < radius - near].all()


# Arrays.

WHOLE = [f"{order}{kind}{size}" for order in "<>" for kind in "iu" for size in (1, 2, 4, 8)]
REAL = [f"{order}f{size}" for order in "<>" for size in (2, 4, 8)]
OTHER = ["?", "c8", "c16", "g", "O", "U3", "S3", "M8[s]", "m8[s]"]


class Drawn(NamedTuple):
    given: Any
    values: Any = None  # what it stands for
    wrong: str | None = None  # with it, if anything

    @property
    def single(self):
        """Whether distances are float32."""
        return self.values.dtype.itemsize <= (4 if self.values.dtype.kind == "f" else 2)


def numbers(rng, rows, dim, dtype):
    """Of ordinary size, ties and duplicates among them."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f" and rng.random() < 0.7:
        return (rng.standard_normal((rows, dim)) * 10.0 ** rng.integers(-2, 3)).astype(dtype)
    return rng.integers(0 if dtype.kind == "u" else -9, 10, (rows, dim)).astype(dtype)


def misaligned(array):
    other = np.ndarray(array.shape, array.dtype, np.zeros(array.nbytes + 1, np.uint8)[1:])
    other[...] = array
    return other


def read_only(array):
    array.setflags(write=False)
    return array


LAYOUTS = {
    "as it is": lambda array: array,
    "Fortran's": np.asfortranarray,
    "every other row": lambda array: np.repeat(array, 2, axis=0)[::2],
    "every third column": lambda array: np.repeat(array, 3, axis=1)[:, ::3],
    "rows backwards": lambda array: array[::-1].copy()[::-1],
    "columns backwards": lambda array: array[:, ::-1].copy()[:, ::-1],
    "misaligned": misaligned,
    "read-only": read_only,
    "a matrix": np.asmatrix,
    "a mask that hides nothing": np.ma.masked_array,
    "list of rows": list,
    "tuple of rows": tuple,
    "cells": lambda array: pd.Series(list(array)).to_numpy(),
    "a data frame": pd.DataFrame,
}
NATIVE = {"a data frame"}  # pandas takes no other order of bytes


@st.composite
def matrices(draw, dim=None):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.sampled_from([0, 1, 2, 3, 17, 40, 300]))
    dim = dim or draw(st.sampled_from([1, 2, 3, 7, 16, 65, 3000]))
    rows = min(rows, 10**5 // dim)  # brute force takes rows² dim
    fault = draw(st.sampled_from([*[None] * 17, "type", "value", "value"]))
    if fault == "type":
        dtype = draw(st.sampled_from(OTHER))
        return Drawn(np.ones((rows, dim), "i8").astype(dtype), wrong=f"of {dtype}")
    array = numbers(rng, rows, dim, draw(st.sampled_from(REAL + WHOLE)))
    wrong = None
    if rows and fault == "value":
        place = rng.integers(rows), rng.integers(dim)
        if array.dtype.kind == "f":
            array[place] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
            wrong = "not finite"
        elif array.dtype.itemsize == 8:
            array[place] = 2**53 + 1
            wrong = "beyond 2**53"
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    if layout in NATIVE:
        array = array.astype(array.dtype.newbyteorder("="))
    if rows == 0 and ("rows" in layout or layout == "cells"):
        layout = "as it is"
    event(f"array {layout}")
    return Drawn(LAYOUTS[layout](array), array.copy(), wrong)


@st.composite
def odd_shapes(draw):
    rows = np.ones((draw(st.integers(1, 5)), draw(st.integers(1, 5))))
    things = {
        "1-D": rows[0],
        "3-D": rows[None],
        "without columns": rows[:, :0],
        "a number": 1.0,
        "a text": "rows",
        "an object": object(),
        "a dict": {"a": rows},
        "ragged": [[1.0, 2.0], [1.0]],
        "with a None": [[1.0, None]],
        "of a number that no float holds": [[10**400, 1.0]],
        "an empty list": [],
        "a list of an empty one": [[]],
        "masked": np.ma.masked_greater(rows, 0),
        "a list of masked rows": list(np.ma.masked_greater(rows, 0)),
        "sparse": scipy.sparse.csr_array(rows),
        "a column of texts": pd.Series(["a"]),
        "a column of numbers": pl.Series([1.0]),
        "a column of matrices": pd.Series([rows]),
        "cells with a None": np.array([[1.0], None], dtype=object),
        "a table of texts": pa.table({"a": ["a"]}),
    }
    wrong = draw(st.sampled_from(sorted(things)))
    return Drawn(things[wrong], wrong=wrong)


@st.composite
def arrays(draw, dim=None):
    return draw(odd_shapes() if draw(st.sampled_from([*[False] * 19, True])) else matrices(dim))


METRICS = ["euclidean", "manhattan", "cosine", "inner_product"]
PLANS = [
    JoinPlan.exact(),
    JoinPlan.ivf(lists=5, probes=2, rounds=1),
    JoinPlan.ivf(lists=3, probes=1, until_recall=0.9),
    JoinPlan.lsh(axes=3, functions=4, tables=2, probes=2, rounds=1),
    JoinPlan.partitions(lists=5, probes=2),
]


@st.composite
def two_sides(draw):
    """Queries, or None for a self-join, and items; what is wrong with the two."""
    items = draw(arrays())
    if draw(st.booleans()):
        return None, items, items.wrong
    same = items.values is not None and draw(st.sampled_from([*[True] * 19, False]))
    queries = draw(arrays(items.values.shape[1] if same else None))
    wrong = items.wrong or queries.wrong
    if not wrong and items.values.shape[1] != queries.values.shape[1]:
        wrong = "of two dimensions"
    return queries, items, wrong


@given(
    sides=two_sides(),
    metric=st.sampled_from(METRICS),
    k=st.sampled_from([1, 2, 5, 50]),
    recall=st.sampled_from([None, 0.5, 1.0]),
    plan=st.sampled_from([None, None, *PLANS]),
    num_threads=st.sampled_from([None, 1, 3]),
)
def test_nearest_of_arrays(sides, metric, k, recall, plan, num_threads):
    queries, items, wrong = sides
    given = (None if queries is None else queries.given, items.given)
    left = queries or items
    single = not wrong and left.single and items.single
    if plan and plan.kind == "partitions" and not single:
        wrong = wrong or "of 64 bits, which an index does not hold"
    options = {"metric": metric, "num_threads": num_threads}
    asked = {"plan": plan} if plan else {"recall": recall}
    found = outcome("arrays", wrong, lambda: knn_join(*given, k, **asked, **options))
    if found is None:
        return
    right = brute_force(metric, left.values, items.values)
    if queries is None:
        np.fill_diagonal(right, np.inf)
    assert found.distances.dtype == (np.float32 if single else np.float64)
    near = slack(metric, left.values, items.values, single)
    check_nearest(right, *found, k, near, exact=found.plan == JoinPlan.exact())
    again = knn_join(*given, k, plan=found.plan, **options)
    assert all(map(np.array_equal, again, found))


@given(
    sides=two_sides(),
    metric=st.sampled_from(METRICS),
    radius=st.one_of(st.floats(0, 30), st.just(np.inf)),
    batch_size=st.sampled_from([None, 1, 7, 2**40]),
)
def test_near_pairs_of_arrays(sides, metric, radius, batch_size):
    queries, items, wrong = sides
    given = (None if queries is None else queries.given, items.given)

    def pairs():
        if batch_size is None:
            lims, distances, indices = radius_join(*given, radius, metric=metric)
            return np.repeat(np.arange(len(lims) - 1), np.diff(lims)), indices, distances
        options = {"metric": metric, "batch_size": batch_size}
        with radius_join_batches(*given, radius, **options) as reader:
            return [column.to_numpy() for column in reader.read_all().columns]

    if metric == "inner_product":
        wrong = wrong or "no distance"
    if wrong == "not finite" and batch_size:
        wrong = "not finite, as the first batch tells"
    found = outcome("arrays", wrong, pairs)
    if found is None:
        return
    left = queries or items
    right = brute_force(metric, left.values, items.values)
    near = slack(metric, left.values, items.values, left.single and items.single)
    if queries is None:
        np.fill_diagonal(right, np.inf)
        found_itself = found[0] == found[1]
        assert not found_itself.any()
    check_pairs(np.where(np.isinf(right), 1e300, right), min(radius, 1e299), *found, near)


IDS = st.integers(-(2**63), 2**63 - 1)


@given(data=st.data(), sides=two_sides(), metric=st.sampled_from(METRICS), k=st.integers(1, 9))
def test_indexes(data, sides, metric, k):
    queries, items, wrong = sides
    queries = queries or items
    rows = 0 if items.values is None else len(items.values)
    ids = data.draw(st.lists(IDS, min_size=rows, max_size=rows, unique=True))
    ids = np.array(ids, np.int64)
    stored = data.draw(st.sampled_from([">i8", "<i8", "list", "misaligned", "polars"]))
    of_ids = {
        "list": ids.tolist,
        "misaligned": lambda: misaligned(ids),
        "polars": lambda: pl.Series(ids),
    }
    numbered = of_ids.get(stored, lambda: ids.astype(stored))()
    built = outcome(
        "indexes",
        wrong and items.wrong,
        lambda: Index.build(items.given, ids=numbered, metric=metric),
    )
    if built is None:
        return
    found = outcome("indexes", wrong, lambda: built.knn(queries.given, k))
    if found is None:
        return
    rows_of_ids = {number: row for row, number in enumerate(ids.tolist())}
    there = np.isfinite(found.distances)
    indices = np.full(found.indices.shape, -1)
    indices[there] = [rows_of_ids[number] for number in found.indices[there].tolist()]
    right = brute_force(metric, queries.values, items.values)
    near = slack(metric, queries.values, items.values, True)
    check_nearest(right, found.distances, indices, k, near)
    built.remove(numbered[: rows // 2])
    left = right.copy()
    left[:, : rows // 2] = np.inf
    found = built.knn(queries.given, k)
    assert not set(ids[: rows // 2].tolist()) & set(
        found.indices[np.isfinite(found.distances)].tolist()
    )
    assert np.isfinite(found.distances).sum() == min(k, rows - rows // 2) * len(right)


# Frames.

LISTS = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "list_view": pa.list_view,
    "large_list_view": pa.large_list_view,
}
COLUMNS = [*LISTS, "fixed", "tensor", "pandas", "pandas lists", "polars", "polars arrays"]


def column_of(kind, cells, dtype, dim):
    """A column of these cells, which need not be vectors."""
    number = pa.from_numpy_dtype(dtype)
    if kind in LISTS:
        return pa.array(cells, LISTS[kind](number))
    if kind == "polars":
        return pl.Series(pa.array(cells, pa.large_list(number)))
    if kind == "pandas lists":
        return pd.Series([cell if cell is None else list(cell) for cell in cells], dtype=object)
    if kind == "pandas":
        return pd.Series(
            [
                cell if cell is None else np.array(cell, None if None in cell else dtype)
                for cell in cells
            ],
            dtype=object,
        )
    fixed = pa.array(cells, pa.list_(number, dim))
    if kind == "polars arrays":
        return pl.Series(fixed)
    if kind == "tensor":
        return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(number, [dim]), fixed)
    return fixed


FAULTS = ["null", "null inside", "ragged", "empty", "not finite"]


@st.composite
def columns(draw, dim=None):
    """A column of vectors, in pieces that are slices of longer ones."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.sampled_from([1, 2, 5, 30]))
    dim = dim or draw(st.sampled_from([1, 2, 5, 40]))
    dtype = np.dtype(draw(st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u2"])))
    kind = draw(st.sampled_from(COLUMNS))
    if dtype == "f2" and ("polars" in kind or pa.__version__ < "18"):
        dtype = np.dtype("f4")
    if kind == "pandas lists":  # of Python's numbers
        dtype = np.dtype("f8" if dtype.kind == "f" else "i8")
    values = numbers(rng, rows, dim, dtype)
    cells = values.tolist()
    fault = draw(st.sampled_from([*[None] * 15, *FAULTS]))
    row = int(rng.integers(rows))
    if fault in ("ragged", "empty") and kind in ("fixed", "tensor", "polars arrays"):
        fault = None
    if fault == "not finite" and dtype.kind != "f":
        fault = None
    if fault == "ragged" and rows == 1:
        fault = None
    if fault == "null":
        cells[row] = None
    elif fault == "null inside":
        cells[row][-1] = None
    elif fault == "ragged":
        cells[row] = cells[row] + [1]
    elif fault == "empty":
        cells[row] = []
    elif fault == "not finite":
        cells[row][0] = float("nan")
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    spare = [[0] * dim]
    column = column_of(kind, spare * before + cells + spare * after, dtype, dim)
    column = column[before : before + rows]
    if isinstance(column, pa.Array) and draw(st.booleans()):
        cut = draw(st.integers(0, rows))
        column = pa.chunked_array([column[:cut], column[cut:cut], column[cut:]])
    event(f"column {kind}")
    wrong = fault and f"{kind} with {fault}"
    return Drawn(column, values, wrong)


def frame_of(column):
    ids = range(len(column))
    if isinstance(column, pd.Series):
        return pd.DataFrame({"id": ids, "x": column.to_numpy()})
    if isinstance(column, pl.Series):
        return pl.DataFrame({"id": ids, "x": column})
    return pa.table({"id": ids, "x": column})


@given(column=columns(), k=st.integers(1, 5), radius=st.floats(0, 20))
def test_columns(column, k, radius):
    found = outcome("columns", column.wrong, lambda: knn_join(items=column.given, k=k))
    if found is None:
        with pytest.raises((TypeError, ValueError)):
            radius_join(column.given, column.values, radius)
        return
    assert all(map(np.array_equal, found, knn_join(items=column.values, k=k)))
    for a, b in zip(
        radius_join(column.values, column.given, radius),
        radius_join(column.values, column.values, radius),
        strict=True,
    ):
        assert np.array_equal(a, b)


FAMILIES = {
    "euclidean": BucketedRandomProjectionLSH,
    "manhattan": ManhattanProjectionLSH,
    "cosine": RandomHyperplaneLSH,
}


@given(data=st.data(), metric=st.sampled_from(sorted(FAMILIES)), threshold=st.floats(0, 20))
def test_frames(data, metric, threshold):
    side = data.draw(columns())
    frame = frame_of(side.given)
    lsh = FAMILIES[metric](inputCol="x", outputCol="h", numHashTables=2, seed=3)
    if metric != "cosine":
        lsh.setBucketLength(4.0)
    model = outcome("frames", side.wrong, lambda: lsh.fit(frame))
    if model is None:
        return
    hashes = np.array([[table for table in row["h"]] for row in rows_of(model.transform(frame))])
    meet = (hashes[:, None] == hashes[None]).all(-1).any(-1)
    right = np.where(meet, brute_force(metric, side.values, side.values), 1e300)
    near = slack(metric, side.values, side.values, side.single)
    pairs = rows_of(model.approxSimilarityJoin(frame, frame, threshold))
    left, others = ([pair[name]["id"] for pair in pairs] for name in ("datasetA", "datasetB"))
    check_pairs(right, threshold, left, others, [pair["distCol"] for pair in pairs], near)
    key = data.draw(st.integers(0, len(right) - 1))
    nearest = rows_of(model.approxNearestNeighbors(frame, side.values[key], 3))
    best = np.sort(right[key][right[key] < 1e300])[:3]
    assert np.abs([row["distCol"] for row in nearest] - best).max(initial=0) <= near


# Parameters.

ITEMS = np.random.default_rng(0).standard_normal((30, 3))
FRAME = pl.DataFrame({"x": ITEMS.tolist()})
MODEL = BucketedRandomProjectionLSH(inputCol="x", bucketLength=3.0).fit(FRAME)
INDEX = Index.build(ITEMS)
NEAR = Index.build(ITEMS).plan
CALLS = {
    "k": lambda k: knn_join(items=ITEMS, k=k),
    "k of a plan": lambda k: plan_knn_join(items=ITEMS, k=k),
    "k of an index": lambda k: INDEX.knn(ITEMS, k),
    "neighbours": lambda k: MODEL.approxNearestNeighbors(FRAME, ITEMS[0], k),
    "neighbours of all": lambda k: MODEL.approxNearestNeighborsJoin(FRAME, FRAME, k),
    "recall": lambda recall: knn_join(items=ITEMS, recall=recall),
    "recall of an index": lambda recall: INDEX.knn(ITEMS, recall=recall),
    "recall of a plan": lambda recall: JoinPlan.ivf(lists=3, probes=1, until_recall=recall),
    "recall of buckets": lambda recall: BucketedRandomProjectionLSH.suggest(
        FRAME, inputCol="x", numNearestNeighbors=3, recall=recall
    ),
    "seed": lambda seed: knn_join(items=ITEMS, seed=seed),
    "seed of an index": lambda seed: Index.build(ITEMS, seed=seed),
    "seed of an estimator": lambda seed: BucketedRandomProjectionLSH(seed=seed),
    "metric": lambda metric: knn_join(items=ITEMS, metric=metric),
    "metric of an index": lambda metric: Index.build(ITEMS, metric=metric),
    "plan": lambda plan: knn_join(items=ITEMS, plan=plan),
    "plan of an index": lambda plan: INDEX.knn(ITEMS, plan=plan),
    "plan's text": JoinPlan.from_json,
    "lists": lambda lists: JoinPlan.ivf(lists=lists, probes=1),
    "axes": lambda axes: JoinPlan.lsh(axes=axes, functions=1, tables=1, probes=1, rounds=1),
    "functions": lambda functions: JoinPlan.lsh(
        axes=1, functions=functions, tables=1, probes=1, rounds=1
    ),
    "radius": lambda radius: radius_join(items=ITEMS, radius=radius),
    "radius of an index": lambda radius: INDEX.radius(ITEMS, radius),
    "batch size": lambda size: radius_join_batches(items=ITEMS, radius=1, batch_size=size),
    "threshold": lambda threshold: MODEL.approxSimilarityJoin(FRAME, FRAME, threshold),
    "bucket length": lambda length: BucketedRandomProjectionLSH(bucketLength=length),
    "tables": lambda tables: BucketedRandomProjectionLSH(numHashTables=tables),
    "column": lambda name: BucketedRandomProjectionLSH(inputCol=name, bucketLength=1.0).fit(FRAME),
    "distances": lambda name: MODEL.approxSimilarityJoin(FRAME, FRAME, 1.0, name),
    "key": lambda key: MODEL.approxNearestNeighbors(FRAME, key, 1),
    "ids": lambda ids: Index.build(ITEMS[:2], ids=ids),
    "removed": lambda ids: Index.build(ITEMS[:2]).remove(ids),
    "memory": lambda memory: INDEX.knn(ITEMS, memory_limit=memory),
    "chunks": lambda memory: len(INDEX.chunks(memory_limit=memory)),
    "chunk": lambda stop: INDEX.knn_of_chunk(range(stop), plan=JoinPlan.exact()),
    "items": lambda items: knn_join(items=items),
    "frame": lambda frame: MODEL.transform(frame),
}
# Neither so many that they fit in memory nor so few that nobody would ask for them.
NUMBERS = st.one_of(
    st.integers(-3, 100),
    st.sampled_from([2**60, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400, -(10**400)]),
    st.floats(allow_nan=True, allow_infinity=True),
)
VALUES = st.one_of(
    NUMBERS,
    NUMBERS.filter(lambda number: np.isfinite(number) if isinstance(number, float) else True).map(
        Fraction
    ),
    st.sampled_from(
        [np.int8(3), np.float32(0.5), np.uint64(2**64 - 1), np.array(2), np.array([2])]
    ),
    st.sampled_from([Decimal("0.5"), 0.5j, True, None, "", "x", "euclidean", b"x", "id", "\0"]),
    st.sampled_from([JoinPlan.exact(), NEAR, {}, [], [1, 2], {1, 2}, object(), int, print]),
    st.text(max_size=5),
    st.lists(NUMBERS, max_size=3),
)


@given(call=st.sampled_from(sorted(CALLS)), value=VALUES)
def test_parameters(call, value):
    refusal = None
    try:
        CALLS[call](value)
    except (TypeError, ValueError) as error:
        refusal = str(error)
    except KeyError as error:  # as Spark has it, for what has to be set
        refusal = str(error)
        assert "default value" in refusal
    except MemoryError as error:
        refusal = str(error)
    assert refusal is None or len(refusal) < 1000
    COUNTS["parameters", "answered" if refusal is None else "refused"] += 1


# Files.


@st.composite
def files(draw):
    """What columns a file has, how they are written, and what is wrong with it."""
    column = draw(columns(draw(st.sampled_from([2, 5]))))
    rows = len(column.values)
    of_ids = draw(st.sampled_from([None, "numbers", "texts", "views", "dictionary", "uint64"]))
    start = draw(st.integers(-50, 0))
    ids = {
        None: lambda: None,
        "numbers": lambda: pa.array(range(start, start + rows)),
        "texts": lambda: pa.array([f"é{row}" for row in range(rows)]),
        "views": lambda: pa.array([f"é{row}" for row in range(rows)], pa.string_view()),
        "dictionary": lambda: pa.array([f"{row}" for row in range(rows)]).dictionary_encode(),
        "uint64": lambda: pa.array(range(2**63 - rows, 2**63), pa.uint64()),
    }[of_ids]()
    return column, ids, draw(st.sampled_from([".parquet", ".arrow", ".npy"]))


def write(path, column, ids):
    if path.suffix == ".npy":
        np.save(path, column.values)
        return None, None
    table = frame_of(column.given)
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table)
    table = pa.table(table).select(["x"])
    if ids is not None:
        table = table.append_column("id", ids)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=7)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=7)
    return ids, column.wrong


@SLOW
@given(file=files(), call=st.sampled_from(["knn", "radius", "dedup", "index"]), k=st.integers(1, 5))
def test_files(file, call, k):
    column, ids, suffix = file
    with tempfile.TemporaryDirectory() as directory:
        path, out = Path(directory, f"items{suffix}"), Path(directory, "out.parquet")
        try:
            ids, wrong = write(path, column, ids)
        except (pa.ArrowException, TypeError):  # pyarrow writes no such thing
            return
        names = range(len(column.values)) if ids is None else ids.to_pylist()
        common = {"out": out, "id_column": None if ids is None else "id"}
        if call == "index" and isinstance(names[0], str):
            wrong = "ids of an index are integers"

        def written():
            if call == "knn":
                return knn_join_files(items=path, k=k, **common).out
            if call == "radius":
                return radius_join_files(items=path, radius=2.0, **common).out
            if call == "dedup":
                return dedup_files(path, 2.0, **common).out
            build_index(path, **common | {"out": Path(directory, "i")})
            return query_index(Path(directory, "i"), path, k, **common).out

        if outcome("files", wrong, written) is None:
            assert not out.exists()
            return
        values, table = column.values, pq.read_table(out).to_pydict()
        if call == "dedup":
            assert table["id"] == list(names)
            assert sum(table["keep"]) == len(set(table["group"]))
            near = radius_join(items=values, radius=2.0)
            group = dict(zip(names, table["group"], strict=True))
            for row in range(len(values)):
                for other in near.indices[near.lims[row] : near.lims[row + 1]].tolist():
                    assert group[names[row]] == group[names[other]]
            return
        if call == "knn":
            near = knn_join(items=values, k=k)
            left = np.repeat(np.arange(len(values)), (near.indices >= 0).sum(axis=1))
            others, distances = near.indices[near.indices >= 0], near.distances[near.indices >= 0]
        elif call == "radius":
            near = radius_join(items=values, radius=2.0)
            left = np.repeat(np.arange(len(values)), np.diff(near.lims))
            others, distances = near.indices, near.distances
        else:
            near = knn_join(values, values, k)
            assert len(table["item"]) == np.isfinite(near.distances).sum()
            assert set(table["item"]) <= set(names)
            return
        expected = zip(left.tolist(), others.tolist(), distances.tolist(), strict=True)
        expected = sorted((str(names[a]), str(names[b]), far) for a, b, far in expected)
        found = zip(
            map(str, table["query"]), map(str, table["item"]), table["distance"], strict=True
        )
        assert sorted(found) == expected


@SLOW
@given(data=st.data(), suffix=st.sampled_from([".parquet", ".arrow", ".npy"]))
def test_damaged_files(data, suffix):
    rows = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"items{suffix}")
        column = pa.array(rows.tolist(), pa.list_(pa.float32()))
        write(path, Drawn(column, rows), pa.array([f"{row}" for row in range(20)]))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        end = len(content)
        if data.draw(st.sampled_from([False, False, True])):
            end = data.draw(st.integers(0, end))
        path.write_bytes(content[:end])
        refusal = None
        try:
            dataset = open_dataset(path, id_column=None if suffix == ".npy" else "id")
            for batch in dataset.batches():
                assert np.isfinite(batch.vectors).all()
            if suffix != ".npy":
                assert sum(map(len, dataset.ids())) == len(dataset)
        except (TypeError, ValueError) as error:
            refusal = str(error)
        assert refusal is None or path.name in refusal
        COUNTS["damaged files", "answered" if refusal is None else "refused"] += 1
