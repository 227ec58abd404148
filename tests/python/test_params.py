"""Parameters behave as PySpark's do."""

import copy
import pickle
from fractions import Fraction

import numpy as np
import pytest
from frames import make_frame, rows_of
from lshjoin import (
    BucketedRandomProjectionLSH,
    ManhattanProjectionLSH,
    RandomHyperplaneLSH,
)

ESTIMATORS = [BucketedRandomProjectionLSH, ManhattanProjectionLSH, RandomHyperplaneLSH]
BUCKETED = [BucketedRandomProjectionLSH, ManhattanProjectionLSH]


@pytest.fixture
def frame(rng):
    return make_frame("polars", rng.standard_normal((20, 3)))


def fitted(frame, **params):
    params = {"inputCol": "features", "bucketLength": 1.0, **params}
    return BucketedRandomProjectionLSH(**params).fit(frame)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_defaults(estimator):
    lsh = estimator()
    assert lsh.getNumHashTables() == 1
    assert lsh.getNumHashFunctions() == 1
    assert lsh.getSeed() == 772209414
    assert lsh.getOutputCol() == f"{lsh.uid}__output"
    prefix, _, suffix = lsh.uid.partition("_")
    assert prefix == estimator.__name__
    assert len(suffix) == 12
    assert repr(lsh) == lsh.uid
    assert not lsh.isDefined("inputCol")
    assert estimator().uid != lsh.uid


def test_arguments_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        BucketedRandomProjectionLSH("features")
    with pytest.raises(TypeError, match="positional"):
        BucketedRandomProjectionLSH().setParams("features")


def test_cosine_has_no_bucket_length():
    assert not RandomHyperplaneLSH().hasParam("bucketLength")
    with pytest.raises(TypeError, match="bucketLength"):
        RandomHyperplaneLSH(bucketLength=1.0)


@pytest.mark.parametrize("estimator", BUCKETED)
def test_set_and_get(estimator):
    given = {
        "inputCol": "a",
        "outputCol": "b",
        "seed": -7,
        "numHashTables": 3,
        "numHashFunctions": 2,
        "bucketLength": 0.5,
    }
    by_constructor = estimator(**given)
    by_set_params = estimator().setParams(**given)
    by_setters = estimator()
    for name, value in given.items():
        suffix = name[0].upper() + name[1:]
        assert getattr(by_setters, f"set{suffix}")(value) is by_setters
        for lsh in (by_constructor, by_set_params, by_setters):
            assert getattr(lsh, f"get{suffix}")() == value
            assert lsh.getOrDefault(name) == lsh.getOrDefault(getattr(lsh, name)) == value
    by_set_params.setParams(bucketLength=2.0)
    assert by_set_params.getNumHashTables() == 3


def test_introspection():
    lsh = BucketedRandomProjectionLSH(numHashTables=2)
    names = [param.name for param in lsh.params]
    assert names == [
        "bucketLength",
        "inputCol",
        "numHashFunctions",
        "numHashTables",
        "outputCol",
        "seed",
    ]
    assert lsh.hasParam("seed")
    assert not lsh.hasParam("nope")
    assert not lsh.hasParam("params")
    assert lsh.isSet(lsh.numHashTables)
    assert lsh.isSet("numHashTables")
    assert not lsh.isSet("seed")
    assert lsh.hasDefault("seed")
    assert not lsh.hasDefault("bucketLength")
    # Spark's own words.
    assert lsh.explainParam("numHashTables") == (
        "numHashTables: number of hash tables, where increasing number of hash tables lowers the "
        "false negative rate, and decreasing it improves the running performance. "
        "(default: 1, current: 2)"
    )
    assert lsh.explainParam(lsh.bucketLength) == (
        "bucketLength: the length of each hash bucket, a larger bucket lowers the false negative "
        "rate. (undefined)"
    )
    assert lsh.explainParams().splitlines() == [lsh.explainParam(name) for name in names]
    assert str(lsh.seed) == f"{lsh.uid}__seed"
    assert repr(lsh.seed) == f"Param(parent='{lsh.uid}', name='seed', doc='random seed.')"
    lsh.clear(lsh.numHashTables)
    assert lsh.getNumHashTables() == 1


