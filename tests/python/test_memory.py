"""Too much for the memory there is: a MemoryError with a way out, never the end of the process.

Calls are made in processes of their own, forked for each of some limits: with less or more to
spare, a call answers or raises, wherever it is when memory ends.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lshjoin import (
    BucketedRandomProjectionLSH,
    Index,
    ManhattanProjectionLSH,
    RandomHyperplaneLSH,
    knn_join,
    radius_join_batches,
)
from lshjoin.base import columns
from lshjoin.frames.adapters import open_frame

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")

ESTIMATORS = [BucketedRandomProjectionLSH, ManhattanProjectionLSH, RandomHyperplaneLSH]

#: Mebibytes beyond what a process has when the call begins, the last enough for an answer. (The C
#: library may set 64 aside for each thread, so that less than twice as many tell little.)
SPARE = (0, 40, 70, 110, 170, 1000)
TOO_LITTLE = SPARE[:-1]

PROGRAM = """
import json, mmap, os, resource, signal, sys, tempfile, zlib
from pathlib import Path
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import lshjoin

x = np.random.default_rng(0).standard_normal((4000, 32)).astype("f4")

def numbers(found):
    if isinstance(found, np.ndarray):
        return [zlib.crc32(found)]
    return [n for each in found for n in numbers(each)] if isinstance(found, tuple) else []

def forked(work):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            sys.stdout.flush()
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        print("ended by", status)

