"""Damaged files, kills, full disks: the old index, the new one or a clear error, never another."""

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from lshjoin import Index, JoinPlan

CORRUPTIONS = 200


@pytest.fixture
def items(rng):
    return rng.standard_normal((400, 12)).astype(np.float32)


@pytest.fixture
def saved(items, tmp_path):
    """The directory of an index that has every array."""
    plan = JoinPlan.partitions(lists=20, probes=1)
    Index.build(items, metric="cosine", plan=plan).save(tmp_path / "index")
    return tmp_path / "index"


def files_of(directory):
    return sorted(file for file in directory.iterdir())


def answers(directory, mmap, queries):
    index = Index.load(directory, mmap=mmap)
    plan = JoinPlan.partitions(lists=20, probes=1, until_recall=0.9)
    found = [*index.knn(queries, 5, recall=1.0), *index.radius(queries, 0.6)]
    for start in (0, 200):
        ids, near = index.knn_of_chunk(range(start, start + 200), 3, plan=JoinPlan.exact())
        found += [ids, *near]
    found += [*index.knn(queries, 3, plan=plan)]
    index.remove([17])
    return [*found, *index.knn(queries, 2, recall=1.0)]


@pytest.mark.parametrize("mmap", [True, False])
def test_corrupted_files_are_refused_by_name_or_harmless(mmap, saved, items, tmp_path):
    expected = answers(saved, mmap, items[:50])
    names = [file.name for file in files_of(saved)]
    assert len(names) == 14
    chosen = random.Random(7)
    damaged, harmless = tmp_path / "damaged", 0
    for number in range(CORRUPTIONS):
        name = names[number % len(names)]
        shutil.copytree(saved, damaged)
        contents = bytearray((damaged / name).read_bytes())
        at = chosen.randrange(len(contents))
        kind = chosen.choice(["bit", "byte", "cut", "cut", "longer"])
        if kind == "bit":
            contents[at] ^= 1 << chosen.randrange(8)
        elif kind == "byte":
            contents[at] ^= chosen.randrange(1, 256)
        elif kind == "cut":
            del contents[chosen.choice([0, 1, 8, at, len(contents) - 1]) :]
        else:
            contents += b"\0"
        (damaged / name).write_bytes(contents)
        try:
            found = answers(damaged, mmap, items[:50])
        except ValueError as error:
            assert name in str(error), (name, kind, at)  # noqa: PT017
        else:
            harmless += 1
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{name} {kind} {at}")
        shutil.rmtree(damaged)
    assert harmless < CORRUPTIONS // 20  # white space in the manifest


