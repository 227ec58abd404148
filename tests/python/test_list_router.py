"""Where rows of a join go that is spread over tasks."""

import pickle

import numpy as np
import pytest
from lshjoin import knn_join
from lshjoin.engine import ListRouter


@pytest.mark.parametrize("probing", ["queries", "items"])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_near_rows_meet_in_few_parts(probing, dtype):
    rng = np.random.default_rng(5)
    centres = 3 * rng.standard_normal((30, 6))
    items, queries = (
        (centres[rng.integers(30, size=count)] + rng.standard_normal((count, 6))).astype(dtype)
        for count in (4_000, 1_000)
    )
    learnt = ListRouter.learn(
        queries, items, 8, metric="euclidean", k=5, recall=0.9, probing=probing, num_threads=1
    )
    router = pickle.loads(pickle.dumps(learnt))
    assert router.parts == 8
    near = knn_join(queries, items, 5, recall=1.0).indices
    sides = {"queries": queries, "items": items}
    at_home = router.homes(sides.pop("items" if probing == "queries" else "queries"), probing)
    row, part = router.probes(sides[probing], probing)
    for before, after in zip(learnt.probes(sides[probing], probing), (row, part), strict=True):
        np.testing.assert_array_equal(before, after)
    went = np.zeros((len(sides[probing]), 8), bool)
    went[row, part] = True
    first = np.flatnonzero(np.diff(row, prepend=-1))
    np.testing.assert_array_equal(part[first], router.homes(sides[probing], probing))
    query = np.repeat(np.arange(1_000), 5)
    pairs = (query, near.ravel()) if probing == "queries" else (near.ravel(), query)
    meet = went[pairs[0], at_home[pairs[1]]]
    assert meet.mean() > 0.87
    assert went.sum(axis=1).mean() < 4


def test_complaints():
    items = np.ones((10, 2), np.float32)
    good = {"metric": "euclidean", "k": 1, "recall": 0.9, "probing": "items"}
    for words, change in (
        ("a side is queries or items, not rows", {"probing": "rows"}),
        ("recall must be above 0 and at most 1, not 2", {"recall": 2.0}),
        ("k must be at least 1, not 0", {"k": 0}),
    ):
        with pytest.raises(ValueError, match=words):
            ListRouter.learn(None, items, 2, **(good | change))
    router = ListRouter.learn(None, items, 2, **good)
    with pytest.raises(ValueError, match="items have dimension 3, but 2 is needed"):
        router.homes(np.ones((1, 3)), "items")
    with pytest.raises(ValueError, match="NaN"):
        router.probes(np.full((1, 2), np.nan), "items")
    with pytest.raises(ValueError, match="a router must be of bytes that"):
        ListRouter.from_bytes(b"{}")
