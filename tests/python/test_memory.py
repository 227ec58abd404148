"""Too much for the memory there is: a MemoryError with a way out, never the end of the process.

Each case is a program of its own, which forks for each of many limits: with less or more to spare,
a call answers or raises, wherever it is when memory ends.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lshjoin import Index, knn_join, pieces, radius_join_batches
from lshjoin.frames import open_frame

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")

#: Mebibytes beyond what the process has when a call begins.
SPARE = (0, 20, 40, 60, 80, 100, 140, 180, 220, 280, 340, 500, 700)

PROGRAM = """
import os, resource, signal, sys, zlib
from pathlib import Path
import numpy as np
import lshjoin
from lshjoin import *

rng = np.random.default_rng(0)
x = rng.standard_normal((8000, 64)).astype("f4")
{prepare}

def call():
    return {call}

def arrays(found):
    if isinstance(found, np.ndarray):
        return [found]
    return [part for each in found for part in arrays(each)] if isinstance(found, tuple) else []

for spare in {spare}:
    sys.stdout.flush()
    child = os.fork()
    if not child:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (spare << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(120)
        try:
            found = call()
            print("ok", [zlib.crc32(array) for array in arrays(found)])
        except BaseException as error:
            print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        print("ended by", status)
"""


def outcomes(call, prepare=""):
    program = PROGRAM.format(prepare=prepare, call=call, spare=SPARE)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == len(SPARE)
    kinds = {line.split()[0] for line in lines}
    assert kinds <= {"ok", "MemoryError", "RuntimeError"}, lines
    assert all("starts no further thread" in line for line in lines if "RuntimeError" in line)
    assert len({line for line in lines if line.startswith("ok")}) <= 1, (
        "the answer depends on memory"
    )
    return lines


ITEMS = "index = Index.build(x, num_threads=2)"
FRAME = """
import pyarrow as pa
table = pa.table({"x": list(x[:1500])})
model = RandomHyperplaneLSH(inputCol="x", outputCol="h").fit(table)
"""


@linux
@pytest.mark.parametrize(
    ("call", "prepare", "way_out"),
    [
        ("radius_join(items=x[:4000] * 0, radius=1)", "", "radius_join_batches"),
        ("radius_join(items=x[:3000], radius=1e9, metric='manhattan')", "", "radius_join_batches"),
        ("radius_join(items=x[:4000].astype('f8'), radius=2, metric='cosine')", "", "_batches"),
        ("knn_join(items=x[:4000], k=3999)", "", "fewer neighbours"),
        ("knn_join(items=x, k=900, recall=1.0)", "", "fewer neighbours"),
        ("knn_join(x[:4000], x, 900, metric='inner_product')", "", "fewer neighbours"),
        ("knn_join(items=np.repeat(x[:4000], 2, axis=0), k=1000, recall=0.9)", "", "fewer"),
        ("index.knn(x[:2000], 3000, recall=1.0)", ITEMS, "fewer queries"),
        ("index.radius(x[:2000], 1e9)", ITEMS, "fewer queries"),
        ("model.approxSimilarityJoin(table, table, 3.0) and ()", FRAME, "in parts"),
        ("model.approxNearestNeighborsJoin(table, table, 1500) and ()", FRAME, "in parts"),
        (
            "RandomHyperplaneLSH(inputCol='x', numHashTables=1 << 20).fit(table) and ()",
            FRAME,
            "fewer hash tables",
        ),
    ],
)
def test_too_large_a_result_is_a_memory_error(call, prepare, way_out):
    lines = outcomes(call, prepare)
    assert way_out in lines[0]
    assert all(line.startswith("MemoryError") for line in lines[:2])


@linux
@pytest.mark.parametrize(
    ("call", "prepare"),
    [
        ("knn_join(items=x, k=30, plan=plan)", "plan = JoinPlan.cells(cells=90, probes=9)"),
        (
            "knn_join(items=x, k=30, plan=plan)",
            "plan = JoinPlan.lsh(axes=20, functions=8, tables=3, probes=3, rounds=1)",
        ),
        (
            "knn_join(items=x, k=30, plan=plan)",
            "plan = JoinPlan.partitions(axes=20, cells=90, probes=9)",
        ),
        ("plan_knn_join(items=big, k=30, recall=0.8) and ()", "big = np.repeat(x, 8, axis=0)"),
        ("Index.build(big) and ()", "big = np.repeat(x, 8, axis=0)"),
        ("index.add(x + 1, ids=np.arange(8000) + 8000)", ITEMS),
        (
            "sum(map(len, radius_join_batches(items=x[:3000] * 0, radius=1, batch_size=1 << 22)))",
            "",
        ),
        (
            "knn_join_files(Path('x.npy'), k=30, out='pairs.parquet') and ()",
            "import tempfile; os.chdir(tempfile.mkdtemp()); np.save('x.npy', x); "
            "import pyarrow.parquet",
        ),
    ],
)
def test_wherever_memory_ends_a_call_answers_or_raises(call, prepare):
    assert outcomes(call, prepare)[-1].startswith("ok")


def test_numbers_beyond_any_memory_are_refused(rng):
    items = rng.standard_normal((50, 3)).astype(np.float32)
    index = Index.build(items)
    for call in (
        lambda: knn_join(items=items, k=1 << 60),
        lambda: knn_join(items, items, 1 << 60, metric="inner_product"),
        lambda: index.knn(items, 1 << 60),
    ):
        with pytest.raises(MemoryError, match="there is no memory for .* bytes of .*: .*fewer"):
            call()
    assert radius_join_batches(items=items, radius=9, batch_size=1 << 60).read_all().num_rows > 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan", "inner_product"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lists_of_nearly_all_items(rng, metric, dtype):
    """From half of the items on, these are sorted, and not merged into lists."""
    items = rng.standard_normal((301, 5)).astype(dtype)
    items[7] = items[100] = items[200]
    queries = rng.standard_normal((40, 5)).astype(dtype)
    whole = knn_join(queries, items, 301, metric=metric)
    own = knn_join(items=items, k=305, metric=metric)
    assert (own.indices[:, :300] >= 0).all()
    assert (own.indices[:, 300:] == -1).all()
    assert all(len({*row}) == 300 and at not in row for at, row in enumerate(own.indices[:, :300]))
    for k in (1, 70, 149, 150, 151, 300):
        np.testing.assert_array_equal(
            knn_join(queries, items, k, metric=metric), [part[:, :k] for part in whole]
        )
        np.testing.assert_array_equal(
            knn_join(items=items, k=k, metric=metric), [part[:, :k] for part in own]
        )
    index = Index.build(items.astype(np.float32), ids=np.arange(301), metric=metric)
    single = knn_join(queries.astype(np.float32), items.astype(np.float32), 301, metric=metric)
    np.testing.assert_array_equal(index.knn(queries.astype(np.float32), 301), single)


@linux
def test_no_more_threads_are_started_than_the_machine_has_use_for():
    """In a program of its own: 100,000 threads would take all day."""
    program = """
import os, numpy as np
from pathlib import Path
from lshjoin import knn_join, radius_join_batches
items = np.random.default_rng(0).standard_normal((3000, 8)).astype("f4")
batches = radius_join_batches(items=items, radius=9, batch_size=1000, num_threads=100_000)
batches.read_next_batch()
print(len(list(Path("/proc/self/task").iterdir())), os.cpu_count())
assert (knn_join(items=items, k=3, num_threads=10**30).indices >= 0).all()
"""
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True
    ).stdout
    threads, cores = map(int, printed.split())
    assert threads <= 6 * cores + 8  # NumPy and Arrow have some too


def long_texts():
    """Columns with strings of some kilobytes a row, in every way that Arrow has for them."""
    import pyarrow as pa

    texts = [
        "" if row % 3 == 0 else None if row % 7 == 0 else "t" * (row * 50) for row in range(60)
    ]
    whole = pa.array(texts)
    nested = [[text, text] for text in texts]
    return {
        "text": pa.chunked_array([whole[:13], whole[13:]]),
        "large": whole.cast(pa.large_string()),
        "bytes": whole.cast(pa.binary()),
        "sliced": pa.array([None, "before", *texts, "after"])[2:-1],
        "list": pa.array([[1.0] * row for row in range(60)]),
        "lists": pa.array([None, *nested])[1:],
        "pair": pa.array([None, *nested], pa.list_(pa.string(), 2))[1:],
        "struct": pa.array([{"number": 1, "text": text} for text in texts]),
        "map": pa.array([[("key", text)] for text in texts], pa.map_(pa.string(), pa.string())),
        "words": pa.array(texts).dictionary_encode(),
        "number": pa.array(range(60)),
    }


def test_pieces_are_cut_by_bytes(rng, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    monkeypatch.setattr(pieces, "PIECE", 4000)
    rows = rng.integers(0, 60, 500)
    for name, column in long_texts().items():
        taken = pieces.taken(column, rows)
        assert taken.to_pylist() == column.take(pa.array(rows)).to_pylist(), name
        assert (taken.num_chunks == 1) == (name in ("words", "number")), name
        longest = max(pa.array([row], taken.type).nbytes for row in column.to_pylist())
        if name != "words":
            assert max(chunk.nbytes for chunk in taken.chunks) <= 4000 + 2 * longest + 4096, name
    assert pieces.taken(pa.array(["a"]), rows[:0]).to_pylist() == []


@pytest.mark.parametrize("library", ["pyarrow", "pandas"])
def test_frames_take_rows_in_pieces(rng, monkeypatch, library):
    pa = pytest.importorskip("pyarrow")
    monkeypatch.setattr(pieces, "PIECE", 4000)
    table = pa.table(long_texts())
    rows = rng.integers(0, 60, 500)
    if library == "pyarrow":
        taken = open_frame(table).take(rows).data
    else:
        pd = pytest.importorskip("pandas")
        data = table.drop_columns("words").to_pandas(types_mapper=pd.ArrowDtype)
        taken = pa.Table.from_pandas(open_frame(data).take(rows).data, preserve_index=False)
        table = table.drop_columns("words")
    assert taken.to_pylist() == table.take(pa.array(rows)).to_pylist()


@linux
def test_more_than_two_gigabytes_of_text():
    pa = pytest.importorskip("pyarrow")
    if int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) < 6 << 20:
        pytest.skip("no memory for it")
    frame = open_frame(pa.table({"text": ["t" * 9000, "u"]}))
    taken = frame.take(np.zeros(250_000, np.int64)).data
    assert taken.num_rows == 250_000
    assert taken.column("text")[249_999].as_py() == "t" * 9000
