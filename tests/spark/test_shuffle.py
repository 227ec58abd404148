"""The shuffle of lshjoin.spark, without a shuffle: which rows meet in which block."""

from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

shuffle = pytest.importorskip("lshjoin.spark.shuffle")

PARTS, ROWS = 7, 200
CLUSTER = shuffle.Cluster(4, 5, np.random.default_rng(0).integers(-(2**31), 2**31, 4_096, np.int32))


@pytest.fixture
def rng():
    return np.random.default_rng(20041)


def hashes(rng):
    return rng.integers(-(2**63), 2**63, ROWS)


def lie_in(rng, parts):
    """For each row some parts, all different."""
    return np.array([rng.choice(PARTS, parts, replace=False) for _ in range(ROWS)])


def placed(column) -> list[tuple[int, int, bool]]:
    """(row, block, right) of a column of blocks."""
    places = enumerate(column.to_pylist())
    return [(row, at["block"], at["right"]) for row, ats in places for at in ats]


def compared(left, right) -> list[tuple[int, int, int]]:
    return [(a, b, block) for (a, block), (b, other) in product(left, right) if block == other]


def test_rows_of_a_part_meet_in_one_block_of_it(rng):
    across, down = rng.integers(1, 4, (2, PARTS))
    plan = shuffle.Blocks.balanced(across, down, rng.random(PARTS), CLUSTER)
    parts = [lie_in(rng, 2), lie_in(rng, 1)]
    routes = [shuffle.Routes.of(each) for each in parts]
    left = placed(plan.of_left(routes[0], hashes(rng)))
    right = placed(plan.of_right(routes[1], hashes(rng)))
    assert not any(at[2] for at in left)
    assert all(at[2] for at in right)
    pairs_compared = compared([at[:2] for at in left], [at[:2] for at in right])
    expected = {
        (a, b, part)
        for a, b in product(range(ROWS), repeat=2)
        for part in set(parts[0][a]) & set(parts[1][b])
    }
    assert len(pairs_compared) == len(expected)
    assert {(a, b, plan.part_of(block)) for a, b, block in pairs_compared} == expected


def test_rows_of_one_side_meet_once_or_as_a_slice_with_itself(rng):
    slices = rng.integers(1, 4, PARTS)
    plan = shuffle.Blocks.balanced(slices, slices, rng.random(PARTS), CLUSTER)
    parts = lie_in(rng, 2)
    at = placed(plan.of_both(shuffle.Routes.of(parts), hashes(rng)))
    assert all(not right for _, block, right in at if plan.is_diagonal(block))
    left, right = (
        [(row, block) for row, block, side in at if side == which] for which in (False, True)
    )
    pairs = [(min(a, b), max(a, b), plan.part_of(block)) for a, b, block in compared(left, right)]
    among = [(a, b, block) for a, b, block in compared(left, left) if plan.is_diagonal(block)]
    pairs += [(a, b, plan.part_of(block)) for a, b, block in among if a <= b]
    expected = {
        (a, b, part)
        for a, b in product(range(ROWS), repeat=2)
        for part in set(parts[a]) & set(parts[b])
        if a <= b
    }
    assert len(pairs) == len(expected)
    assert set(pairs) == expected


def test_rows_of_one_frame_come_once_to_each_of_their_parts(rng):
    one = np.ones(PARTS, np.int64)
    plan = shuffle.Blocks.balanced(one, one, rng.random(PARTS), CLUSTER)
    counts = rng.integers(1, PARTS, ROWS)
    parts = [rng.choice(PARTS, count, replace=False) for count in counts]
    routes = shuffle.Routes(ROWS, np.repeat(np.arange(ROWS), counts), np.concatenate(parts))
    expected = [
        (row, part, part != of_row[0]) for row, of_row in enumerate(parts) for part in of_row
    ]
    assert placed(plan.of_itself(routes)) == expected


def test_blocks_end_where_their_rows_do():
    """Whatever batches they come in, which are cut without a copy."""
    rows = pa.array([{"id": row} for row in range(8)])
    at_right = pa.array([row in (3, 5, 6, 7) for row in range(8)])
    left, right = pc.if_else(at_right, None, rows), pc.if_else(at_right, rows, None)
    whole = pa.RecordBatch.from_arrays(
        [pa.array([4, 4, 7, 7, 7, 9, 9, 9]), left, right], ["block", "left", "right"]
    )
    for step in range(1, 9):
        batches = [whole.slice(start, step) for start in range(0, 8, step)]
        found = [
            (block, *(side.column("id").to_pylist() for side in sides))
            for block, *sides in shuffle.by_block(iter(batches))
        ]
        assert found == [(4, [0, 1], []), (7, [2, 4], [3]), (9, [], [5, 6, 7])]


def test_keys_lead_to_all_partitions_and_spread_the_work(rng):
    one = np.ones(PARTS, np.int64)
    work = rng.random(PARTS)
    plan = shuffle.Blocks.balanced(one, one, work, CLUSTER)
    assert plan.partitions == CLUSTER.most_partitions
    partition = CLUSTER.hashes[plan.keys] % plan.partitions
    loads = np.bincount(partition, work, minlength=plan.partitions)
    assert (loads > 0).all()
    assert loads.max() <= max(work.sum() / plan.partitions + work.max(), work.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_are_packed_without_loss(rng, dtype):
    vectors = pytest.importorskip("lshjoin.spark.vectors")
    integers = rng.integers(-2_000, 2_000, (5, 6)).astype(dtype)
    singles = rng.standard_normal((7, 6)).astype(np.float32).astype(dtype)
    whole = rng.standard_normal((3, 6)).astype(dtype)
    extremes = np.array([[0, -0.0, np.finfo(dtype).max, np.finfo(dtype).tiny, 1e5, 1]], dtype)
    parts = [integers, singles, whole, extremes]
    columns = [vectors.packed(part) for part in parts]
    size = np.dtype(dtype).itemsize
    assert [len(column[0].as_py()) // 6 for column in columns] == [2, 4, size, size]
    columns[1] = columns[1].slice(2)
    parts[1] = singles[2:]
    back = vectors.unpacked(pa.chunked_array(columns), 6, size)
    assert back.dtype == dtype
    assert back.tobytes() == np.concatenate(parts).tobytes()
    assert vectors.unpacked(pa.chunked_array([], pa.binary()), 6, size).shape == (0, 6)
