"""Long work: other threads run, Ctrl-C ends it, progress is told, threads do not change answers."""

import contextlib
import importlib
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading

import lshjoin
import numpy as np
import pytest
from frames import make_frame, rows_of
from lshjoin import BucketedRandomProjectionLSH, knn_join, radius_join


def test_threads_do_not_change_answers(rng):
    rows = rng.standard_normal((700, 8)).astype(np.float32)
    frame = make_frame("polars", rows)
    lsh = BucketedRandomProjectionLSH(
        inputCol="features", outputCol="h", bucketLength=2.0, numHashTables=3, numHashFunctions=2
    )

    def everything(num_threads):
        model = lsh.fit(frame, num_threads=num_threads)
        arrays = [
            *knn_join(items=rows, k=4, num_threads=num_threads),
            *knn_join(rows[:50], rows, 4, num_threads=num_threads),
            *radius_join(items=rows, radius=2.0, num_threads=num_threads),
        ]
        frames = [
            model.transform(frame, num_threads=num_threads),
            model.approxSimilarityJoin(frame, frame, 1.5, num_threads=num_threads),
            model.approxNearestNeighbors(frame, rows[0], 5, num_threads=num_threads),
            model.approxNearestNeighborsJoin(frame, frame, 3, num_threads=num_threads),
        ]
        return [array.tobytes() for array in arrays], [rows_of(frame) for frame in frames]

    alone = everything(1)
    assert all(alone[0])
    assert all(alone[1])
    for num_threads in (2, 5, None):
        assert everything(num_threads) == alone


def test_other_threads_run_meanwhile():
    rows = np.random.default_rng(0).standard_normal((30_000, 64)).astype(np.float32)
    started, done = threading.Event(), threading.Event()
    ticks = 0

    def tick():
        nonlocal ticks
        started.set()
        while not done.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    started.wait()
    # The calling thread counts whenever it is back in Python, some 50 ms apart. Were the GIL held
    # in between, the other thread could take a turn only then.
    during = [ticks]

    def count(*_):
        during.append(ticks)
        if len(during) == 6:
            raise StopIteration

    with contextlib.suppress(StopIteration):
        knn_join(items=rows, k=10, num_threads=1, progress=count)
    done.set()
    thread.join()
    assert during[-1] - during[0] > 4 * len(during)


