"""lshjoin.spark: the same answers as Spark's own, by each of its ways."""

import doctest
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from arrow_tables import from_arrow, to_arrow
from test_parity import SEED, assert_same_pairs, clustered

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.skipif(
        bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
    ),
]

# Small enough that some buckets of the data below are salted.
SHUFFLED = {"broadcastBytes": "0", "blockBytes": "300k"}
WAYS = [{}, SHUFFLED]

ELSEWHERE = [pytest.mark.connect, pytest.mark.cluster]


@pytest.fixture(params=WAYS, ids=["broadcast", "shuffled"])
def way(request, spark):
    set_way(spark, request.param)
    yield request.param
    reset_way(spark)


def reset_way(spark):
    for name in SHUFFLED:
        spark.conf.unset(f"spark.lshjoin.{name}")


def set_way(spark, way):
    for name, value in way.items():
        spark.conf.set(f"spark.lshjoin.{name}", value)


def estimators(**params):
    """Spark's estimator and ours, with the same parameters but for one that Spark has not."""
    from lshjoin.spark import BucketedRandomProjectionLSH as Ours
    from pyspark.ml.feature import BucketedRandomProjectionLSH as Theirs

    params = {"inputCol": "features", "outputCol": "hashes", "seed": SEED} | params
    both = {name: value for name, value in params.items() if name != "numHashFunctions"}
    return Theirs(**both), Ours(**params)


def frame(spark, rows, kind="dense"):
    """Columns ``id`` and ``features`` of the kind."""
    from pyspark.ml.functions import array_to_vector
    from pyspark.ml.linalg import Vectors

    if kind == "sparse":
        vectors = [
            Vectors.sparse(len(row), np.flatnonzero(row), row[row != 0])
            if at % 3
            else Vectors.dense(row)
            for at, row in enumerate(rows)
        ]
        return spark.createDataFrame(list(enumerate(vectors)), ["id", "features"])
    of = np.float32 if kind == "float" else np.float64
    lists = pa.array(list(np.asarray(rows, of)), pa.list_(pa.from_numpy_dtype(of)))
    table = from_arrow(spark, pa.table({"id": np.arange(len(rows)), "features": lists}))
    table = table.repartition(2)
    if kind == "dense":
        return table.select("id", array_to_vector("features").alias("features"))
    return table


def model(of, **params):
    return estimators(**params)[1].fit(of)


def hashes_of(hashed) -> np.ndarray:
    """(rows, tables), by id."""
    column = to_arrow(hashed.select("id", "hashes")).sort_by("id")["hashes"].combine_chunks()
    assert set(pc.list_value_length(column.flatten().field("values")).to_pylist()) == {1}
    return column.flatten().field("values").flatten().to_numpy().reshape(len(column), -1)


def pairs_of(joined) -> dict[tuple[int, int], float]:
    rows = joined.selectExpr("datasetA.id AS a", "datasetB.id AS b", "distCol").collect()
    pairs = {(row.a, row.b): row.distCol for row in rows}
    assert len(pairs) == len(rows), "a pair comes twice"
    return pairs


@pytest.mark.parametrize(
    ("kind", "count"),
    [("dense", 20_000), pytest.param("sparse", 3_000, marks=pytest.mark.connect)],
)
def test_hashes_and_pairs_are_those_of_spark(spark, kind, count):
    """Two dense sides, and a sparse one with itself; by a broadcast and a shuffle."""
    rng = np.random.default_rng(5)
    a, b = (clustered(count, 64, rng) for _ in range(2))
    if kind == "sparse":
        a = b = np.where(np.abs(a) > 0.8, a, 0)
    left = frame(spark, a, kind).cache()
    right = left if b is a else frame(spark, b, kind).cache()
    theirs, ours = (each.fit(left) for each in estimators(numHashTables=3, bucketLength=0.01))
    hashed, expected = ours.transform(left), theirs.transform(left)
    assert hashed.schema == expected.schema
    np.testing.assert_array_equal(hashes_of(hashed), hashes_of(expected))

    expected = theirs.approxSimilarityJoin(left, right, 2.5)
    pairs = pairs_of(expected)
    for way in WAYS:
        set_way(spark, way)
        joined = ours.approxSimilarityJoin(left, right, 2.5)
        assert joined.schema.simpleString() == expected.schema.simpleString()
        assert_same_pairs(pairs_of(joined), pairs, at_least=1_000)
    reset_way(spark)
    left.unpersist()
    right.unpersist()


