"""Work directories: whole files or none, one job, one process; nothing else's files deleted."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lshjoin import (
    Index,
    OtherJobError,
    build_index,
    dedup_files,
    knn_join_files,
    query_index,
    radius_join_files,
)
from lshjoin.base.atomic import replacing
from lshjoin.files.job import Job, NewFile
from lshjoin.files.pairs import stored_tables
from lshjoin.files.results import Layout, write_tables

WORK = {"command": "knn", "k": 10, "items": {"files": [{"path": "a", "size": 1}]}}


def test_the_same_work_goes_on(tmp_path):
    first = Job(tmp_path / "work", WORK)
    with replacing(first.path("plan.json")) as file:
        file.write_text("done")
    first.close()
    again = Job(tmp_path / "work", WORK)
    assert again.done("plan.json")
    assert not again.done("index")
    again.finish()
    again.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 5}, "k is 10 there but 5 here"),
        ({"command": "radius"}, 'command is "knn" there but "radius" here'),
        ({"items": {"files": [{"path": "a", "size": 2}]}}, "items files 0 size is 1 there but 2"),
        ({"items": {"files": []}}, "items files is "),
        ({"plan": "exact"}, 'plan is null there but "exact" here'),
    ],
)
def test_other_work_is_refused(change, message, tmp_path):
    Job(tmp_path, WORK).close()
    before = (tmp_path / "manifest.json").read_text()
    with pytest.raises(OtherJobError, match=message):
        Job(tmp_path, WORK | change)
    assert (tmp_path / "manifest.json").read_text() == before
    Job(tmp_path, WORK).close()


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(OtherJobError, match="is not empty and no work directory"):
        Job(tmp_path, WORK)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_others_put_there_stays(tmp_path):
    job = Job(tmp_path, WORK)
    foreign = {"thesis.txt", "pairs-of-socks.parquet", ".unfinished", "plan.json.bak"}
    for name in ("plan.json", "pairs-0-5.parquet", ".plan.json.unfinished", *foreign):
        (tmp_path / name).write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rows").write_text("x")
    (tmp_path / "index").symlink_to(tmp_path / "elsewhere")
    job.finish()
    job.close()
    assert {entry.name for entry in tmp_path.iterdir()} == foreign | {"elsewhere"}
    assert (tmp_path / "elsewhere" / "rows").exists()


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"name": "a web site"}', "[" * 100_000])
def test_another_manifest_is_refused_by_name(text, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(OtherJobError, match=r"manifest\.json is not the manifest of a work dir"):
        Job(tmp_path, WORK)
    assert (tmp_path / "manifest.json").read_text() == text


def test_one_process_at_a_time(tmp_path):
    job = Job(tmp_path, WORK)
    with pytest.raises(BlockingIOError, match="another process is at work in"):
        Job(tmp_path, WORK)
    job.close()
    Job(tmp_path, WORK).close()


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")

    def fail():
        with replacing(path) as file:
            file.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


def test_what_a_crash_left_of_a_write_is_no_result(tmp_path):
    job = Job(tmp_path, WORK)
    writing = replacing(job.path("plan.json"))
    writing.__enter__().write_text("half")
    assert not job.done("plan.json")  # as after a crash here
    job.close()
    again = Job(tmp_path, WORK)
    with replacing(again.path("plan.json")) as file:
        assert not file.exists() or file.read_text() == "half"
        file.write_text("whole")
    assert again.path("plan.json").read_text() == "whole"
    again.finish()
    again.close()
    assert not tmp_path.exists()


@pytest.mark.parametrize("calls", range(7))
def test_what_a_crash_left_of_a_finished_job_is_begun_anew(calls, tmp_path, crash_after):
    """Whichever call was its last: no step is there in part."""
    work = tmp_path / "work"
    job = Job(work, WORK)
    (job.path("index")).mkdir()
    steps = ("index/manifest.json", "index/rows", "plan.json")
    for path in steps:
        job.path(path).write_text("done")
    assert crash_after(calls, job.finish)
    job.close()
    again = Job(work, WORK)
    assert [again.done(name) for name in steps] == [calls == 0] * 3
    again.finish()
    again.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def files(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    rows = rng.standard_normal((300, 4)).astype(np.float32)
    rows[200:250] = rows[:50]
    np.save("items.npy", rows)
    Index.build(rows).save("items.index")


JOBS = {
    "knn": lambda **options: knn_join_files(items="items.npy", k=3, **options),
    "radius": lambda **options: radius_join_files(items="items.npy", radius=0.5, **options),
    "folder": lambda **options: knn_join_files(
        items="items.npy", k=3, nested=True, max_rows_per_file=110, **options
    ),
    "dedup": lambda **options: dedup_files("items.npy", 0.1, **options),
    "against": lambda **options: dedup_files(
        "items.npy", 0.1, against="items.npy", linkage="representative", **options
    ),
    "build": lambda out: build_index("items.npy", out=out),
    "query": lambda out: query_index("items.index", "items.npy", 3, out=out),
}


def answer(out):
    """What a job wrote."""
    if os.path.exists(f"{out}/manifest.json"):
        return list(Index.load(out).knn(np.load("items.npy"), 3)[1].ravel())
    return pq.read_table(out).to_pydict()


@pytest.mark.parametrize("name", JOBS)
def test_a_crash_at_any_change_leaves_a_job_to_go_on_with(name, files, crash_after):
    """The same call ends it, or says that it has ended; and nothing of it stays."""
    job, out = JOBS[name], "out.parquet"
    job(out="whole.parquet")
    expected = answer("whole.parquet")
    before, calls = {*os.listdir()}, 0
    while crash_after(calls, lambda: job(out=out)):
        ended = os.path.exists(out)
        try:
            job(out=out)
        except FileExistsError:
            assert ended
        assert answer(out) == expected, calls
        assert {*os.listdir()} == before | {out}, calls
        shutil.rmtree(out) if os.path.isdir(out) else os.unlink(out)
        calls += 1
    assert calls >= 2


@pytest.mark.parametrize("name", ["knn", "radius", "dedup"])
@pytest.mark.parametrize("inside", ["work.pq", "work.pq/p.pq", "work.pq/deep/p.pq", "link/p.pq"])
def test_a_result_inside_the_work_directory_is_refused(inside, name, files):
    os.symlink("work.pq", "link")
    before = sorted(os.listdir())
    with pytest.raises(ValueError, match="would be deleted with the work directory"):
        JOBS[name](out=inside, work_dir="work.pq")
    assert sorted(os.listdir()) == before
    JOBS[name](out="work.parquet", work_dir="work.pq")
    assert {*os.listdir()} == {*before, "work.parquet"}


def test_a_result_that_appears_meanwhile_is_not_replaced(tmp_path):
    file = NewFile(tmp_path / "deep" / "out")
    file.temporary.write_text("ours")
    (tmp_path / "deep" / "out").write_text("theirs")
    with pytest.raises(FileExistsError, match="out exists already"):
        file.publish()
    file.close()
    assert [path.read_text() for path in (tmp_path / "deep").iterdir()] == ["theirs"]


def test_anothers_result_is_not_taken_for_ones_own(files):
    """Two jobs with work directories of their own, of which one was interrupted."""

    def stop(done, total):
        raise KeyboardInterrupt

    join = partial(radius_join_files, items="items.npy", radius=0.03, out="p.parquet", work_dir="a")
    np.save("items.npy", np.random.default_rng(0).random((100_000, 4), np.float32))
    with pytest.raises(KeyboardInterrupt):
        radius_join_files(
            items="items.npy", radius=0.03, out="p.parquet", work_dir="a", progress=stop
        )
    JOBS["knn"](out="p.parquet", work_dir="b")
    expected = answer("p.parquet")
    with pytest.raises(FileExistsError, match=r"p\.parquet exists already"):
        join()
    assert answer("p.parquet") == expected
    os.unlink("p.parquet")
    found = join()
    assert found.pairs == len(answer("p.parquet")["query"]) > 0
    assert not os.path.exists("a")


HELD = """
    import sys
    from lshjoin import knn_join_files, query_index, radius_join_files
    def hold(done, total):
        global held
        if not held:
            held = True
            print("begun", flush=True)
            sys.stdin.readline()
    held = False
    arguments = {"out": "p.parquet", "progress": hold}
    if sys.argv[1] == "radius":
        radius_join_files(items="items.npy", radius=0.5, work_dir="a", **arguments)
    else:
        query_index("items.index", "items.npy", 3, **arguments)
