"""radius_join_batches: the pairs of radius_join, in a stream that may end at any time."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from lshjoin import radius_join, radius_join_batches

THREADS = Path("/proc/self/task")


def as_table(neighbors, wide):
    """What radius_join gives, by query and item."""
    lims, distances, indices = neighbors
    queries = np.repeat(np.arange(len(lims) - 1), np.diff(lims))
    order = np.lexsort((indices, queries))
    columns = {"query": queries, "item": indices, "distance": distances.astype(wide)}
    return {name: column[order].tolist() for name, column in columns.items()}


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
@pytest.mark.parametrize("self_join", [False, True])
def test_the_pairs_are_those_of_radius_join(rng, metric, dtype, self_join):
    rows = (4 * rng.standard_normal((900, 6))).astype(dtype)
    queries, items = (None if self_join else rows[:200]), rows[200:]
    radius = {"euclidean": 5.0, "manhattan": 10.0, "cosine": 0.2}[metric]
    expected = radius_join(queries, items, radius, metric=metric)
    assert len(expected.indices) > 1000
    reader = radius_join_batches(queries, items, radius, metric=metric, batch_size=300)
    wide = expected.distances.dtype
    assert [(field.name, field.type, field.nullable) for field in reader.schema] == [
        ("query", pa.int64(), False),
        ("item", pa.int64(), False),
        ("distance", pa.from_numpy_dtype(wide), False),
    ]
    table = reader.read_all()
    table.validate(full=True)
    assert {len(batch) for batch in table.to_batches()[:-1]} == {300}
    in_order = table.sort_by([("query", "ascending"), ("item", "ascending")])
    assert in_order.to_pydict() == as_table(expected, wide)


def test_brute_force(rng):
    # Integers, so that distances are exact.
    queries, items = rng.integers(0, 9, (70, 3)), rng.integers(0, 9, (3000, 3))
    truth = ((queries[:, None] - items[None]) ** 2).sum(-1)
    table = radius_join_batches(queries, items, 3.0).read_all()
    pairs = zip(table["query"].to_pylist(), table["item"].to_pylist(), strict=True)
    found = dict(zip(pairs, table["distance"].to_pylist(), strict=True))
    assert len(found) == len(table)
    assert set(found) == {(q, i) for q, i in np.argwhere(truth < 9).tolist()}
    assert all(distance == np.sqrt(truth[pair]) for pair, distance in found.items())


def test_threads_do_not_change_batches(rng):
    rows = rng.standard_normal((5_000, 4)).astype(np.float32)

    def batches(num_threads):
        options = {"batch_size": 999, "num_threads": num_threads}
        return list(radius_join_batches(items=rows, radius=0.5, **options))

    alone = batches(1)
    assert len(alone) > 10
    assert batches(2) == batches(5) == alone


def test_no_pairs(rng):
    rows = rng.standard_normal((10, 4))
    for items in (rows, rows[:1], rows[:0]):
        table = radius_join_batches(items=items, radius=0.0).read_all()
        assert (len(table), table.column_names) == (0, ["query", "item", "distance"])


def endless(**options):
    """10**12 pairs at distance 0."""
    items = np.ones((1_000_000, 4), np.float32)
    return radius_join_batches(items=items, radius=1.0, batch_size=10_000, **options)


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def threads():
    """By number, not how many: those of the test before may be about to end."""
    return {task.name for task in THREADS.iterdir()}


@pytest.mark.skipif(not THREADS.exists(), reason="no /proc to count threads in")
@pytest.mark.parametrize("read", [0, 1, 5])
def test_dropping_the_reader_ends_the_threads(read):
    before = threads()
    reader = endless(num_threads=3)
    for _ in range(read):
        assert reader.read_next_batch().num_rows == 10_000
    started = threads() - before
    assert started
    del reader
    wait_until(lambda: not threads() & started)


@pytest.mark.skipif(not THREADS.exists(), reason="no /proc to count threads in")
def test_an_error_of_the_progress_function_ends_the_join():
    before = threads()

    def progress(done, total):
        raise LookupError("from the callback")

    # Nothing is near: the first batch would be the last.
    rows = np.arange(400_000, dtype=np.float32)[:, None]
    reader = radius_join_batches(items=rows, radius=0.5, progress=progress, num_threads=1)
    with pytest.raises(LookupError, match="from the callback"):
        reader.read_next_batch()
    wait_until(lambda: threads() <= before)
    with pytest.raises(StopIteration):
        reader.read_next_batch()


def test_an_error_of_the_join_comes_with_the_first_batch():
    items = np.ones((100, 3))
    items[57, 1] = np.nan
    reader = radius_join_batches(items=items, radius=1.0)
    with pytest.raises(ValueError, match=r"row 57 of items holds NaN at dimension 1"):
        reader.read_all()


def test_progress_is_told(rng):
    rows = rng.standard_normal((20_000, 16)).astype(np.float32)
    told = []
    reader = radius_join_batches(items=rows, radius=1.0, progress=lambda *told_: told.append(told_))
    reader.read_all()
    assert all(0 <= done <= total for done, total in told)
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > 0


def test_read_in_another_thread():
    reader = endless()
    lengths = []
    thread = threading.Thread(target=lambda: lengths.append(len(reader.read_next_batch())))
    thread.start()
    thread.join()
    assert lengths == [10_000]


def run(script):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_interpreter_may_end_before_the_stream():
    script = """
        import numpy as np, lshjoin
        items = np.ones((1_000_000, 4), np.float32)
        readers = [lshjoin.radius_join_batches(items=items, radius=1.0) for _ in range(3)]
        print(readers[0].read_next_batch().num_rows)
    """
    result = run(script)
    assert (result.stdout, result.stderr, result.returncode) == ("1048576\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_may_end_but_not_read():
    script = """
        import os, numpy as np, lshjoin
        items = np.ones((1_000_000, 4), np.float32)
        reader = lshjoin.radius_join_batches(items=items, radius=1.0)
        reader.read_next_batch()
        child = os.fork()
        if child:
            print(os.waitpid(child, 0)[1], reader.read_next_batch().num_rows)
        else:
            reader.read_next_batch()
    """
    result = run(script)
    assert (result.stdout, result.returncode) == ("256 1048576\n", 0)
    assert "RuntimeError: these batches are the parent process's to read" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc")
@pytest.mark.parametrize("pause", [0, 0.02])
def test_memory_does_not_grow_with_the_pairs(pause):
    """26 million pairs, which are 520 MB in columns; read fast, and slower than they are made."""
    script = f"""
        import time, numpy as np, lshjoin
        def peak():
            with open("/proc/self/status") as status:
                return int(next(line for line in status if "VmHWM" in line).split()[1]) << 10
        rows = np.ones((5_100, 4), np.float32)
        def stream(rows):
            pairs = 0
            for batch in lshjoin.radius_join_batches(items=rows, radius=1.0, num_threads=2):
                pairs += batch.num_rows
                time.sleep({pause})
            return pairs
        assert stream(rows[:100]) == 9900  # all libraries are loaded
        before = peak()
        assert stream(rows) == 5_100 * 5_099
        print(peak() - before)
    """
    result = run(script)
    assert result.stderr == ""
    assert int(result.stdout) < 400e6