def brute_force(queries, items, k):
    """Distances of the k nearest (queries, k)."""
    squares = (queries**2).sum(1)[:, None] + (items**2).sum(1) - 2 * queries @ items.T
    return np.sqrt(np.sort(squares.clip(0), axis=1)[:, :k])


def distances_of(joined, queries, items) -> np.ndarray:
    """(queries, k) of a k-NN join, after a look at what each pair says of itself."""
    pairs = pairs_of(joined)
    a, b = np.array(list(pairs)).T
    distance = np.array(list(pairs.values()))
    np.testing.assert_allclose(distance, np.linalg.norm(queries[a] - items[b], axis=1), rtol=1e-6)
    order = np.lexsort((distance, a))
    np.testing.assert_array_equal(a[order].reshape(len(queries), -1)[:, 0], np.arange(len(queries)))
    return distance[order].reshape(len(queries), -1)


@pytest.mark.parametrize("recall", [1.0, pytest.param(0.8, marks=pytest.mark.connect)])
def test_nearest_join(spark, way, recall):
    rng = np.random.default_rng(6)
    queries, items = clustered(600, 16, rng), clustered(3_000, 16, rng)
    items[100:200] = items[0]  # rows with one vector are neighbours like any others
    queries[:50] = items[0]
    a, b = frame(spark, queries), frame(spark, items)
    joined = model(a, bucketLength=1.0).approxNearestNeighborsJoin(a, b, 5, recall=recall)
    assert joined.columns == ["datasetA", "datasetB", "distCol"]
    assert joined.schema["datasetA"].dataType == a.schema
    assert joined.schema["datasetB"].dataType == b.schema
    expected = brute_force(queries, items, 5)
    found = distances_of(joined, queries, items)
    assert found.shape == expected.shape
    share = np.mean(found <= expected[:, -1:] + 1e-6)
    assert share >= recall
    again = model(a, bucketLength=1.0).approxNearestNeighborsJoin(a, b, 5, recall=recall)
    assert pairs_of(again) == pairs_of(joined)


def test_nearest_join_of_a_frame_with_itself_and_of_few_items(spark, way):
    rows = clustered(400, 8, np.random.default_rng(7))
    both, few = frame(spark, rows, "float"), frame(spark, rows[:3], "float")
    join = model(both, bucketLength=1.0).approxNearestNeighborsJoin
    itself = pairs_of(join(both, both, 1, distCol="distCol"))
    assert itself == {(row, row): 0.0 for row in range(400)}
    assert len(pairs_of(join(both, few, 10))) == 3 * 400
    assert join(both, few.where("id < 0"), 10).count() == 0
    assert join(few.where("id < 0"), both, 10).count() == 0


def test_only_the_columns_asked_for_are_fetched(spark, capsys):
    from pyspark.sql import functions as F

    set_way(spark, SHUFFLED)
    items = frame(spark, clustered(400, 8, np.random.default_rng(7)))
    queries = items.withColumn("text", F.concat(F.lit("unwanted"), F.col("id")))
    joined = model(items, bucketLength=1.0).approxNearestNeighborsJoin(queries, items, 1)
    reset_way(spark)
    for column, is_read in (("datasetA.id", False), ("datasetA.text", True)):
        joined.select(column, "distCol").explain()
        assert ("unwanted" in capsys.readouterr().out) == is_read


@pytest.mark.parametrize("kind", ["float", "double"])
def test_arrays_are_vectors_too(spark, way, kind):
    rows = clustered(2_000, 8, np.random.default_rng(8)).astype(np.float32).astype(np.float64)
    vectors, arrays = frame(spark, rows), frame(spark, rows, kind)
    params = {"numHashTables": 2, "bucketLength": 0.1}
    expected = pairs_of(model(vectors, **params).approxSimilarityJoin(vectors, vectors, 0.5))
    actual = pairs_of(model(arrays, **params).approxSimilarityJoin(arrays, arrays, 0.5))
    assert len(expected) > 2_000
    assert actual.keys() == expected.keys()
    np.testing.assert_allclose(
        [actual[pair] for pair in expected], list(expected.values()), rtol=0, atol=1e-6
    )