def test_param_maps():
    lsh = BucketedRandomProjectionLSH(numHashTables=2)
    values = lsh.extractParamMap({lsh.bucketLength: 4.0})
    assert values[lsh.numHashTables] == 2
    assert values[lsh.bucketLength] == 4.0
    assert values[lsh.seed] == 772209414
    copied = lsh.copy({lsh.bucketLength: 4.0})
    assert copied.uid == lsh.uid
    assert copied.getBucketLength() == 4.0
    assert not lsh.isSet("bucketLength")
    copied.setNumHashTables(9)
    assert lsh.getNumHashTables() == 2


def test_fit_with_params(frame):
    lsh = BucketedRandomProjectionLSH(inputCol="features", bucketLength=1.0)
    assert lsh.fit(frame, {lsh.numHashTables: 3}).getNumHashTables() == 3
    assert lsh.getNumHashTables() == 1
    maps = [{lsh.numHashTables: 3}, {lsh.numHashTables: 4}]
    models = lsh.fit(frame, maps)
    assert [model.getNumHashTables() for model in models] == [3, 4]
    assert sorted(
        (index, model.getNumHashTables()) for index, model in lsh.fitMultiple(frame, maps)
    ) == [(0, 3), (1, 4)]
    with pytest.raises(TypeError, match="Params must be either a param map or a list/tuple"):
        lsh.fit(frame, 3)
    with pytest.raises(TypeError, match="Expecting a valid instance of Param"):
        lsh.fit(frame, {"numHashTables": 3})
    with pytest.raises(ValueError, match="does not belong to"):
        lsh.fit(frame, {BucketedRandomProjectionLSH().numHashTables: 3})


def test_model_surface(frame):
    lsh = BucketedRandomProjectionLSH(inputCol="features", bucketLength=1.0, numHashTables=2)
    model = lsh.fit(frame)
    assert model.uid == lsh.uid
    assert repr(model) == f"BucketedRandomProjectionLSHModel: uid={lsh.uid}, numHashTables=2"
    assert not model.hasParam("seed")
    assert model.getInputCol() == "features"
    assert model.getOutputCol() == f"{lsh.uid}__output"
    assert model.getNumHashFunctions() == 1
    assert model.keyModes == ["packed", "packed"]
    assert model.setInputCol("x").setOutputCol("y") is model
    assert (model.getInputCol(), model.getOutputCol()) == ("x", "y")
    # The estimator is another thing: what is set on one does not show in the other.
    assert lsh.getInputCol() == "features"
    copied = model.copy({model.outputCol: "z"})
    assert (copied.getOutputCol(), model.getOutputCol(), copied.uid) == ("z", "y", model.uid)


def test_transform_with_params(frame):
    model = fitted(frame)
    assert model.transform(frame, {model.outputCol: "other"}).columns[-1] == "other"
    with pytest.raises(TypeError, match="Params must be a param map but got"):
        model.transform(frame, [{}])


def test_bucket_length_of_a_copy_holds(frame, rng):
    narrow = fitted(frame, seed=5)
    wide = fitted(frame, seed=5, bucketLength=3.0)
    copied = narrow.copy({narrow.bucketLength: 3.0})
    for expected, model in ((wide, copied), (fitted(frame, seed=5), narrow)):
        ours = model.transform(frame)[model.getOutputCol()].to_list()
        assert ours == expected.transform(frame)[expected.getOutputCol()].to_list()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bucketLength", 0.0),
        ("bucketLength", -1.0),
        ("bucketLength", float("nan")),
        ("bucketLength", float("inf")),
        ("numHashTables", 0),
        ("numHashTables", 2**31),
        ("numHashFunctions", -1),
        ("seed", 2**63),
    ],
)
def test_values_out_of_range(name, value):
    lsh = BucketedRandomProjectionLSH()
    with pytest.raises(
        ValueError, match=f"^{lsh.uid} parameter {name} given invalid value {value}.$"
    ):
        lsh._set(**{name: value})
    with pytest.raises(ValueError, match=f"parameter {name} given invalid value"):
        BucketedRandomProjectionLSH(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "target"),
    [
        ("numHashTables", "a", "int"),
        ("numHashTables", 1.5, "int"),
        ("numHashTables", True, "int"),
        ("bucketLength", "wide", "float"),
        ("bucketLength", False, "float"),
        ("inputCol", 3, "string"),
    ],
)
def test_values_of_other_types(name, value, target):
    message = f'Invalid param value given for param "{name}". Could not convert .* to {target}'
    with pytest.raises(TypeError, match=message):
        BucketedRandomProjectionLSH(**{name: value})


