"""Saved estimators and models that somebody changed on purpose: loaded and used."""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from lshjoin import (
    BucketedRandomProjectionLSH,
    BucketedRandomProjectionLSHModel,
    ManhattanProjectionLSH,
    ManhattanProjectionLSHModel,
    RandomHyperplaneLSH,
    RandomHyperplaneLSHModel,
)

from benches.reliability.children import WrongAnswer, serve
from benches.reliability.mutations import (
    NUMBERS,
    Random,
    change_file,
    change_json,
    change_text,
    change_values,
    pick,
)

ROWS = np.random.default_rng(0).standard_normal((200, 4))
FRAME = pl.DataFrame({"features": ROWS}, schema={"features": pl.Array(pl.Float64, 4)})
FAMILIES = {
    "spark": (BucketedRandomProjectionLSH, BucketedRandomProjectionLSHModel, 1),
    "euclidean": (BucketedRandomProjectionLSH, BucketedRandomProjectionLSHModel, 2),
    "manhattan": (ManhattanProjectionLSH, ManhattanProjectionLSHModel, 2),
    "cosine": (RandomHyperplaneLSH, RandomHyperplaneLSHModel, 3),
}


def make(place: Path) -> None:
    """The estimators and models that cases begin with."""
    for name, (lsh, _, functions) in FAMILIES.items():
        length = {} if name == "cosine" else {"bucketLength": 2.0}
        estimator = lsh(
            inputCol="features",
            outputCol="h",
            numHashTables=3,
            numHashFunctions=functions,
            **length,
        )
        estimator.save(place / f"{name}-lsh")
        estimator.fit(FRAME).save(place / f"{name}-model")


def use(name: str, directory: Path) -> None:
    lsh, model_class, _ = FAMILIES[name.split("-")[0]]
    if name.endswith("-lsh"):
        estimator = lsh.load(directory)
        model = estimator.fit(FRAME)
    else:
        model = model_class.load(directory)
    str(model)
    model.explainParams()
    model.transform(FRAME)
    pairs = model.approxSimilarityJoin(FRAME, FRAME, 0.5)
    a, b = (
        np.array(pairs[side].struct.field("features").to_list())
        for side in ("datasetA", "datasetB")
    )
    if len(pairs):
        far = {
            "manhattan": lambda: np.abs(a - b).sum(1),
            "euclidean": lambda: np.linalg.norm(a - b, axis=1),
            "cosine": lambda: (
                1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            ),
        }[model.family]()
        if not np.allclose(far, pairs["distCol"].to_numpy(), atol=1e-6) or (far > 0.5 + 1e-6).any():
            raise WrongAnswer("distances of other rows")
    model.approxNearestNeighborsJoin(FRAME, FRAME, 3)
    model.approxNearestNeighbors(FRAME, ROWS[0], 3)
    saved = directory.parent / "saved"
    model.save(saved)
    if not model_class.load(saved).transform(FRAME).equals(model.transform(FRAME)):
        raise WrongAnswer("other hashes once it was saved")


def _change_metadata(random: Random, directory: Path) -> None:
    path = directory / "metadata" / "part-00000"
    if random.random() < 0.75:
        metadata = json.loads(path.read_text())
        change_json(random, metadata if random.random() < 0.5 else metadata["paramMap"])
        path.write_text(json.dumps(metadata))
    else:
        path.write_bytes(change_text(random, path.read_bytes()))


def _change_functions(random: Random, directory: Path) -> None:
    """The matrix and the offsets, as whatever Parquet can hold."""
    (path,) = (directory / "data").glob("part-*")
    table = pq.read_table(path)
    (row,) = table.to_pylist()
    matrix: dict[str, Any] = row["randUnitVectors"]
    kind = random.integers(8)
    if kind == 0:
        values = change_values(random, np.array(matrix["values"]))
        matrix["values"] = values.tolist()
    elif kind == 1 and "offsets" in row:
        row["offsets"] = change_values(random, np.array(row["offsets"])).tolist()
    elif kind == 2:
        matrix[pick(random, ["numRows", "numCols", "type"])] = pick(
            random, [0, -1, 1, 2, 5, 12, 127, -128]
        )
    elif kind == 3:
        matrix["values"] = pick(random, [[], None, [None], matrix["values"] * 3, [[1.0]], ["x"]])
    elif kind == 4:
        matrix["isTransposed"] = pick(random, [None, False, True])
    elif kind == 5:
        # A few bytes that stand for very many values.
        count = pick(random, [10**5, 10**7])
        matrix |= {"numRows": 6, "numCols": count // 6}
        values = pa.array([np.zeros(count)])
        names = ["type", "numRows", "numCols", "values", "isTransposed"]
        arrays = [pa.array([matrix[name]]) if name != "values" else values for name in names]
        column = pa.StructArray.from_arrays(arrays, names)
        pq.write_table(pa.table({"randUnitVectors": column}), path, compression="zstd")
        return
    elif kind == 6:
        name = pick(random, list(row))
        row[name] = pick(random, [None, 5, "text", [1.0], {"type": 1}])
    else:
        row = {"other": 1, **{key: row[key] for key in list(row)[: int(random.integers(2))]}}
    rows = [row] * pick(random, [1, 1, 1, 1, 0, 2, 1000])
    pq.write_table(pa.Table.from_pylist(rows, None if rows else table.schema), path)


def _change_bytes(random: Random, directory: Path) -> None:
    """The Parquet file, of which nothing has a checksum."""
    (path,) = (directory / "data").glob("part-*")
    contents = bytearray(path.read_bytes())
    for _ in range(pick(random, [1, 1, 3, 10])):
        # Mostly at the end, where it says what is where.
        at = len(contents) - 1 - int(random.integers(len(contents)) * random.random())
        number = pick(random, [number for number in NUMBERS if isinstance(number, int)]) % 256
        contents[at] = pick(random, [number, contents[at] ^ 1, contents[at] ^ 128])
    path.write_bytes(contents[: pick(random, [len(contents)] * 5 + [len(contents) // 2, 4])])


def _change_file(random: Random, directory: Path) -> None:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    path = pick(random, files)
    change_file(random, path)


def case(number: int, directory: Path, place: Path) -> None:
    random = np.random.default_rng([number, 3])
    bases = sorted(place.glob("*-lsh")) + 3 * sorted(place.glob("*-model"))
    base = pick(random, bases)
    inside = directory / "model"
    shutil.copytree(base, inside)
    changes = [_change_metadata, _change_metadata, _change_file]
    if base.name.endswith("-model"):
        changes += [_change_functions] * 3 + [_change_bytes] * 2
    pick(random, changes)(random, inside)
    use(base.name, inside)


if __name__ == "__main__":
    start, stop, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as directory:  # imports what is imported late
        use("spark-model", shutil.copytree(place / "spark-model", Path(directory) / "model"))
    serve(lambda number, directory: case(number, directory, place), range(start, stop), place)