"""


@pytest.mark.parametrize("name", ["radius", "query"])
def test_two_processes(name, files, tmp_path):
    """On one work directory, and with one result: the second is told, and nothing is lost."""
    if name == "radius":  # long enough for progress to be told
        np.save("items.npy", np.random.default_rng(0).random((60_000, 4), np.float32) * 20)
    first = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HELD), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout.readline() == "begun\n"
    if name == "radius":
        with pytest.raises(BlockingIOError, match="another process is at work in a; wait for it"):
            JOBS["radius"](out="p.parquet", work_dir="a")
    for other in ("knn", "dedup"):
        with pytest.raises(BlockingIOError, match=r"another process is about to write p\.parquet"):
            JOBS[other](out="p.parquet", work_dir="b")
    with pytest.raises(BlockingIOError, match=r"another process is about to write p\.parquet"):
        JOBS["query"](out="p.parquet")
    assert not os.path.exists("b")
    first.communicate("go on\n")
    assert first.returncode == 0
    JOBS[name](out="q.parquet")
    assert pq.read_table("p.parquet").equals(pq.read_table("q.parquet"))
    with pytest.raises(FileExistsError, match=r"p\.parquet exists already"):
        JOBS["query"](out="p.parquet")


def test_a_kill_lets_others_have_the_result(files):
    first = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HELD), "query"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    before = {*os.listdir()}
    assert first.stdout.readline() == "begun\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    JOBS["query"](out="p.parquet")
    assert {*os.listdir()} == before | {"p.parquet"}


def test_a_job_that_was_hardly_begun_is_begun_anew(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / ".manifest.json.unfinished").write_text('{"comm')  # as a crash leaves it
    job = Job(work, WORK)
    assert not job.resumed
    job.finish()
    job.close()
    assert list(tmp_path.iterdir()) == []


# In a process of its own: a page of a map that can't be made would end it with a signal.
FULL = """
    import os, sys
    import pyarrow as pa
    from lshjoin import RandomHyperplaneLSH, build_index, knn_join_files, query_index
    from lshjoin import radius_join_files
    model = RandomHyperplaneLSH(inputCol="x", numHashTables=9000).fit(pa.table({"x": [[1.0] * 64]}))
    calls = {
        "knn.parquet": lambda out: knn_join_files(items="items.npy", k=50, out=out),
        "radius.parquet": lambda out: radius_join_files(items="items.npy", radius=3.0, out=out),
        "query.parquet": lambda out: query_index("items.index", "items.npy", 50, out=out),
        "built": lambda out: build_index("items.npy", out=out),
        "model": model.save,
    }
    for name, call in calls.items():
        try:
            call(os.path.join(sys.argv[1], name))
        except OSError as error:
            print(name, error)