def test_large_files_are_checked_where_they_are_read(tmp_path, rng):
    items = rng.standard_normal((40_000, 16)).astype(np.float32)  # 2.5 MB: three chunks
    index = Index.build(items, plan=JoinPlan.partitions(lists=2, probes=1))
    index.save(tmp_path / "index")
    (rows,) = (tmp_path / "index").glob("rows-*")
    with rows.open("r+b") as file:
        file.seek(-3, 2)
        last = file.read(1)
        file.seek(-3, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(ValueError, match=rf"{rows.name}: bytes \d+ to \d+ of its data"):
        Index.load(tmp_path / "index").verify()
    with pytest.raises(ValueError, match=rows.name):
        Index.load(tmp_path / "index", mmap=False)
    damaged = Index.load(tmp_path / "index")
    refused = 0
    for query in range(0, 40_000, 500):
        try:
            found = damaged.knn(items[query : query + 1], 2, recall=1.0)
        except ValueError as error:
            assert rows.name in str(error)  # noqa: PT017
            refused += 1
        else:
            expected = index.knn(items[query : query + 1], 2, recall=1.0)
            np.testing.assert_array_equal(found.indices, expected.indices)
    assert 0 < refused < 80


def edited(directory, **changes):
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_other_versions_and_other_things(saved, tmp_path):
    edited(saved, format_version=3, library_version="9.1.0", new_field=5)
    with pytest.raises(
        ValueError, match=r'manifest\.json: it has format version 3, by lshjoin "9\.1\.0".*upgrade'
    ):
        Index.load(saved)
    edited(saved, format_version=1)
    with pytest.raises(ValueError, match="format version 1, .* reads 2: build the index anew"):
        Index.load(saved)
    edited(saved, format="lshjoin model")
    with pytest.raises(ValueError, match="not the manifest of an lshjoin index"):
        Index.load(saved)
    with pytest.raises(FileNotFoundError, match="nothing"):
        Index.load(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises((ValueError, NotADirectoryError), match="file"):
        Index.load(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder: it is not an lshjoin index"):
        Index.load(tmp_path / "folder")


def test_a_missing_or_foreign_array_is_named(saved, items, tmp_path):
    other = tmp_path / "other"
    plan = JoinPlan.partitions(lists=20, probes=1)
    Index.build(items[::-1], metric="cosine", plan=plan).save(other)
    for name in ("rows", "codes", "ids"):
        (own,) = saved.glob(f"{name}-*")
        (foreign,) = other.glob(f"{name}-*")
        kept = own.read_bytes()
        own.write_bytes(foreign.read_bytes())
        with pytest.raises(ValueError, match=own.name):
            answers(saved, True, items[:5])
        own.unlink()
        with pytest.raises(FileNotFoundError, match=own.name):
            Index.load(saved)
        own.write_bytes(kept)
    answers(saved, True, items[:5])


def test_nothing_else_is_written_over(saved, items, tmp_path):
    index = Index.build(items)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        index.save(tmp_path / "folder")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text('{"name": "a web site"}')
    with pytest.raises(ValueError, match="not the manifest of an lshjoin index"):
        index.save(tmp_path / "site")
    assert [file.name for file in (tmp_path / "site").iterdir()] == ["manifest.json"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        index.save(tmp_path / "file")
    directory = os.open(saved, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError, match="another process is saving an index there"):
        index.save(saved)
    os.close(directory)
    index.save(saved)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "rows-mine.safetensors",
        "rows-latest.safetensors",
        "rows-0123456789abcdef.safetensors",
        "manifest-notes.json",
        "manifest-backup.json",
        "manifest-unfinished.json",
        ".manifest.backup",
        "codes-",
    ],
)
def test_only_what_was_written_here_is_removed(name, there, items, tmp_path):
    """With an index beside it and without, whatever it is called."""
    path = tmp_path / "folder"
    path.mkdir()
    index = Index.build(items)
    if there:
        index.save(path)
    (path / name).write_text("all mine")
    before = sorted(path.iterdir())
    for save in (index.save, lambda path: build_on_disk(path, items)):
        with pytest.raises(ValueError, match=name):
            save(path)
        assert sorted(path.iterdir()) == before
    assert (path / name).read_text() == "all mine"
    (path / name).unlink()
    index.save(path)
    assert len(files_of(path)) == 14


def build_on_disk(path, items, **options):
    def batches(start):
        yield items[start:], np.arange(start, len(items))

    count, dim = items.shape
    return Index.build_on_disk(path, batches, count=count, dim=dim, **options)


def test_arrays_without_their_manifest_stay(saved, items):
    """They may be all that there is of somebody's items."""
    (saved / "manifest.json").unlink()
    before = files_of(saved)
    with pytest.raises(ValueError, match="is of no lshjoin index"):
        Index.build(items).save(saved)
    assert files_of(saved) == before


def test_a_save_that_fails_leaves_another_builds_work(items, tmp_path):
    path = tmp_path / "index"

    def interrupted(first):
        yield items[first:200], np.arange(first, 200)
        if list(path.glob("manifest-unfinished.json")):
            raise KeyboardInterrupt
        yield items[200:], np.arange(200, 400)

    arguments = {"count": 400, "dim": 12, "resume": True}
    with pytest.raises(KeyboardInterrupt) as caught:
        Index.build_on_disk(path, interrupted, **arguments)
    left = files_of(path)
    assert len(left) == 32  # 15 arrays, items in 16 parts, and what tells of them
    with pytest.raises(ValueError, match="id 0 is given twice"):
        Index.build_on_disk(path, lambda _: [(items, np.zeros(400, int))], count=400, dim=12)
    assert files_of(path) == left
    asked = []

    def rest(first):
        asked.append(first)
        yield items[first:], np.arange(first, 400)

    Index.build_on_disk(path, rest, **arguments)
    assert asked == [200]
    assert len(files_of(path)) == 14
    del caught  # whose traceback has not kept the directory


def test_a_damaged_index_is_replaced(saved, items):
    edited(saved, checksum="0")
    with pytest.raises(ValueError, match=r"manifest\.json: it was altered"):
        Index.load(saved)
    Index.build(items).save(saved)
    Index.load(saved).verify()


# Adds items one by one, and removes the item 1000 before, saving after each, from wherever it was.
ADD = """
import sys
import numpy as np
from lshjoin import Index
path, mmap, threads = sys.argv[1], sys.argv[2] == "True", int(sys.argv[3])
items = np.random.default_rng(5).standard_normal((1090, 12)).astype(np.float32)
index = Index.load(path, mmap=mmap)
for item in range(int(index.knn(items[-1:], 1090).indices.max()) + 1, 1090):
    index.add(items[item : item + 1], [item])
    index.remove([item - 1000])
    index.save(path, num_threads=threads)
    index = Index.load(path, mmap=mmap)
"""


def test_killed_while_it_adds_removes_and_saves(tmp_path, kills):
    items = np.random.default_rng(5).standard_normal((1090, 12)).astype(np.float32)
    path = tmp_path / "index"
    Index.build(items[:1000]).save(path)
    chosen, last = random.Random(3), 999
    while last < 1089 and kills.count < kills.of(10):
        arguments = [str(path), str(chosen.random() < 0.5), str(chosen.randrange(1, 4))]
        child = subprocess.Popen([sys.executable, "-c", ADD, *arguments])
        # Longer than it takes to start, so that most kills are amid saves.
        kills.kill(child, 0.5 + chosen.random())
        index = Index.load(path, mmap=chosen.random() < 0.5)
        index.verify()
        ids = index.knn(items[-1:], 1090).indices.ravel()
        assert ids.max() >= last
        last = int(ids.max())
        assert sorted(ids[ids >= 0]) == list(range(last - 999, last + 1))
        expected = Index.build(items[last - 999 : last + 1], ids=np.arange(last - 999, last + 1))
        for a, b in zip(index.knn(items[::50], 3), expected.knn(items[::50], 3), strict=True):
            np.testing.assert_array_equal(a, b)
    index.save(path)
    assert len(files_of(path)) == 14  # what kills left has gone


SAVE = """
import sys
import numpy as np
from lshjoin import Index
index = Index.build(np.random.default_rng(1).standard_normal((20000, 32)).astype(np.float32))
print("built", flush=True)
index.save(sys.argv[1])
"""


def test_killed_in_a_first_save(tmp_path, kills):
    items = np.random.default_rng(1).standard_normal((20000, 32)).astype(np.float32)
    chosen = random.Random(4)
    for number in range(kills.of(8)):
        path = tmp_path / str(number)
        child = subprocess.Popen(
            [sys.executable, "-c", SAVE, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "built\n"
        kills.kill(child, 0.05 * chosen.random())
        if (path / "manifest.json").exists():
            Index.load(path).verify()
        elif path.exists():
            with pytest.raises(ValueError, match="not an lshjoin index"):
                Index.load(path)
        Index.build(items[:10]).save(path)  # over what is left
        assert len(Index.load(path)) == 10
        assert len(files_of(path)) == 14


BUILD = """
import sys, time
import numpy as np
from lshjoin import Index, JoinPlan
items = np.random.default_rng(1).standard_normal((20000, 16)).astype(np.float32)
rows, threads = int(sys.argv[2]), int(sys.argv[3])
def batches(first):
    for start in range(first, 20000, rows):
        time.sleep(rows / 50_000)
        yield items[start : start + rows], np.arange(start, min(start + rows, 20000))
plan = JoinPlan.partitions(lists=200, probes=4)
options = {"plan": plan, "resume": True, "num_threads": threads}
print("begun", flush=True)
Index.build_on_disk(sys.argv[1], batches, count=20000, dim=16, **options)
"""


def test_killed_while_it_builds(tmp_path, kills):
    """And begun again with batches of another size and other threads."""
    path = tmp_path / "index"
    chosen, done = random.Random(6), []
    while True:
        most = kills.count == kills.of(10)
        arguments = [str(path), str(chosen.choice([300, 500, 1700])), str(chosen.randrange(1, 4))]
        child = subprocess.Popen(
            [sys.executable, "-c", BUILD, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "begun\n"
        # Up to as long as all passes take.
        kills.kill(child, None if most else 1.5 * chosen.random())
        if most:
            break
        journal = path / "manifest-unfinished.json"
        state = json.loads(journal.read_text())["build"] if journal.exists() else None
        if state:
            done.append((state["seen"], state["stored"]))
            assert done == sorted(done)  # nothing recorded is lost
        elif (path / "manifest.json").exists():  # it came to its end, killed after that or not
            Index.load(path).verify()
            shutil.rmtree(path)
            done = []
        else:
            assert child.returncode != 0
            assert done == []
    items = np.random.default_rng(1).standard_normal((20000, 16)).astype(np.float32)
    plan = JoinPlan.partitions(lists=200, probes=4)
    index, expected = Index.load(path), Index.build(items, plan=plan)
    index.verify()
    np.testing.assert_array_equal(
        index.knn(items[::40], 3, plan=plan), expected.knn(items[::40], 3, plan=plan)
    )
    assert len(files_of(path)) == 14


FULL = """
import resource, sys
import numpy as np
from lshjoin import Index
index = Index.build(np.random.default_rng(1).standard_normal((20000, 32)).astype(np.float32))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    index.save(sys.argv[1])
except OSError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_index(saved, items):
    before = files_of(saved)
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(saved)], capture_output=True, text=True, check=True
    )
    assert "too large" in result.stdout, result
    assert files_of(saved) == before
    answers(saved, True, items[:5])


# In a process of its own, which a page that can't be made would end with a signal.
WRITE = """
    import sys
    import numpy as np
    from lshjoin import Index
    what, path = sys.argv[1:]
    items = np.random.default_rng(1).standard_normal((20000, 32)).astype(np.float32)
    def batches(first):
        for start in range(first, 20000, 500):
            yield items[start : start + 500], np.arange(start, start + 500)
    if what == "save":
        Index.build(items).save(path)
    else:
        Index.build_on_disk(path, batches, count=20000, dim=32, resume=True)
"""


@pytest.mark.parametrize("what", ["save", "build"])
def test_a_full_disk(what, small_disk, items):
    """It is told, the index of before stays, and the same call goes on when there is room."""
    disk, enlarge = small_disk
    Index.build(items).save(disk / "out")
    before = files_of(disk / "out")
    command = [sys.executable, "-c", textwrap.dedent(WRITE), what, str(disk / "out")]
    for _ in range(3):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 1, result
        assert "OSError" in result.stderr, result
        assert "No space left on device" in result.stderr, result
        assert str(disk / "out") in result.stderr, result
        Index.load(disk / "out").verify()
        assert set(files_of(disk / "out")) >= set(before)
        if what == "save":
            assert files_of(disk / "out") == before
    assert enlarge().returncode == 0
    subprocess.run(command, check=True)
    index = Index.load(disk / "out")
    index.verify()
    assert len(index) == 20000
    assert len(files_of(disk / "out")) == 14


OVER_AND_OVER = """
import sys
import numpy as np
from lshjoin import Index
items = np.random.default_rng(5).standard_normal((600, 12)).astype(np.float32)
indexes = [Index.build(items[:500]), Index.build(items)]
while True:
    for index in indexes:
        index.save(sys.argv[1])
"""


def test_loaded_while_another_process_saves(tmp_path):
    items = np.random.default_rng(5).standard_normal((600, 12)).astype(np.float32)
    path = tmp_path / "index"
    Index.build(items).save(path)
    child = subprocess.Popen([sys.executable, "-c", OVER_AND_OVER, str(path)])
    try:
        lengths = set()
        deadline = time.monotonic() + 60
        while (len(lengths) < 2 or time.monotonic() < deadline - 57) and (
            time.monotonic() < deadline
        ):
            index = Index.load(path)
            lengths.add(len(index))
            assert index.knn(items[:3], 1).indices.ravel().tolist() == [0, 1, 2]
        assert lengths == {500, 600}
    finally:
        child.kill()
        child.wait()


# Each is called once before: what is imported need not be readable to others.
FORBIDDEN = """
    import os, shutil, sys
    import numpy as np
    from lshjoin import Index, build_index, dedup_files, knn_join_files, query_index
    from lshjoin import BucketedRandomProjectionLSH as LSH
    from lshjoin import radius_join_files
    os.chdir(sys.argv[1])
    index = Index.load("mine.index")
    rows = np.load("items.npy", mmap_mode="r")
    os.mkdir("first")
    dedup_files("items.npy", 0.1, out="first/groups.pq")
    build_index("items.npy", out="first/index")
    query_index("first/index", "items.npy", out="first/found.pq")
    LSH(bucketLength=1.0).save("first/lsh")
    shutil.rmtree("first")
    os.setgroups([]), os.setegid(65534), os.seteuid(65534)
    calls = {
        "mine.index": [
            lambda: index.save("mine.index"),
            lambda: Index.build_on_disk(
                "mine.index", lambda start: [(rows, np.arange(400))], count=400, dim=12),
        ],
        "secret.index": [
            lambda: Index.load("secret.index"),
            lambda: Index.load("secret.index", mmap=False),
            lambda: index.save("secret.index"),
            lambda: query_index("secret.index", "items.npy", out="open/p.pq"),
            lambda: build_index("items.npy", out="secret.index"),
        ],
        "locked": [
            lambda: index.save("locked/new.index"),
            lambda: knn_join_files(items="items.npy", out="locked/p.pq"),
            lambda: dedup_files("items.npy", 0.1, out="locked/p.pq"),
            lambda: radius_join_files(items="items.npy", radius=1, out="q.pq", work_dir="locked/w"),
            lambda: build_index("items.npy", out="locked/i"),
            lambda: LSH(bucketLength=1.0).save("locked/lsh"),
            lambda: LSH(bucketLength=1.0).write().overwrite().save("locked/model"),
        ],
        "secret.npy": [lambda: knn_join_files(items="secret.npy", out="open/p.pq")],
    }
    for name, refused in calls.items():
        for number, call in enumerate(refused):
            try:
                call()
            except PermissionError as error:
                assert name in str(error), (name, number, error)
            else:
                raise AssertionError((name, number))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_files(items, tmp_path):
    """PermissionError that names the file, and nothing is changed."""
    from lshjoin import BucketedRandomProjectionLSH

    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == "root" and parent != parent.parent and parent.name != "tmp":
            parent.chmod(0o755)
    index = Index.build(items)
    for name in ("mine.index", "secret.index"):
        index.save(tmp_path / name)
    np.save(tmp_path / "items.npy", items)
    np.save(tmp_path / "secret.npy", items)
    (tmp_path / "locked").mkdir()
    BucketedRandomProjectionLSH(bucketLength=1.0).save(tmp_path / "locked" / "model")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for path in (*(tmp_path / "secret.index").iterdir(), tmp_path / "secret.npy"):
        path.chmod(0o600)
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-c", textwrap.dedent(FORBIDDEN), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def interrupt(call, seconds):
    """Sends SIGINT to this process while it calls something; whether that ended the call."""
    calling = True

    def handle(number, frame):
        if calling:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        call()
    except KeyboardInterrupt:
        return True
    finally:
        calling = False
        timer.join()
        signal.signal(signal.SIGINT, before)
    return False


@pytest.fixture(scope="module")
def many():
    return np.random.default_rng(1).standard_normal((60_000, 64)).astype(np.float32)


def test_interrupted_saves(many, tmp_path):
    """Whenever it comes: the directory has one index or the other, the index itself stays."""
    path, chosen = tmp_path / "index", random.Random(5)
    old, new = Index.build(many[:1000]), Index.build(many)
    changed = Index.build(many)
    changed.remove(range(0, 60_000, 2))
    changed.add(many[:10], np.arange(60_000, 60_010))
    old.save(path)
    interruptions, attempts = 0, 0
    while interruptions < 6:
        index = (new, changed)[attempts % 2]
        attempts += 1
        assert attempts < 100
        length = len(index)
        # As long as it takes, or less.
        interruptions += interrupt(lambda index=index: index.save(path), 0.3 * chosen.random())
        found = Index.load(path)
        found.verify()
        assert len(found) in (1000, 30_010, 60_000)
        assert len(files_of(path)) == 14
        assert len(index) == length
        assert index.knn(many[1:2], 1).indices[0, 0] == 1
        old.save(path)
    new.save(path)
    assert len(Index.load(path)) == 60_000


def test_interrupted_builds_and_changes(many, tmp_path):
    chosen = random.Random(9)
    path = tmp_path / "index"
    index = Index.build(many[:1000])
    more, ids = many[1000:], np.arange(1000, 60_000)
    interruptions, attempts = 0, 0
    while interruptions < 4:
        attempts += 1
        assert attempts < 100
        seconds = 0.3 * chosen.random()
        interruptions += interrupt(lambda: Index.build(many), seconds)
        interruptions += interrupt(lambda: build_on_disk(path, many), seconds)
        assert not path.exists() or len(files_of(path)) in (0, 14)
        interrupt(lambda: index.add(more, ids), 0.05 * chosen.random())
        assert len(index) in (1000, 60_000)  # all of them or none
        if len(index) == 60_000:
            interrupt(lambda: index.remove(ids), 0.02 * chosen.random())
            assert len(index) in (1000, 60_000)
            if len(index) == 60_000:
                index.remove(ids)
        assert index.knn(many[1:2], 1).indices[0, 0] == 1
    build_on_disk(path, many)
    assert len(Index.load(path)) == 60_000