@pytest.mark.connect
def test_nearest_to_a_key_is_as_in_spark(spark):
    from pyspark.ml.linalg import Vectors

    rows = clustered(2_000, 16, np.random.default_rng(9))
    items = frame(spark, rows)
    theirs, ours = (each.fit(items) for each in estimators(numHashTables=2, bucketLength=0.5))
    for key in (Vectors.dense(rows[7] + 0.1), Vectors.sparse(16, [3], [2.0])):
        expected = theirs.approxNearestNeighbors(items, key, 10)
        actual = ours.approxNearestNeighbors(items, key, 10)
        assert actual.schema == expected.schema
        expected, actual = expected.collect(), actual.collect()
        assert [row.id for row in actual] == [row.id for row in expected]
        assert [row.hashes for row in actual] == [row.hashes for row in expected]
        np.testing.assert_allclose(
            [row.distCol for row in actual], [row.distCol for row in expected], rtol=1e-12
        )


@pytest.mark.cluster
def test_frames_that_are_hashed_already_keep_hashes_of(spark, way):
    rows = frame(spark, clustered(500, 8, np.random.default_rng(3)))
    ours = model(rows, bucketLength=0.5)
    hashed = ours.transform(rows)
    joined = ours.approxSimilarityJoin(hashed, rows, 1.0)
    assert joined.columns == ["datasetA", "datasetB", "distCol"]
    assert joined.schema["datasetA"].dataType.names == ["id", "features", "hashes"]
    assert pairs_of(joined) == pairs_of(ours.approxSimilarityJoin(rows, rows, 1.0))


@pytest.mark.parametrize(
    "action", ["transform", "similarity", pytest.param("nearest", marks=pytest.mark.connect)]
)
def test_errors_in_an_executor_name_the_row(spark, way, action):
    rows = np.ones((3_000, 4))
    bad = rows.copy()
    bad[1_234, 2] = np.nan
    good, bad = frame(spark, rows + np.random.default_rng(0).random(rows.shape)), frame(spark, bad)
    ours = model(good, bucketLength=1.0)
    do = {
        "transform": lambda: ours.transform(bad),
        "similarity": lambda: ours.approxSimilarityJoin(good, bad, 1.0),
        "nearest": lambda: ours.approxNearestNeighborsJoin(bad, good, 2),
    }
    with pytest.raises(Exception, match=r"NaN at dimension 2.*id=1234\b"):
        do[action]().count()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"bucketLength": -1.0}, "parameter bucketLength given invalid value -1.0."),
        ({"numHashTables": 0}, "parameter numHashTables given invalid value 0."),
        ({"bucketLength": "a"}, "Could not convert a to float"),
        ({"inputCol": "id"}, "Column id must be of type"),
        ({"inputCol": "none"}, "No such struct field `none`"),
        ({"outputCol": "id"}, "Column id already exists."),
        ({}, "Failed to find a default value for bucketLength"),
    ],
    ids=str,
)
def test_complaints_about_parameters(spark, params, words):
    good = {"bucketLength": 1.0} if params else {}
    rows = frame(spark, np.ones((2, 3)))
    with pytest.raises((KeyError, TypeError, ValueError), match=words):
        model(rows, **(good | params))


def test_complaints_about_calls(spark):
    rows = frame(spark, np.ones((2, 3)))
    ours = model(rows, bucketLength=1.0)
    with pytest.raises(ValueError, match="number of nearest neighbors cannot be less than 1"):
        ours.approxNearestNeighborsJoin(rows, rows, 0)
    with pytest.raises(ValueError, match="recall must be above 0 and at most 1, not 1.5"):
        ours.approxNearestNeighborsJoin(rows, rows, 1, recall=1.5)
    with pytest.raises(ValueError, match="A: 3, x: 2"):
        ours.approxNearestNeighbors(rows, [1.0, 2.0], 1)
    with pytest.raises(ValueError, match="Column datasetB already exists"):
        ours.approxSimilarityJoin(rows, rows, 1.0, distCol="datasetB")
    with pytest.raises(Exception, match=r"A: 3, x: 2.*id=0"):
        ours.transform(frame(spark, np.ones((1, 2)))).count()
    with pytest.raises(ValueError, match="cannot fit on an empty data frame"):
        model(rows.where("id < 0"), bucketLength=1.0)