"""


def test_a_full_disk(small_disk, tmp_path, monkeypatch):
    """It is told with the name of what has no room; the same calls go on when there is some."""
    disk, enlarge = small_disk
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).standard_normal((6_000, 16)).astype(np.float32)
    np.save("items.npy", rows)
    Index.build(rows).save("items.index")
    (disk / "others").write_bytes(bytes((3 << 20) - 300_000))

    def run():
        command = [sys.executable, "-c", textwrap.dedent(FULL), str(disk)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    names = {"knn.parquet", "radius.parquet", "query.parquet", "built", "model"}
    told = run().splitlines()
    assert {line.split()[0] for line in told} == names
    for line in told:
        assert str(disk / line.split()[0]) in line
        assert "No space left on device" in line
    left = {"knn.parquet.work", "radius.parquet.work", "built.work", "others"}
    assert {*os.listdir(disk)} == left
    assert enlarge().returncode == 0
    assert run() == ""
    assert {*os.listdir(disk)} == names | {"others"}


def test_no_part_is_damaged_by_a_full_disk(small_disk, tmp_path, rng):
    disk, _ = small_disk
    columns = ("query", "item", "distance")
    table = pa.table({name: rng.random(100_000) for name in columns})
    pq.write_table(table, tmp_path / "part")
    tables = stored_tables([tmp_path / "part"] * 3, table.schema)
    with pytest.raises(OSError, match="No space left on device"):
        write_tables(tables, disk / "pairs", table.schema, Layout("parquet"))