@pytest.mark.parametrize(
    "call",
    [
        "lshjoin.knn_join(items=rows, k=10, num_threads=1)",
        "lshjoin.radius_join(items=rows, radius=6.0, num_threads=1)",
        "lshjoin.radius_join_batches(items=rows, radius=6.0, num_threads=1).read_all()",
        "model.approxSimilarityJoin(frame, frame, 1.0, num_threads=1)",
        "model.approxNearestNeighborsJoin(frame, frame, 10, num_threads=1)",
    ],
)
def test_ctrl_c(call):
    script = f"""
        import numpy as np, pyarrow as pa, lshjoin
        # 40 billion pairs: many seconds of work for one core.
        rows = np.random.default_rng(0).standard_normal((200_000, 64)).astype(np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(rows.ravel(), 64)
        frame = pa.table({{"features": vectors}})
        # One bucket holds everything: all pairs are candidates, in every table.
        model = lshjoin.BucketedRandomProjectionLSH(
            inputCol="features", bucketLength=1e6, numHashTables=4
        ).fit(frame)
        print("ready", flush=True)
        try:
            {call}
            print("finished", flush=True)
        except KeyboardInterrupt:
            # The interpreter lives on, and so does the engine.
            print("interrupted", lshjoin.knn_join(items=rows[:3], k=1).indices.shape, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)  # let it get into the call
        os.kill(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert output == "interrupted (3, 1)\n"
    assert process.returncode == 0


def test_progress_is_told(rng):
    rows = rng.standard_normal((1_000, 32)).astype(np.float32)
    frame = make_frame("pyarrow", rows)
    told = []

    def progress(done, total):
        told.append((done, total))

    lsh = BucketedRandomProjectionLSH(inputCol="features", bucketLength=3.0, numHashTables=2)
    model = lsh.fit(frame)
    calls = [
        lambda: knn_join(items=rows, k=5, progress=progress),
        lambda: radius_join(rows[:100], rows, 1.0, progress=progress),
        lambda: lsh.fit(frame, progress=progress),
        lambda: model.transform(frame, progress=progress),
        lambda: model.approxSimilarityJoin(frame, frame, 1.0, progress=progress),
        lambda: model.approxNearestNeighbors(frame, rows[0], 1, progress=progress),
        lambda: model.approxNearestNeighborsJoin(frame, frame, 1, progress=progress),
    ]
    for call in calls:
        told.clear()
        call()
        assert told, "not called once"
        assert all(0 <= done <= total for done, total in told)
        assert told[-1][0] == told[-1][1] > 0
        assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_errors_of_the_progress_function_come_through(rng):
    rows = rng.standard_normal((500, 8))

    def progress(done, total):
        raise LookupError("from the callback")

    with pytest.raises(LookupError, match="from the callback"):
        knn_join(items=rows, k=5, progress=progress)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_only_when_asked_or_on_terminals(rng, monkeypatch):
    rows = rng.standard_normal((100, 8))
    for stream, progress, shown in (
        (io.StringIO(), None, False),
        (io.StringIO(), True, True),
        (Terminal(), True, True),
        (Terminal(), False, False),
        (Terminal(), None, False),  # done before the bar would have come up
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        knn_join(items=rows, k=2, progress=progress)
        assert ("knn_join" in stream.getvalue()) is shown


def test_bar_comes_up_on_terminals_when_it_takes_long(monkeypatch):
    progress = importlib.import_module("lshjoin.base.progress")
    monkeypatch.setattr(progress, "_DELAY_SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.reporter(None, "some work") as report:
        report(1, 4)
        report(4, 4)
    assert "some work" in sys.stderr.getvalue()
    assert "100%" in sys.stderr.getvalue()


def test_without_tqdm(rng, monkeypatch):
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    rows = rng.standard_normal((10, 2))
    with pytest.raises(ImportError, match=r"progress=True needs tqdm: pip install"):
        knn_join(items=rows, k=1, progress=True)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert knn_join(items=rows, k=1).indices.shape == (10, 1)


def test_progress_of_another_type(rng):
    with pytest.raises(TypeError, match="progress must be True, False, None or a function"):
        knn_join(items=rng.standard_normal((10, 2)), k=1, progress="yes")


def run(*arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_libraries_that_are_not_in_use_are_not_imported():
    script = """
        import sys, numpy as np, lshjoin
        lshjoin.knn_join(items=np.eye(3), k=1)
        print([name for name in ("pandas", "polars", "pyarrow", "tqdm") if name in sys.modules])
    """
    result = run("-c", textwrap.dedent(script))
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_files_are_read_without_pandas(tmp_path):
    (tmp_path / "pandas.py").write_text("raise ModuleNotFoundError('there is no pandas')")
    script = """
        import pyarrow as pa, pyarrow.parquet as pq, lshjoin
        pq.write_table(pa.table({"id": ["a", "b"], "v": [[0.0, 1.0], [0.0, 3.0]]}), "v.parquet")
        for out in ("o.parquet", "o.arrow", "o.csv", "o.npz"):
            print(lshjoin.knn_join_files("v.parquet", k=1, id_column="id", out=out).pairs)
    """
    result = run("-c", textwrap.dedent(script), cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("2\n" * 4, "")


def test_what_is_public_is_what_dir_shows():
    assert dir(lshjoin) == sorted(lshjoin.__all__)
    assert all(hasattr(lshjoin, name) for name in dir(lshjoin))
    assert {"build_index", "dedup_files", "open_dataset", "query_index"} < set(dir(lshjoin))


def test_command_line():
    result = run("-m", "lshjoin", "--version")
    features = lshjoin.cpu_features()
    assert "scalar" in features
    assert result.stdout.startswith(f"lshjoin {lshjoin.__version__}, running on ")
    assert ", ".join(features) in result.stdout.replace("\n", " ")
    assert run("-m", "lshjoin", "--version", LSHJOIN_ISA="scalar").stdout.startswith(
        f"lshjoin {lshjoin.__version__}, running on scalar "
    )
    assert "--version" in run("-m", "lshjoin").stdout


def test_an_instruction_set_that_is_not_here():
    result = run("-c", "import lshjoin; lshjoin.knn_join(items=[[1.0]], k=1)", LSHJOIN_ISA="sparc")
    assert "ValueError: `sparc` is not an instruction set; use one of scalar" in result.stderr


def test_a_fork_has_threads_of_its_own():
    script = """
        import os, numpy as np, lshjoin
        rows = np.eye(50)
        expected = lshjoin.knn_join(items=rows, k=3).indices
        child = os.fork()
        if child == 0:
            os._exit(0 if (lshjoin.knn_join(items=rows, k=3).indices == expected).all() else 1)
        print(os.waitpid(child, 0)[1])
    """
    assert run("-c", textwrap.dedent(script)).stdout == "0\n"