def test_names_parameters_and_defaults_are_those_of_spark(spark):
    from pyspark.ml import Estimator, Model

    theirs, ours = estimators(bucketLength=2.0)
    assert isinstance(ours, Estimator)
    theirs._setDefault(seed=772209414)  # PySpark's own differs from one process to the next
    for param in theirs.params:
        expected = theirs.explainParam(param.name).replace(theirs.uid, ours.uid)
        assert ours.explainParam(param.name) == expected
    rows = frame(spark, np.ones((2, 3)))
    theirs, ours = theirs, ours.fit(rows)
    assert isinstance(ours, Model)
    fitted = theirs.fit(rows)
    java = {"clear", "estimateMatadataSize"}  # the latter's name is Spark's
    missing = {name for name in dir(fitted) if name[0] != "_"} - set(dir(ours)) - java
    assert missing == set()
    assert repr(ours).replace(ours.uid, "") == repr(fitted).replace(fitted.uid, "")
    copied = ours.copy({ours.outputCol: "other"})
    assert (copied.uid, copied.getOutputCol(), ours.getOutputCol()) == (ours.uid, "other", "hashes")


def test_param_maps_and_cross_validation(spark):
    from pyspark.ml import Pipeline
    from pyspark.ml.evaluation import Evaluator
    from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
    from pyspark.sql import functions as F

    class Hashes(Evaluator):
        def _evaluate(self, dataset):
            return float(dataset.select(F.max(F.size("hashes"))).first()[0])

    rows = frame(spark, clustered(60, 4, np.random.default_rng(0)))
    _, lsh = estimators(bucketLength=1.0)
    fitted = lsh.fit(rows, [{lsh.numHashTables: 2}, {lsh.numHashTables: 3}])
    assert [each.getNumHashTables() for each in fitted] == [2, 3]
    validator = CrossValidator(
        estimator=Pipeline(stages=[lsh]),
        estimatorParamMaps=ParamGridBuilder().addGrid(lsh.numHashTables, [4, 1]).build(),
        evaluator=Hashes(),
        numFolds=2,
    ).fit(rows)
    assert validator.avgMetrics == [4.0, 1.0]
    assert validator.bestModel.stages[0].getNumHashTables() == 4


@pytest.mark.connect
def test_a_pipeline_comes_back_with_its_stage(spark, saved):
    import lshjoin
    from lshjoin.spark import BucketedRandomProjectionLSH, BucketedRandomProjectionLSHModel
    from pyspark.ml import Pipeline, PipelineModel

    rows = frame(spark, clustered(50, 4, np.random.default_rng(0)))
    _, lsh = estimators(numHashTables=2, bucketLength=0.3)
    pipeline = Pipeline(stages=[lsh])
    pipeline.save(f"{saved}/estimator")
    assert isinstance(
        Pipeline.load(f"{saved}/estimator").getStages()[0], BucketedRandomProjectionLSH
    )
    fitted = pipeline.fit(rows)
    fitted.save(f"{saved}/model")
    loaded = PipelineModel.load(f"{saved}/model")
    assert isinstance(loaded.stages[0], BucketedRandomProjectionLSHModel)
    expected = fitted.transform(rows).orderBy("id").collect()
    assert loaded.transform(rows).orderBy("id").collect() == expected
    (stage,) = (saved / "model" / "stages").iterdir()
    without = lshjoin.BucketedRandomProjectionLSHModel.load(stage)
    assert without.getNumHashTables() == 2


