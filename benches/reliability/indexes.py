"""Indexes that somebody changed on purpose, every checksum right: opened and used."""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from children import WrongAnswer, serve, tell
from lshjoin import Index, JoinPlan
from mutations import Random, change_file, change_json, change_text, change_values, pick
from xxhash import xxh3_64_hexdigest

CHUNK = 1 << 20
DTYPES = {
    "F32": "<f4",
    "F64": "<f8",
    "I8": "i1",
    "U8": "u1",
    "U32": "<u4",
    "U64": "<u8",
    "I64": "<i8",
}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
KNOWN = np.dtype([("scale", "<f4"), ("residual", "<f4"), ("square", "<i4"), ("sum", "<i4")])
METRICS = ("euclidean", "cosine", "inner_product", "manhattan")


# Indexes as files.


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
        for count, dim, cells in ((300, 12, 20), (4500, 5, 100)):
            rows = _rows(count, dim, count)
            if metric == "cosine":
                rows[7] = 0
            plan = JoinPlan.partitions(axes=8, cells=cells, probes=2)
            ids = np.random.default_rng(1).permutation(count) * 3
            Index.build(rows, ids=ids, metric=metric, plan=plan).save(place / f"{metric}-{count}")
    Index.build(np.empty((0, 3))).save(place / "none-0")
    Index.build(np.ones((1, 3))).save(place / "one-1")
    for metric in METRICS[:2]:
        for stop in (0.5, 1.0):  # in the second pass, or the third
            begin(place / f"begun-{metric}-{stop}", metric, stop)


class _Stop(Exception):
    pass


def begin(directory: Path, metric: str, stop: float) -> None:
    rows = _rows(300, 4, 5)
    passes = iter(range(3))

    def batches(start: int) -> Any:
        which = next(passes) + stop
        for first in range(start, len(rows), 50):
            if which >= 2 and first >= 150:
                raise _Stop
            yield rows[first : first + 50], np.arange(first, min(first + 50, len(rows)))

    try:
        Index.build_on_disk(directory, batches, count=300, dim=4, metric=metric, resume=True)
    except _Stop:
        return


