"""Damaged files, kills, full disks: the old index, the new one or a clear error, never another."""

import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from lshjoin import Index, JoinPlan

CORRUPTIONS = 200
KILLS = 10


@pytest.fixture
def items(rng):
    return rng.standard_normal((400, 12)).astype(np.float32)


@pytest.fixture
def saved(items, tmp_path):
    """The directory of an index that has every array."""
    plan = JoinPlan.partitions(axes=8, cells=20, probes=1)
    Index.build(items, metric="cosine", plan=plan).save(tmp_path / "index")
    return tmp_path / "index"


def files_of(directory):
    return sorted(file for file in directory.iterdir())


def answers(directory, mmap, queries):
    index = Index.load(directory, mmap=mmap)
    plan = JoinPlan.partitions(axes=8, cells=20, probes=1, until_recall=0.9)
    found = [*index.knn(queries, 5, recall=1.0), *index.radius(queries, 0.6)]
    for start in (0, 200):
        ids, near = index.knn_of_stretch(range(start, start + 200), 3, plan=JoinPlan.exact())
        found += [ids, *near]
    found += [*index.knn(queries, 3, plan=plan)]
    index.remove([17])
    return [*found, *index.knn(queries, 2, recall=1.0)]


@pytest.mark.parametrize("mmap", [True, False])
def test_corrupted_files_are_refused_by_name_or_harmless(mmap, saved, items, tmp_path):
    expected = answers(saved, mmap, items[:50])
    names = [file.name for file in files_of(saved)]
    assert len(names) == 12
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
    index = Index.build(items, plan=JoinPlan.partitions(axes=16, cells=2, probes=1))
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
    edited(saved, format_version=2, library_version="9.1.0", new_field=5)
    with pytest.raises(
        ValueError, match=r'manifest\.json: it has format version 2, by lshjoin "9\.1\.0".*upgrade'
    ):
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
    plan = JoinPlan.partitions(axes=8, cells=20, probes=1)
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
    with pytest.raises(ValueError, match="another index is being saved there"):
        index.save(saved)
    os.close(directory)
    index.save(saved)


def test_a_damaged_index_is_replaced(saved, items):
    edited(saved, checksum="0")
    with pytest.raises(ValueError, match=r"manifest\.json: it was altered"):
        Index.load(saved)
    Index.build(items).save(saved)
    Index.load(saved).verify()


# Adds items one by one, saving after each, from wherever it was.
ADD = """
import sys
import numpy as np
from lshjoin import Index
path = sys.argv[1]
items = np.random.default_rng(5).standard_normal((1030, 12)).astype(np.float32)
index = Index.load(path)
for item in range(len(index), 1030):
    index.add(items[item : item + 1], [item])
    index.save(path)
    index = Index.load(path)
"""


def test_killed_while_it_adds_and_saves(tmp_path):
    items = np.random.default_rng(5).standard_normal((1030, 12)).astype(np.float32)
    path = tmp_path / "index"
    Index.build(items[:1000]).save(path)
    chosen, kills, length = random.Random(3), 0, 1000
    while True:
        child = subprocess.Popen([sys.executable, "-c", ADD, str(path)])
        try:
            # Longer than it takes to start, so that most kills are amid saves.
            child.wait(0.5 + chosen.random() if kills < KILLS else None)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            kills += 1
        index = Index.load(path)
        index.verify()
        assert len(index) >= length
        length = len(index)
        expected = Index.build(items[:length]).knn(items[::50], 3, recall=1.0)
        np.testing.assert_array_equal(index.knn(items[::50], 3, recall=1.0), expected)
        if child.returncode == 0:
            break
    assert len(index) == 1030
    assert len(files_of(path)) == 12  # what kills left has gone


SAVE = """
import sys
import numpy as np
from lshjoin import Index
index = Index.build(np.random.default_rng(1).standard_normal((20000, 32)).astype(np.float32))
print("built", flush=True)
index.save(sys.argv[1])
"""


def test_killed_in_a_first_save(tmp_path):
    items = np.random.default_rng(1).standard_normal((20000, 32)).astype(np.float32)
    chosen = random.Random(4)
    for number in range(KILLS):
        path = tmp_path / str(number)
        child = subprocess.Popen(
            [sys.executable, "-c", SAVE, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "built\n"
        time.sleep(0.05 * chosen.random())
        child.kill()
        child.wait()
        child.stdout.close()
        if (path / "manifest.json").exists():
            Index.load(path).verify()
        elif path.exists():
            with pytest.raises(ValueError, match="not an lshjoin index"):
                Index.load(path)
        Index.build(items[:10]).save(path)  # over what is left
        assert len(Index.load(path)) == 10
        assert len(files_of(path)) == 12


BUILD = """
import sys, time
import numpy as np
from lshjoin import Index
items = np.random.default_rng(1).standard_normal((20000, 16)).astype(np.float32)
def batches(first):
    for start in range(first, 20000, 500):
        time.sleep(0.01)
        yield items[start : start + 500], np.arange(start, min(start + 500, 20000))
print("begun", flush=True)
Index.build_on_disk(sys.argv[1], batches, count=20000, dim=16, resume=True)
"""


def test_killed_while_it_builds(tmp_path):
    path = tmp_path / "index"
    chosen, kills, done = random.Random(6), 0, []
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", BUILD, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "begun\n"
        try:
            # Up to as long as all passes take.
            child.wait(1.5 * chosen.random() if kills < KILLS else None)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            kills += 1
        child.stdout.close()
        if child.returncode == 0 and kills == KILLS:
            break
        unfinished = path / "manifest-unfinished.json"
        if unfinished.exists():
            state = json.loads(unfinished.read_text())
            done.append((state["writing"], state["seen"]))
            assert done == sorted(done)  # nothing recorded is lost
        elif (path / "manifest.json").exists():  # it came to its end, killed after that or not
            Index.load(path).verify()
            shutil.rmtree(path)
            done = []
        else:
            assert child.returncode != 0
            assert done == []
    items = np.random.default_rng(1).standard_normal((20000, 16)).astype(np.float32)
    index, expected = Index.load(path), Index.build(items)
    index.verify()
    plan = JoinPlan.partitions(axes=48, cells=212, probes=4)
    np.testing.assert_array_equal(
        index.knn(items[::40], 3, plan=plan), expected.knn(items[::40], 3, plan=plan)
    )
    assert len(files_of(path)) == 12


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