@pytest.mark.parametrize("version", [pytest.param(None, marks=pytest.mark.connect), "3.1.3"])
def test_models_are_read_and_written_as_by_spark(spark, saved, version):
    from lshjoin.spark import BucketedRandomProjectionLSHModel as Ours
    from pyspark.ml.feature import BucketedRandomProjectionLSHModel as Theirs

    rows = frame(spark, clustered(200, 5, np.random.default_rng(0)))
    theirs, ours = (each.fit(rows) for each in estimators(numHashTables=4, bucketLength=0.3))
    expected = hashes_of(theirs.transform(rows))
    ours.save(f"{saved}/ours")
    with pytest.raises(FileExistsError, match="already exists. To overwrite it, please use"):
        ours.save(f"{saved}/ours")
    ours.write().overwrite().save(f"{saved}/ours")
    loaded = Theirs.load(f"{saved}/ours")
    assert (loaded.uid, loaded.getBucketLength()) == (ours.uid, 0.3)
    np.testing.assert_array_equal(hashes_of(loaded.transform(rows)), expected)

    theirs.save(f"{saved}/theirs")
    if version:
        as_if_written_by(version, saved / "theirs")
    loaded = Ours.load(f"{saved}/theirs")
    assert (loaded.uid, loaded.getOutputCol()) == (theirs.uid, "hashes")
    np.testing.assert_array_equal(hashes_of(loaded.transform(rows)), expected)
    with pytest.raises(ValueError, match="Expected class name .* but found class name"):
        type(estimators()[1]).load(f"{saved}/theirs")


def as_if_written_by(version, model):
    """Spark 3.1 and earlier put row after row, too, but said that they were columns."""
    (metadata,) = (model / "metadata").glob("part-*")
    text = re.sub(r'"sparkVersion":"[^"]*"', f'"sparkVersion":"{version}"', metadata.read_text())
    for checksum in model.glob("*/.*.crc"):
        checksum.unlink()
    metadata.write_text(text)
    (data,) = (model / "data").glob("part-*")
    table = pq.read_table(data)
    (row,) = table.to_pylist()
    assert row["randUnitVectors"].pop("isTransposed") is True
    row["randUnitVectors"]["isTransposed"] = False
    pq.write_table(pa.Table.from_pylist([row], table.schema), data)


def test_examples(spark):
    import lshjoin.spark.lsh

    results = doctest.testmod(lshjoin.spark.lsh, extraglobs={"spark": spark})
    assert (results.failed, results.attempted > 10) == (0, True)


def workers() -> dict[int, int]:
    """The Python workers that descend from this process, and the processor time that each took."""
    parents, times, daemons = {}, {}, set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid = int(status.parent.name)
            fields = status.read_text().rsplit(") ", 1)[1].split()
            if "pyspark.daemon" in Path(status.parent, "cmdline").read_text():
                daemons.add(pid)
        except OSError:  # it has ended
            continue
        parents[pid], times[pid] = int(fields[1]), int(fields[11])

    def is_ours(pid) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return {pid: times[pid] for pid in daemons if parents[pid] in daemons and is_ours(pid)}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to see workers in")
def test_cancelling_a_job_ends_the_native_work(spark):
    """All pairs of 400,000 rows take minutes: long after the job is cancelled."""
    if not hasattr(spark, "sparkContext"):
        pytest.skip("by the context of classic Spark")
    from pyspark.sql import functions as F

    numbers = spark.range(400_000).select(
        F.array(*[F.rand(at) for at in range(16)]).alias("features")
    )
    items = numbers.limit(100_000).cache()
    few = items.limit(1)
    join = model(few, bucketLength=1.0).approxNearestNeighborsJoin(numbers, items, 10)
    tracker = spark.sparkContext.statusTracker()
    raised = []

    def run():
        try:
            join.count()
        except Exception as error:
            raised.append(error)

    job = threading.Thread(target=run)
    job.start()
    wait_until(lambda: tracker.getActiveStageIds())
    before = workers()

    def busy() -> set[int]:
        """Those that have computed for two seconds since: longer than all there is but the join."""
        return {pid for pid, ticks in workers().items() if ticks - before.get(pid, 0) > 200}

    wait_until(busy)
    at_work = busy()
    spark.sparkContext.cancelAllJobs()
    job.join()
    assert raised
    wait_until(lambda: not at_work & workers().keys())


def wait_until(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)