def within(spare, call, names):
    call = compile(call, "call", "eval")  # which may not say that there is no memory for it
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (spare << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(120)
    try:
        print("ok", numbers(eval(call, names)))
    except BaseException as error:
        print(type(error).__name__, error)

def case(prepare, call, spares):
    names = dict(vars(lshjoin), x=x, np=np, pa=pa, os=os, tempfile=tempfile)
    exec(prepare, names)
    for spare in spares:
        forked(lambda: within(spare, call, names))

for prepare, call, spares in json.loads(sys.argv[1]):
    print("case")
    forked(lambda: case(prepare, call, spares))
"""

INDEX = "index = Index.build(x)"
FRAME = """
table = pa.table({"x": list(x[:800])})
model = RandomHyperplaneLSH(inputCol="x", outputCol="h").fit(table)
"""

#: What prepares a call, the call, and what is said of a way out.
TOO_LARGE = [
    ("x = x[:2500] * 0", "radius_join(items=x, radius=1)", "radius_join_batches"),
    ("x = x[:2000]", "radius_join(items=x, radius=1e9, metric='manhattan')", "_batches"),
    ("x = x[:2000].astype('f8')", "radius_join(items=x, radius=3, metric='cosine')", "_batches"),
    ("", "knn_join(items=x, k=3999)", "fewer neighbours"),
    ("", "knn_join(items=x, k=900, recall=1.0)", "fewer neighbours"),
    ("", "knn_join(x, x, 900, metric='inner_product')", "fewer neighbours"),
    ("x = np.repeat(x, 2, axis=0)", "knn_join(items=x, k=700, recall=0.9)", "fewer neighbours"),
    (INDEX, "index.knn(x, 2500, recall=1.0)", "fewer queries"),
    (INDEX, "index.radius(x[:2000], 1e9)", "fewer queries"),
    (FRAME, "model.approxSimilarityJoin(table, table, 3.0) and ()", "in parts"),
    (
        FRAME,
        "model.approxNearestNeighborsJoin(table, table, 800) and ()",
        "fewer neighbours|in parts",
    ),
    (
        "table = pa.table({'x': list(x[:2000])})",
        "join(table, on='x', radius=1e9) and ()",
        "radius_join_batches",
    ),
    (
        "table = pa.table({'s': [[0, row % 3] for row in range(3000)]});"
        "model = MinHashLSH(inputCol='s', outputCol='h').fit(table)",
        "model.approxSimilarityJoin(table, table, 1.0) and ()",
        "in parts",
    ),
    (
        FRAME,
        "RandomHyperplaneLSH(inputCol='x', numHashTables=200_000).fit(table) and ()",
        "fewer hash tables",
    ),
]

#: What has an answer where there is enough memory.
LARGE = [
    ("plan = JoinPlan.ivf(lists=60, probes=9)", "knn_join(items=x, k=30, plan=plan)"),
    (
        "plan = JoinPlan.lsh(axes=20, functions=8, tables=3, probes=3, rounds=1)",
        "knn_join(items=x, k=30, plan=plan)",
    ),
    (
        "plan = JoinPlan.partitions(lists=60, probes=9)",
        "knn_join(items=x, k=30, plan=plan)",
    ),
    ("x = np.repeat(x, 8, axis=0)", "plan_knn_join(items=x, k=30, recall=0.8) and ()"),
    ("x = np.repeat(x, 8, axis=0)", "Index.build(x) and ()"),
    (INDEX, "index.add(x + 1, ids=np.arange(4000) + 4000)"),
    (
        "path = tempfile.mkdtemp() + '/index'; Index.build(x).save(path)",
        "Index.load(path, mmap=False).knn(x, 3)",
    ),
    (
        "x = x[:1500] * 0",
        "sum(map(len, radius_join_batches(items=x, radius=1, batch_size=1 << 20)))",
    ),
    (
        "os.chdir(tempfile.mkdtemp()); np.save('x.npy', x)",
        "knn_join_files(items='x.npy', k=30, out=tempfile.mkdtemp() + '/pairs.parquet') and ()",
    ),
]


@pytest.fixture(scope="module")
def outcomes():
    """For each case a line for each limit, which says what came of it."""
    pytest.importorskip("pyarrow")
    cases = [(prepare, call, TOO_LITTLE) for prepare, call, _ in TOO_LARGE]
    cases += [(prepare, call, SPARE) for prepare, call in LARGE]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(cases)],
        # Others set address space aside before it is asked for.
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    _, *found = ended.stdout.split("case\n")
    return {case[:2]: lines.splitlines() for case, lines in zip(cases, found, strict=True)}


def check(lines, spares):
    assert len(lines) == len(spares), lines
    assert {line.split()[0] for line in lines} <= {"ok", "MemoryError", "ArrowMemoryError"}, lines
    answers = {line for line in lines if line.startswith("ok")}
    assert len(answers) <= 1, "the answer depends on memory"


@linux
@pytest.mark.parametrize(("prepare", "call", "way_out"), TOO_LARGE)
def test_too_large_a_result_is_a_memory_error(outcomes, prepare, call, way_out):
    lines = outcomes[prepare, call]
    check(lines, TOO_LITTLE)
    said = re.compile(f"MemoryError.*({way_out})")
    assert any(map(said.match, lines)), lines


@linux
@pytest.mark.parametrize(("prepare", "call"), LARGE)
def test_wherever_memory_ends_a_call_answers_or_raises(outcomes, prepare, call):
    lines = outcomes[prepare, call]
    check(lines, SPARE)
    assert lines[-1].startswith("ok"), lines


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


@linux
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", ["numHashTables", "numHashFunctions"])
def test_more_hash_functions_than_memory_holds(estimator, name):
    pa = pytest.importorskip("pyarrow")
    lsh = estimator(inputCol="x", outputCol="h", **{name: 2**31 - 1})
    if hasattr(lsh, "setBucketLength"):
        lsh.setBucketLength(1.0)
    with pytest.raises(MemoryError, match="of hash functions: fit a model of fewer"):
        lsh.fit(pa.table({"x": [[1.0, 2.0]]}))


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
    monkeypatch.setattr(columns, "PIECE", 4000)
    rows = rng.integers(0, 60, 500)
    for name, column in long_texts().items():
        taken = columns.taken(column, rows)
        assert taken.to_pylist() == column.take(pa.array(rows)).to_pylist(), name
        assert (taken.num_chunks == 1) == (name in ("words", "number")), name
        longest = max(pa.array([row], taken.type).nbytes for row in column.to_pylist())
        if name != "words":
            assert max(chunk.nbytes for chunk in taken.chunks) <= 4000 + 2 * longest + 4096, name
    assert columns.taken(pa.array(["a"]), rows[:0]).to_pylist() == []


@pytest.mark.parametrize("library", ["pyarrow", "pandas"])
def test_frames_take_rows_in_pieces(rng, monkeypatch, library):
    pa = pytest.importorskip("pyarrow")
    monkeypatch.setattr(columns, "PIECE", 4000)
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