def test_numpy_numbers_and_whole_floats():
    lsh = BucketedRandomProjectionLSH(
        numHashTables=np.int32(3), bucketLength=np.float32(0.5), seed=np.int64(2**62 + 1)
    )
    assert (lsh.getNumHashTables(), lsh.getBucketLength()) == (3, 0.5)
    assert lsh.getSeed() == 2**62 + 1
    assert BucketedRandomProjectionLSH(numHashTables=2.0, bucketLength=1).getBucketLength() == 1.0


def test_what_is_not_set(frame):
    lsh = BucketedRandomProjectionLSH(inputCol="features")
    with pytest.raises(KeyError, match="Failed to find a default value for bucketLength"):
        lsh.fit(frame)
    with pytest.raises(KeyError, match="Failed to find a default value for inputCol"):
        BucketedRandomProjectionLSH(bucketLength=1.0).fit(frame)
    with pytest.raises(ValueError, match="Cannot find param with name nope"):
        lsh.getOrDefault("nope")
    with pytest.raises(TypeError, match="paramName must be a string"):
        lsh.hasParam(3)
    with pytest.raises(TypeError, match="Cannot resolve 3 as a param"):
        lsh.isSet(3)


def test_same_seed_same_hashes(frame):
    def hashes(**params):
        model = fitted(frame, outputCol="h", **params)
        return model.transform(frame)["h"].to_list()

    assert hashes() == hashes(seed=772209414)
    assert hashes(seed=1, numHashTables=4) == hashes(seed=1, numHashTables=4)
    assert hashes(seed=1, numHashTables=4) != hashes(seed=2, numHashTables=4)


@pytest.mark.parametrize("name", ["numHashTables", "numHashFunctions", "seed", "bucketLength"])
def test_numbers_of_any_length(name):
    for digits in (400, 10_000):
        for value in (10**digits, -(10**digits), Fraction(10**digits, 3)):
            with pytest.raises(ValueError, match=f'param.* {name}|"{name}"') as caught:
                BucketedRandomProjectionLSH(**{name: value})
            assert len(str(caught.value)) < 300


COPIES = [lambda thing: pickle.loads(pickle.dumps(thing)), copy.copy, copy.deepcopy]


@pytest.mark.parametrize("again", COPIES, ids=["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_and_models_are_pickled_and_copied(estimator, again, kind, rng):
    frame = make_frame(kind, rng.standard_normal((30, 3)))
    lsh = estimator(inputCol="features", outputCol="h", seed=5, numHashTables=4)
    lsh.setNumHashFunctions(2)
    if estimator in BUCKETED:
        lsh.setBucketLength(1.5)
    copied = again(lsh)
    assert copied.explainParams() == lsh.explainParams()
    assert copied.uid == lsh.uid
    assert lsh.copy({copied.seed: 6}).getSeed() == 6
    assert (copied.setSeed(7).getSeed(), lsh.getSeed()) == (7, 5)
    model = lsh.fit(frame)
    same = again(model)
    assert same.explainParams() == model.explainParams()
    for use in (
        lambda model: model.transform(frame),
        lambda model: model.approxSimilarityJoin(frame, frame, 2.0),
    ):
        assert rows_of(use(same)) == rows_of(use(model))
        assert repr(rows_of(again(use(model)))) == repr(rows_of(use(model)))
    if estimator in BUCKETED:
        same.set(same.bucketLength, 3.0)
        assert model.getBucketLength() == 1.5
        model.set(model.bucketLength, 3.0)
        assert rows_of(same.transform(frame)) == rows_of(model.transform(frame))


def test_suggestions_are_pickled(rng):
    frame = make_frame("pandas", rng.standard_normal((300, 3)))
    lsh = BucketedRandomProjectionLSH.suggest(frame, numNearestNeighbors=3, recall=0.8)
    assert pickle.loads(pickle.dumps(lsh)).suggestion == lsh.suggestion
    with pytest.raises(ValueError, match="seed given invalid value 1000"):
        BucketedRandomProjectionLSH.suggest(frame, numNearestNeighbors=3, seed=10**400)
    with pytest.raises(ValueError, match="larger than any float"):
        BucketedRandomProjectionLSH.suggest(frame, threshold=10**400)
