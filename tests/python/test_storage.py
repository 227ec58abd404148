"""Models and estimators on disk, in Spark's layout."""

import json
import random
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import make_frame
from lshjoin import (
    BucketedRandomProjectionLSH,
    BucketedRandomProjectionLSHModel,
    ManhattanProjectionLSH,
    ManhattanProjectionLSHModel,
    RandomHyperplaneLSH,
    RandomHyperplaneLSHModel,
)

PARAMS = {"inputCol": "features", "outputCol": "hashes", "seed": -3, "numHashTables": 3}
CASES = {
    "spark": BucketedRandomProjectionLSH(bucketLength=1.5, **PARAMS),
    "and": BucketedRandomProjectionLSH(bucketLength=1.5, numHashFunctions=2, **PARAMS),
    "manhattan": ManhattanProjectionLSH(bucketLength=9.0, numHashFunctions=2, **PARAMS),
    "cosine": RandomHyperplaneLSH(numHashFunctions=5, **PARAMS),
}
MODELS = {
    BucketedRandomProjectionLSH: BucketedRandomProjectionLSHModel,
    ManhattanProjectionLSH: ManhattanProjectionLSHModel,
    RandomHyperplaneLSH: RandomHyperplaneLSHModel,
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def lsh(request):
    return request.param


@pytest.fixture
def frame(rng):
    return make_frame("polars", rng.standard_normal((50, 4)))


def by_name(instance):
    return {param.name: value for param, value in instance.extractParamMap().items()}


def test_models(lsh, frame, tmp_path):
    model = lsh.fit(frame)
    model.save(tmp_path / "model")
    for loaded in (
        type(model).load(tmp_path / "model"),
        MODELS[type(lsh)].read().load(str(tmp_path / "model")),
    ):
        assert type(loaded) is type(model)
        assert repr(loaded) == repr(model)
        assert by_name(loaded) == by_name(model)
        assert loaded.isSet("outputCol")
        assert loaded.transform(frame).equals(model.transform(frame))
        assert loaded.approxSimilarityJoin(frame, frame, 1.0).equals(
            model.approxSimilarityJoin(frame, frame, 1.0)
        )


def test_estimators(lsh, frame, tmp_path):
    lsh.save(tmp_path / "lsh")
    loaded = type(lsh).load(tmp_path / "lsh")
    assert loaded.uid == lsh.uid
    assert by_name(loaded) == by_name(lsh)
    assert loaded.fit(frame).transform(frame).equals(lsh.fit(frame).transform(frame))


def test_overwriting(lsh, frame, tmp_path):
    path = tmp_path / "deep" / "model"
    model = lsh.fit(frame)
    model.save(path)
    message = f"Path {path} already exists. To overwrite it, please use write.*overwrite.*save"
    with pytest.raises(FileExistsError, match=message):
        model.save(path)
    with pytest.raises(FileExistsError):
        model.write().save(path)
    other = lsh.copy({lsh.seed: 5}).fit(frame)
    other.write().overwrite().save(path)
    assert type(model).load(path).transform(frame).equals(other.transform(frame))
    assert [entry.name for entry in path.parent.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_one(frame, tmp_path, monkeypatch):
    model = CASES["spark"].fit(frame)
    model.save(tmp_path / "model")
    monkeypatch.setattr(pq, "write_table", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.write().overwrite().save(tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert type(model).load(tmp_path / "model").transform(frame).equals(model.transform(frame))


def test_nothing_but_a_model_is_overwritten(frame, tmp_path):
    model = CASES["spark"].fit(frame)
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "project" / "data" / "thesis.txt").write_text("all of it")
    (tmp_path / "project" / "metadata").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    model.save(tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name in ("project", "file", "link", "model"):
        with pytest.raises(FileExistsError, match=f"{name} is no saved model .*, or holds more"):
            model.write().overwrite().save(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
    model.write().overwrite().save(tmp_path / "empty")
    type(model).load(tmp_path / "empty")


def test_a_crash_at_any_change_leaves_the_old_or_the_new(tmp_path, crash_after):
    lsh = CASES["spark"]
    old, new = (lsh.copy({lsh.seed: seed}) for seed in (1, 2))
    calls = 0
    seen = set()
    while True:
        path = tmp_path / str(calls) / "model"
        old.save(path)
        if not crash_after(calls, lambda path=path: new.write().overwrite().save(path)):
            break
        seed = BucketedRandomProjectionLSH.load(path).getSeed()
        seen.add(seed)
        with pytest.raises(FileExistsError):
            new.save(path)  # which tidies up, but for what was being written
        assert BucketedRandomProjectionLSH.load(path).getSeed() == seed
        new.write().overwrite().save(path)
        assert BucketedRandomProjectionLSH.load(path).getSeed() == 2
        calls += 1
    assert seen == {1, 2}


OVER_AND_OVER = """
    import sys
    import pyarrow as pa
    from lshjoin import BucketedRandomProjectionLSH
    frame = pa.table({"x": [[float(value), 1.0] for value in range(9)]})
    lsh = BucketedRandomProjectionLSH(inputCol="x", outputCol="hashes", bucketLength=1.0)
    models = [lsh.copy({lsh.numHashTables: tables}).fit(frame) for tables in (1, 2)]
    print("begun", flush=True)
    while True:
        for model in models:
            model.write().overwrite().save(sys.argv[1])
"""


def test_killed_while_it_overwrites(tmp_path, kills):
    moments = random.Random(8)
    path, frame = tmp_path / "model", pa.table({"x": [[1.0, 2.0], [3.0, 1.0]]})
    lsh = BucketedRandomProjectionLSH(inputCol="x", outputCol="hashes", bucketLength=1.0)
    lsh.fit(frame).save(path)
    for _ in range(kills.of(5)):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(OVER_AND_OVER), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "begun\n"
        kills.kill(child, 0.1 * moments.random())
        model = BucketedRandomProjectionLSHModel.load(path)
        assert len(model.transform(frame)["hashes"][0]) == model.getNumHashTables()


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="Path does not exist: .*metadata"):
        BucketedRandomProjectionLSHModel.load(tmp_path / "nope")
    CASES["spark"].save(tmp_path / "lsh")
    (tmp_path / "lsh" / "metadata" / "part-00000").unlink()
    with pytest.raises(FileNotFoundError, match="Path does not exist: .*metadata"):
        BucketedRandomProjectionLSH.load(tmp_path / "lsh")


def test_another_class(frame, tmp_path):
    CASES["spark"].save(tmp_path / "lsh")
    with pytest.raises(
        ValueError,
        match="Error loading metadata: Expected class name "
        "org.apache.spark.ml.feature.BucketedRandomProjectionLSHModel but found class name "
        "org.apache.spark.ml.feature.BucketedRandomProjectionLSH$",
    ):
        BucketedRandomProjectionLSHModel.load(tmp_path / "lsh")
    CASES["cosine"].fit(frame).save(tmp_path / "model")
    with pytest.raises(ValueError, match="Expected class name lshjoin.ManhattanProjectionLSHModel"):
        ManhattanProjectionLSHModel.load(tmp_path / "model")


def test_layout_for_spark(frame, tmp_path):
    lsh = CASES["spark"]
    model = lsh.fit(frame)
    model.write().overwrite().save(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert files == ["data/part-00000.snappy.parquet"]
    assert (tmp_path / "data/_SUCCESS").exists()
    assert (tmp_path / "metadata/_SUCCESS").exists()
    (line,) = (tmp_path / "metadata/part-00000").read_text().splitlines()
    metadata = json.loads(line)
    assert isinstance(metadata.pop("timestamp"), int)
    assert metadata == {
        "class": "org.apache.spark.ml.feature.BucketedRandomProjectionLSHModel",
        "sparkVersion": "4.0.5",
        "uid": lsh.uid,
        "paramMap": {
            "inputCol": "features",
            "outputCol": "hashes",
            "numHashTables": 3,
            "bucketLength": 1.5,
        },
        "defaultParamMap": {"numHashTables": 1, "outputCol": f"{lsh.uid}__output"},
    }
    # As Spark 4.3.0 wrote it.
    file = pq.ParquetFile(tmp_path / "data/part-00000.snappy.parquet")
    int_list = "(List) { repeated group list { required int32 element; } }"
    expected = f"""required group schema {{
        optional group randUnitVectors {{
            required int32 type (Int(bitWidth=8, isSigned=true));
            required int32 numRows;
            required int32 numCols;
            optional group colPtrs {int_list}
            optional group rowIndices {int_list}
            optional group values {int_list.replace("int32", "double")}
            required boolean isTransposed;
        }}
    }}"""
    schema = str(file.schema).replace("field_id=-1 ", "").split("\n", 1)[1]
    assert schema.split() == expected.split()
    row_metadata = json.loads(file.metadata.metadata[b"org.apache.spark.sql.parquet.row.metadata"])
    (field,) = row_metadata["fields"]
    assert field["name"] == "randUnitVectors"
    assert field["type"]["class"] == "org.apache.spark.ml.linalg.MatrixUDT"
    (row,) = file.read().to_pylist()
    matrix = row["randUnitVectors"]
    assert (matrix["type"], matrix["numRows"], matrix["numCols"]) == (1, 3, 4)
    assert matrix["isTransposed"]
    np.testing.assert_allclose(np.linalg.norm(np.reshape(matrix["values"], (3, 4)), axis=1), 1)


@pytest.mark.parametrize("name", ["and", "manhattan", "cosine"])
def test_what_spark_cannot_express_has_a_class_of_ours(name, frame, tmp_path):
    CASES[name].save(tmp_path / "lsh")
    CASES[name].fit(frame).save(tmp_path / "model")
    for directory in ("lsh", "model"):
        metadata = json.loads((tmp_path / directory / "metadata/part-00000").read_text())
        assert metadata["class"].startswith("lshjoin.")
        assert "numHashFunctions" in metadata["paramMap"]
    table = pq.read_table(tmp_path / "model/data/part-00000.snappy.parquet")
    assert table.column_names == ["randUnitVectors", "offsets"]


def saved_by(directory, values, transposed, version, **metadata):
    """A model of 2 tables in 3 dimensions, written as Spark does."""
    (directory / "metadata").mkdir(parents=True)
    (directory / "data").mkdir()
    line = {
        "class": "org.apache.spark.ml.feature.BucketedRandomProjectionLSHModel",
        "timestamp": 1,
        "sparkVersion": version,
        "uid": "brp-lsh_1",
        "paramMap": {"inputCol": "features", "outputCol": "h", "bucketLength": 1.0},
        "defaultParamMap": {"numHashTables": 1, "outputCol": "brp-lsh_1__output"},
    }
    line["paramMap"]["numHashTables"] = 2
    text = json.dumps({**line, **metadata}) + "\n"
    (directory / "metadata" / "part-00000-5f0c-c000.txt").write_text(text)
    matrix = {"type": 1, "numRows": 2, "numCols": 3, "values": values, "isTransposed": transposed}
    table = pa.table({"randUnitVectors": [matrix]})
    # Spark may leave part files without rows.
    pq.write_table(table.slice(0, 0), directory / "data" / "part-00000-c000.snappy.parquet")
    pq.write_table(table, directory / "data" / "part-00001-c000.snappy.parquet")


@pytest.mark.parametrize(
    ("values", "transposed", "version"),
    [
        ([1.0, 2, 3, 4, 5, 6], True, "4.0.5"),
        ([1.0, 2, 3, 4, 5, 6], True, "3.2.0"),
        ([1.0, 4, 2, 5, 3, 6], False, "3.5.1"),
        ([1.0, 2, 3, 4, 5, 6], False, "3.1.3"),
        ([1.0, 2, 3, 4, 5, 6], False, "2.4.8"),
    ],
    ids=["rows", "rows-3.2", "columns", "mislabelled-3.1", "mislabelled-2.4"],
)
def test_matrices_of_spark(values, transposed, version, tmp_path):
    saved_by(tmp_path / "model", values, transposed, version)
    model = BucketedRandomProjectionLSHModel.load(tmp_path / "model")
    assert model.uid == "brp-lsh_1"
    hashes = model.transform(make_frame("polars", np.eye(3)))["h"].to_list()
    assert hashes == [[[1.0], [4.0]], [[2.0], [5.0]], [[3.0], [6.0]]]


def test_metadata_of_old_spark(tmp_path):
    saved_by(tmp_path / "model", [1.0] * 6, False, "2.3.0", defaultParamMap={})
    model = BucketedRandomProjectionLSHModel.load(tmp_path / "model")
    assert model.getNumHashTables() == 2