def header(name: str, dtype: str, shape: tuple[int, ...], size: int) -> bytes:
    info = {name: {"dtype": dtype, "shape": list(shape), "data_offsets": [0, size]}}
    text = json.dumps(info, separators=(",", ":")).encode()
    length = -(-(len(text) + 8) // 64) * 64 - 8
    return length.to_bytes(8, "little") + text.ljust(length)


def read_array(path: Path, name: str) -> np.ndarray:
    contents = path.read_bytes()
    length = int.from_bytes(contents[:8], "little")
    about = json.loads(contents[8 : 8 + length])[name]
    data = np.frombuffer(contents, DTYPES[about["dtype"]], offset=8 + length)
    return data.reshape(about["shape"])


def read_arrays(directory: Path) -> dict[str, np.ndarray]:
    stored = json.loads((directory / "manifest.json").read_text())["arrays"]
    return {name: read_array(directory / about["file"], name) for name, about in stored.items()}


def sums(data: bytes) -> list[str]:
    return [xxh3_64_hexdigest(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]


def write_array(directory: Path, manifest: Any, name: str, array: np.ndarray) -> None:
    """Puts an array in the place of one, and into the manifest."""
    about, dtype, data = manifest["arrays"][name], NAMES[array.dtype], array.tobytes()
    contents = header(name, dtype, array.shape, len(data)) + data
    (directory / about["file"]).write_bytes(contents)
    about |= {"dtype": dtype, "shape": list(array.shape), "xxh3": sums(data)}


def write_manifest(directory: Path, manifest: Any) -> None:
    """Writes a manifest whose checksum is right."""
    if isinstance(manifest, dict):
        manifest["checksum"] = ""
        text = json.dumps(manifest, separators=(",", ":"), ensure_ascii=False)
        manifest["checksum"] = xxh3_64_hexdigest(text.encode(errors="replace"))
    (directory / "manifest.json").write_text(json.dumps(manifest))


# Changes.


def _change_manifest(random: Random, directory: Path, manifest: Any) -> None:
    change_json(random, manifest)
    write_manifest(directory, manifest)


def _change_facts(random: Random, directory: Path, manifest: Any) -> None:
    """What little the manifest says of all, and nothing of files."""
    change_json(random, manifest["facts"])
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
        manifest["facts"]["items"] = len(array)
    write_manifest(directory, manifest)


def _change_all(random: Random, directory: Path, manifest: Any) -> None:
    """Arrays that agree with one another, and are still not those of any rows."""
    arrays = read_arrays(directory)
    count = len(arrays["ids"])
    kind = random.integers(4)
    cells = pick(random, [1, 2, count, 16384, 16385, 200_000, max(count // 2, 1)])
    if kind == 0:
        # As many cells as a small file has room for.
        random_cells = np.sort(random.integers(count + 1, size=cells + 1))
        random_cells[[0, -1]] = 0, count
        arrays["starts"] = random_cells.astype("<u8")
        dim = pick(random, [1, arrays["axes"].shape[0]])
        arrays["axes"] = np.resize(arrays["axes"], (dim, arrays["axes"].shape[1]))
        arrays["centroids"] = random.standard_normal((cells, dim)).astype("<f4")
        manifest["facts"]["plan"]["cells"] = int(pick(random, [cells, min(cells, 16384)]))
    elif kind == 1 and count:
        # Some rows, each however often.
        rows = random.integers(count, size=pick(random, [1, count // 2 + 1, count, 5000]))
        for name in ("rows", "codes", "known", "norms", "ids", "twins"):
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
        manifest["facts"]["items"] = len(rows)
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
    _change_facts,
    _change_shape,
    _change_file,
    _change_journal,
    _change_text,
]


# Use.


def distances(metric: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "inner_product":
        return -queries @ rows.T
    if metric == "cosine":

        def unit(x: np.ndarray) -> np.ndarray:
            lengths = np.linalg.norm(x, axis=1, keepdims=True)
            return x / np.where(lengths > 0, lengths, 1)

        return 1 - unit(queries) @ unit(rows).T
    apart = queries[:, None] - rows[None]
    return np.abs(apart).sum(2) if metric == "manhattan" else np.sqrt((apart**2).sum(2))


class Items:
    """What an index has to answer from."""

    def __init__(self, directory: Path) -> None:
        arrays = read_arrays(directory)
        facts = json.loads((directory / "manifest.json").read_text())["facts"]
        self.metric = facts["metric"]
        self.rows, self.ids = arrays["rows"][:, : facts["dim"]], arrays["ids"]

    def change(self, gone: np.ndarray, new: np.ndarray, rows: np.ndarray) -> None:
        keep = ~np.isin(self.ids, gone)
        self.rows = np.concatenate([self.rows[keep], rows])
        self.ids = np.concatenate([self.ids[keep], new])

    def check(self, queries: np.ndarray, found: Any, complete: bool) -> None:
        """That distances are those of the items, and the least if all were to be found."""
        true = distances(self.metric, queries, self.rows)
        near = (1e-5 * np.abs(true).max(initial=1), 1e-4)
        places = {int(one): place for place, one in enumerate(self.ids)}
        for query, (far, ids) in enumerate(zip(found.distances, found.indices, strict=True)):
            known = far < np.inf
            own = np.array([true[query, places[int(one)]] for one in ids[known]])
            expected = np.sort(true[query])[: len(far)]
            if not np.allclose(own, far[known], near[1], near[0]):
                raise WrongAnswer(f"query {query}: {far} of {ids}, which are at {own}")
            if complete and not np.allclose(expected, far[: len(expected)], near[1], near[0]):
                raise WrongAnswer(f"query {query}: {far} where {expected} are nearest")


def resume(directory: Path, metric: str) -> None:
    """Goes on with what was begun."""
    rows = _rows(300, 4, 5)

    def batches(start: int) -> Any:
        for first in range(start, len(rows), 50):
            yield rows[first : first + 50], np.arange(first, min(first + 50, len(rows)))

    Index.build_on_disk(directory, batches, count=300, dim=4, metric=metric, resume=True)


def use(directory: Path, seed: int) -> None:
    """All that an index can do; answers are checked where it has vouched for itself."""
    index = Index.load(directory)
    assert str(index).startswith(f"<lshjoin.Index: {len(index)} items")
    assert index.info["dim"] == index.dim
    items, refused = None, None
    try:
        index.verify()
        items = Items(directory)
    except ValueError as error:
        refused = error
    random = np.random.default_rng(seed)
    # Fewer queries or items meet all whatever the plan.
    counts = (20, 4200 if len(index) > 4096 else 20)
    few, many = (random.standard_normal((count, index.dim), np.float32) for count in counts)
    every = index.knn(few, 4, recall=1.0)
    tell({})
    numbers = json.loads(index.plan.to_json())
    probing = JoinPlan.from_json(json.dumps(numbers | {"until_recall": None}))
    fixed = index.fixed_plan(3, queries=many, plan=index.plan)
    tell({})
    for queries, plan in (
        (few, index.plan),
        (few, probing),
        (many, fixed),
    ):
        found = index.knn(queries, 3, plan=plan)
        tell({})
        if items:
            items.check(
                queries[:20],
                type(found)(*(part[:20] for part in found), found.plan, found.report),
                False,
            )
    plan = index.fixed_plan(3, plan=index.plan)
    tell({})
    for chunk in index.chunks(3)[:1]:
        index.knn_of_chunk(chunk, 3, plan=plan)
        tell({})
        index.knn_of_chunk(chunk, 3, plan=JoinPlan.exact())
        tell({})
    if index.metric != "inner_product":
        index.radius(few, 0.5)
        index.radius_of_chunk(range(min(len(index), 300)), 0.1)
        tell({})
    gone, new = (
        np.unique(every.indices[0, :2][every.distances[0, :2] < np.inf]),
        2**40 + np.arange(3),
    )
    index.remove(gone)
    index.add(few[:3], new)
    changed = index.knn(few, 4, recall=1.0)
    tell({})
    saved = directory.parent / "saved"
    index.save(saved)
    tell({})
    again = Index.load(saved, mmap=False).knn(few, 4, recall=1.0)
    if items:
        items.check(few, every, True)
        items.change(gone, new, few[:3])
        items.check(few, changed, True)
        items.check(few, again, True)
    Index.load(directory).save(directory.parent / "copied")
    if refused:
        raise refused


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


def make_holes(file: Path, name: str, about: Any, count: int) -> None:
    """Gives a file that was begun so many rows, more than memory has room for."""
    about["shape"][0] = count
    size = math.prod(about["shape"]) * np.dtype(DTYPES[about["dtype"]]).itemsize
    start = header(name, about["dtype"], tuple(about["shape"]), size)
    file.write_bytes(start)
    os.truncate(file, len(start) + size)


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
