"""Indexes that somebody changed on purpose, every checksum right: opened and used."""

import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from lshjoin import Index, JoinPlan

from benches.reliability.children import serve
from benches.reliability.index_files import (
    KNOWN,
    NAMES,
    header,
    make_holes,
    read_array,
    read_arrays,
    write_array,
    write_manifest,
)
from benches.reliability.index_use import use
from benches.reliability.mutations import (
    Random,
    change_file,
    change_json,
    change_text,
    change_values,
    pick,
)

METRICS = ("euclidean", "cosine", "inner_product", "manhattan")


def _rows(count: int, dim: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = (
        random.standard_normal((count, dim))
        + 4 * random.standard_normal((20, dim))[random.integers(20, size=count)]
    )
    rows[: count // 10] = rows[count // 2 : count // 2 + count // 10]  # some come twice
    return rows.astype(np.float32)


def make(place: Path) -> None:
    """The indexes that cases begin with."""
    for metric in METRICS:
        for count, dim, lists in ((300, 12, 20), (4500, 5, 100)):
            rows = _rows(count, dim, count)
            if metric == "cosine":
                rows[7] = 0
            plan = JoinPlan.partitions(lists=lists, probes=2)
            ids = np.random.default_rng(1).permutation(count) * 3
            Index.build(rows, ids=ids, metric=metric, plan=plan).save(place / f"{metric}-{count}")
    Index.build(np.empty((0, 3))).save(place / "none-0")
    Index.build(np.ones((1, 3))).save(place / "one-1")
    for metric in METRICS[:2]:
        for stop in (150, 300):  # in the second pass, or when all items have come
            begin(place / f"begun-{metric}-{stop}", metric, stop)


class _Stop(Exception):
    pass


def begin(directory: Path, metric: str, stop: int) -> None:
    """A build that ends when so many items have come for the second time."""
    rows = _rows(300, 4, 5)
    passes = iter(range(2))

    def batches(start: int) -> Any:
        which = next(passes)
        for first in range(start, len(rows) + 50, 50):
            if which == 1 and first >= stop:
                raise _Stop
            yield rows[first : first + 50], np.arange(first, min(first + 50, len(rows)))

    try:
        Index.build_on_disk(directory, batches, count=300, dim=4, metric=metric, resume=True)
    except _Stop:
        return


def resume(directory: Path, metric: str) -> None:
    """Goes on with what was begun."""
    rows = _rows(300, 4, 5)

    def batches(start: int) -> Any:
        for first in range(start, len(rows), 50):
            yield rows[first : first + 50], np.arange(first, min(first + 50, len(rows)))

    Index.build_on_disk(directory, batches, count=300, dim=4, metric=metric, resume=True)


def _change_manifest(random: Random, directory: Path, manifest: Any) -> None:
    change_json(random, manifest)
    write_manifest(directory, manifest)


def _change_metadata(random: Random, directory: Path, manifest: Any) -> None:
    """What little the manifest says of all, and nothing of files."""
    change_json(random, manifest["metadata"])
    write_manifest(directory, manifest)


def _change_text(random: Random, directory: Path, manifest: Any) -> None:
    path = directory / "manifest.json"
    path.write_bytes(change_text(random, path.read_bytes()))


def _change_array(random: Random, directory: Path, manifest: Any) -> None:
    for _ in range(pick(random, [1, 1, 2])):
        name = pick(random, list(manifest["arrays"]))
        array = read_array(directory / manifest["arrays"][name]["file"], name)
        if name == "known" and len(array):
            fields = array.copy().view(KNOWN)[:, 0]
            field = pick(random, KNOWN.names)
            fields[field] = change_values(random, np.ascontiguousarray(fields[field]))
            array = fields.view("u1").reshape(array.shape)
        else:
            array = change_values(random, array)
        write_array(directory, manifest, name, array)
    write_manifest(directory, manifest)


def _change_shape(random: Random, directory: Path, manifest: Any) -> None:
    """Another shape or type, or other numbers of rows, which the manifest may agree with."""
    name = pick(random, list(manifest["arrays"]))
    array = read_array(directory / manifest["arrays"][name]["file"], name)
    rows = len(array)
    kind = random.integers(6)
    if kind == 0:
        array = array[: int(random.integers(rows + 1))]
    elif kind == 1:
        array = np.concatenate([array] * pick(random, [2, 3, 20]))
    elif kind == 2:
        array = array.reshape(-1) if array.ndim > 1 else array[:, None]
    elif kind == 3:
        array = array.reshape(*array.shape, 1) if array.ndim > 1 else array.reshape(1, -1)
    elif kind == 4:
        array = array.reshape(-1).view(pick(random, ["u1", "i1"]))
    else:
        array = np.zeros((pick(random, [0, 1, 200_000]), *array.shape[1:]), array.dtype)
    write_array(directory, manifest, name, np.ascontiguousarray(array))
    if random.random() < 0.3:
        manifest["metadata"]["items"] = len(array)
    write_manifest(directory, manifest)


def _change_all(random: Random, directory: Path, manifest: Any) -> None:
    """Arrays that agree with one another, and are still not those of any rows."""
    arrays = read_arrays(directory)
    count = len(arrays["ids"])
    kind = random.integers(4)
    lists = pick(random, [1, 2, count, 16384, 16385, 200_000, max(count // 2, 1)])
    if kind == 0:
        # As many lists as fit a small file.
        starts = np.sort(random.integers(count + 1, size=lists + 1))
        starts[[0, -1]] = 0, count
        arrays["starts"] = starts.astype("<u8")
        groups, dim = pick(random, [1, lists, 447]), arrays["groups"].shape[1]
        arrays["groups"] = random.standard_normal((groups, dim)).astype("<f4")
        group_starts = np.sort(random.integers(lists + 1, size=groups + 1))
        group_starts[[0, -1]] = 0, lists
        arrays["group_starts"] = group_starts.astype("<u8")
        arrays["centroids"] = random.standard_normal((lists, dim)).astype("<f4")
        manifest["metadata"]["plan"]["lists"] = int(pick(random, [lists, min(lists, 16384)]))
    elif kind == 1 and count:
        # Some rows, each however often.
        rows = random.integers(count, size=pick(random, [1, count // 2 + 1, count, 5000]))
        for name in ("rows", "codes", "known", "norms", "ids", "duplicate_ranks"):
            if len(arrays[name]):
                arrays[name] = np.ascontiguousarray(arrays[name][rows])
        if random.random() < 0.7:
            arrays["ids"] = np.arange(len(rows), dtype="<i8")
        arrays["by_id"] = np.argsort(arrays["ids"], kind="stable").astype("<u4")
        step = max(-(-len(rows) // 1024), 1)
        arrays["held_out"] = np.arange(0, len(rows), step, dtype="<u4")
        if len(arrays["starts"]) > 1:
            arrays["starts"] = np.minimum(arrays["starts"], len(rows))
            arrays["starts"][-1] = len(rows)
        manifest["metadata"]["items"] = len(rows)
    elif kind == 2:
        # Rows of one index, and all else of another, of the same shape.
        arrays["rows"] = change_values(random, arrays["rows"])
        arrays["ids"] = change_values(random, arrays["ids"])
        arrays["by_id"] = np.argsort(arrays["ids"], kind="stable").astype("<u4")
    else:
        held_out = pick(random, [0, 1, count, 100_000])
        arrays["held_out"] = random.integers(max(count, 1), size=held_out).astype("<u4")
    for name, array in arrays.items():
        write_array(directory, manifest, name, array)
    write_manifest(directory, manifest)


def _change_file(random: Random, directory: Path, manifest: Any) -> None:
    files = sorted(directory.iterdir())
    change_file(random, pick(random, [*files, directory / "manifest.json"]))


def _change_journal(random: Random, directory: Path, manifest: Any) -> None:
    """What a save would have left that did not come to its end."""
    names = [about["file"] for about in manifest["arrays"].values()]
    names += [
        "../outside",
        "../rows-1.safetensors",
        "/tmp",
        "rows-1.safetensors",
        "rows-.safetensors",
    ]
    journal = {"files": [pick(random, names) for _ in range(4)], "build": None}
    if random.random() < 0.5:
        change_json(random, journal)
    (directory / "manifest-unfinished.json").write_text(json.dumps(journal))


CHANGES: list[Callable[[Random, Path, Any], None]] = [
    *[_change_array] * 4,
    *[_change_manifest] * 2,
    *[_change_all] * 2,
    _change_metadata,
    _change_shape,
    _change_file,
    _change_journal,
    _change_text,
]


def change_begun(random: Random, directory: Path) -> None:
    """Changes how far a build says that it is, its files, or what they hold."""
    path = directory / "manifest-unfinished.json"
    state = json.loads(path.read_text())
    name = pick(random, sorted(state["build"]["files"]))
    about = state["build"]["files"][name]
    file = directory / about["file"]
    kind = random.integers(4)
    if kind == 0:
        change_json(random, state if random.random() < 0.2 else state["build"])
    elif kind == 1:
        change_file(random, pick(random, sorted(directory.iterdir())))
    elif kind == 2:
        array = change_values(random, read_array(file, name))
        file.write_bytes(
            header(name, NAMES[array.dtype], array.shape, array.nbytes) + array.tobytes()
        )
    else:
        make_holes(file, name, about["shape"], pick(random, [2**28, 2**33]))
    if kind in (0, 3):
        path.write_text(json.dumps(state))


@cache
def bases(place: Path) -> list[Path]:
    found = sorted(path for path in place.iterdir() if (path / "manifest.json").exists())
    begun = sorted(place.glob("begun-*"))
    return found * 3 + [path for path in begun if path not in found]


def case(number: int, directory: Path, place: Path) -> None:
    random = np.random.default_rng([number, 1])
    base = pick(random, bases(place))
    inside = directory / "index"
    shutil.copytree(base, inside)
    if (inside / "manifest.json").exists():
        manifest = json.loads((inside / "manifest.json").read_text())
        pick(random, CHANGES)(random, inside, manifest)
    else:
        change_begun(random, inside)
        resume(inside, base.name.split("-")[1])
    use(inside, number)


if __name__ == "__main__":
    start, stop, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    serve(lambda number, directory: case(number, directory, place), range(start, stop), place)
