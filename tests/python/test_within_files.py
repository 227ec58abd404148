"""Joins of files within groups of rows, and of rows kept apart: those of arrays, in memory or not."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lshjoin import (
    JoinPlan,
    OtherJobError,
    dedup,
    dedup_files,
    knn_join,
    knn_join_files,
    plan_knn_join_files,
    radius_join,
    radius_join_files,
)
from lshjoin.files import plan as files_plan
from lshjoin.files.groups import Groups, pack

EXACT = JoinPlan.exact()


def write(path, vectors, **columns):
    values = pa.array(vectors.ravel())
    lists = pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])
    pq.write_table(pa.table({"v": lists, **columns}), path, row_group_size=700)


@pytest.fixture
def sides(rng, tmp_path, monkeypatch):
    """Vectors and keys of items.parquet and queries.parquet; Python's memory does not count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files_plan, "_BASE", 0)
    monkeypatch.setattr(files_plan, "_BATCH", (1 << 12, 1 << 16))
    found = {}
    for name, rows in (("items", 3000), ("queries", 1500)):
        vectors = rng.standard_normal((rows, 8)).astype(np.float32)
        large = rng.random(rows) < 0.4
        words = np.where(large, "large", rng.integers(0, 300, rows).astype(str)).astype(object)
        words[rng.random(rows) < 0.05] = None
        documents = rng.integers(0, 5, rows)
        write(f"{name}.parquet", vectors, word=pa.array(words), document=pa.array(documents))
        found[name] = vectors, words, documents
    return found


def pairs(path):
    order = [(name, "ascending") for name in ("query", "distance", "item")]
    return pq.read_table(path).sort_by(order).to_pydict()


def of_edges(found):
    columns = dict(zip(("query", "item", "distance"), found.to_edges(), strict=True))
    order = [(name, "ascending") for name in ("query", "distance", "item")]
    return pa.table(columns).sort_by(order).to_pydict()


def arrays(sides, both, within, apart):
    """The arguments of a join of arrays for that of files."""
    names = ("queries", "items") if both else ("items",)
    vectors, words, documents = zip(*(sides[name] for name in names), strict=True)
    keys = {"within": words if within else None, "apart": documents if apart else None}
    of = {name: key if both or key is None else key[0] for name, key in keys.items()}
    return vectors, of


#: All in memory; groups in pieces, and the large one by itself; that one out of core.
LIMITS = {"memory": "1GB", "pieces": 1_100_000, "large": 540_000}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("both", [False, True])
def test_nearest_within_groups_are_those_of_arrays(both, limit, sides):
    vectors, keys = arrays(sides, both, True, False)
    files = ("queries.parquet", "items.parquet") if both else ("items.parquet",)
    done = knn_join_files(
        *files, k=4, out="out.parquet", within="word", plan=EXACT, memory_limit=LIMITS[limit]
    )
    assert pairs("out.parquet") == of_edges(knn_join(*vectors, k=4, **keys, plan=EXACT))
    pieces = done.plan.pieces
    print(done.plan)
    assert (pieces is None) == (limit == "memory")
    assert not pieces or (pieces.large > 0) == (limit == "large")
    assert not pieces or 2 <= pieces.count < pieces.groups
