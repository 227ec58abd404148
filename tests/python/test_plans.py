"""Plans: values that say what knn_join does, and recall as they promise."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
from lshjoin import JoinPlan, knn_join, plan_knn_join

NUMBERS = {"axes": 16, "functions": 6, "tables": 2, "probes": 3, "rounds": 1}
LSH = JoinPlan.lsh(**NUMBERS, until_recall=0.9)
IVF_NUMBERS = {"lists": 100, "probes": 3, "rounds": 1}
IVF = JoinPlan.ivf(**IVF_NUMBERS, until_recall=0.9)
PLANS = [
    JoinPlan.exact(),
    JoinPlan.lsh(**NUMBERS, seed=2**64 - 1),
    LSH,
    JoinPlan.ivf(**IVF_NUMBERS, seed=2**64 - 1),
    IVF,
]
PARTITIONS = JoinPlan.partitions(lists=100, probes=2.25, until_recall=0.9)
K = 10


@pytest.fixture(scope="module")
def clustered():
    """6,000 × 32: points around 300 centres, and so many more that are to be queries."""
    rng = np.random.default_rng(7)
    centres = 3 * rng.standard_normal((300, 32))
    rows = centres[rng.integers(300, size=6500)] + rng.standard_normal((6500, 32))
    return np.split(rows.astype(np.float32), [6000])


def brute_force(metric, items, queries=None):
    """The distances of the K nearest, in float64."""
    items = items.astype(np.float64)
    points = items if queries is None else queries.astype(np.float64)
    if metric == "inner_product":
        truth = -points @ items.T
    elif metric == "manhattan":
        truth = np.stack([np.abs(items - point).sum(1) for point in points])
    else:
        if metric == "cosine":
            items, points = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (items, points))
        squares = (points**2).sum(1)[:, None] + (items**2).sum(1)
        truth = np.maximum(squares - 2 * points @ items.T, 0)
        truth = np.sqrt(truth) if metric == "euclidean" else truth / 2
    if queries is None:
        np.fill_diagonal(truth, np.inf)
    return np.sort(np.partition(truth, K - 1, axis=1)[:, :K], axis=1)


def recall_of(result, truth):
    furthest = truth[:, -1:]
    return (result.distances <= furthest + 1e-5 * np.abs(furthest)).mean()


def same(result, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(result, other, strict=True))


def test_result_unpacks_and_has_the_plan(clustered):
    result = knn_join(items=clustered[0], k=K, plan=LSH)
    distances, indices = result
    assert (distances is result.distances, indices is result.indices) == (True, True)
    for other in (result, copy.copy(result), pickle.loads(pickle.dumps(result))):
        assert other.plan == LSH
        assert same(other, result)


@pytest.mark.parametrize("plan", [*PLANS, PARTITIONS])
def test_plans_are_values(plan):
    for other in (
        JoinPlan.from_json(plan.to_json()),
        JoinPlan.from_json(json.dumps(json.loads(plan.to_json()), indent=1, sort_keys=True)),
        eval(repr(plan)),
        pickle.loads(pickle.dumps(plan)),
    ):
        assert (other, hash(other), str(other)) == (plan, hash(plan), str(plan))
    plans = [*PLANS, PARTITIONS]
    assert len(set(plans)) == len({str(plan) for plan in plans}) == len(plans)
    with pytest.raises(AttributeError):
        plan._json = "{}"


def test_recall_is_written_and_read_exactly(rng):
    for recall in rng.uniform(size=200):
        plan = JoinPlan.lsh(**NUMBERS, until_recall=recall)
        assert json.loads(plan.to_json())["until_recall"] == recall
        assert JoinPlan.from_json(plan.to_json()) == plan


def test_words():
    assert str(JoinPlan.exact()) == "exact   all pairs are compared"
    lines = str(LSH).splitlines()
    assert [line.split()[0] for line in lines] == ["tables", "axes", "probes", "rounds", "until"]
    assert "recall 0.9 on held-out rows" in lines[-1]
    lines = str(IVF).splitlines()
    assert [line.split()[0] for line in lines] == ["lists", "probes", "rounds", "until"]
    assert "recall 0.9 on held-out rows" in lines[-1]


@pytest.mark.parametrize(
    ("metric", "two_sides"),
    [
        ("euclidean", False),
        ("euclidean", True),
        ("cosine", False),
        ("manhattan", True),
        ("inner_product", False),
        ("inner_product", True),
    ],
)
def test_recall(clustered, metric, two_sides):
    items, queries = clustered
    queries = queries if two_sides else None
    truth = brute_force(metric, items, queries)
    exact = knn_join(queries, items, K, metric=metric, recall=1.0)
    np.testing.assert_allclose(exact.distances, truth, rtol=1e-5, atol=1e-6)
    for target in (0.5, 0.8, 0.95):
        for plan in (
            JoinPlan.lsh(**NUMBERS, until_recall=target),
            JoinPlan.ivf(**IVF_NUMBERS, until_recall=target),
            JoinPlan.partitions(lists=100, probes=1, until_recall=target),
        ):
            result = knn_join(queries, items, K, metric=metric, plan=plan)
            assert recall_of(result, truth) >= target - 0.02


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_gives_the_same_result_again(clustered, plan, dtype):
    items, queries = (rows.astype(dtype) for rows in clustered)
    again = JoinPlan.from_json(plan.to_json())
    for left in (None, queries):
        first = knn_join(left, items, K, plan=plan, num_threads=1)
        assert same(first, knn_join(left, items, K, plan=again, num_threads=2))
        assert same(first, knn_join(left, items, K, plan=again))


def test_seeds_differ(clustered):
    for make, numbers in ((JoinPlan.lsh, NUMBERS), (JoinPlan.ivf, IVF_NUMBERS)):
        plans = [make(**{**numbers, "rounds": 0}, seed=seed) for seed in (0, 1)]
        assert not same(*(knn_join(items=clustered[0], k=K, plan=plan) for plan in plans))


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (2, 1), (40, 2)])
def test_a_plan_made_for_other_data(rng, plan, shape):
    items = rng.standard_normal(shape)
    for queries in (None, rng.standard_normal((5, shape[1]))):
        distances, indices = knn_join(queries, items, 3, plan=plan)
        assert distances.shape == indices.shape == (len(items if queries is None else queries), 3)
        assert (np.isinf(distances) == (indices == -1)).all()
        assert (np.diff(np.where(indices < 0, 1e9, distances), axis=1) >= 0).all()


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
def test_equal_rows(plan, metric):
    items = np.tile(np.arange(1, 9, dtype=np.float32), (1000, 1))
    distances, indices = knn_join(items=items, k=3, metric=metric, plan=plan)
    assert (distances == 0).all()
    assert (indices != np.arange(1000)[:, None]).all()
    assert (np.diff(np.sort(indices)) > 0).all()


@pytest.mark.parametrize("recall", [0, -0.5, 1.0000001, 95, np.nan, np.inf])
def test_recall_out_of_range(recall):
    rows = np.eye(3)
    message = "recall must be above 0 and at most 1, not "
    for call in (
        lambda: knn_join(items=rows, recall=recall),
        lambda: plan_knn_join(items=rows, recall=recall),
        lambda: JoinPlan.lsh(**NUMBERS, until_recall=recall),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("recall", ["0.9", True, [0.9], 0.9j])
def test_recall_of_the_wrong_type(recall):
    for call in (
        lambda: knn_join(items=np.eye(3), recall=recall),
        lambda: plan_knn_join(items=np.eye(3), recall=recall),
        lambda: JoinPlan.lsh(**NUMBERS, until_recall=recall),
    ):
        with pytest.raises(TypeError, match="Could not convert .* to float"):
            call()


def test_arguments_that_do_not_go_together():
    for given in ({"recall": 0.9}, {"seed": 1}, {"recall": 1.0, "seed": 0}):
        with pytest.raises(TypeError, match="either a plan or recall and seed"):
            knn_join(items=np.eye(3), plan=LSH, **given)
    for plan in (LSH.to_json(), "exact", 0.9):
        with pytest.raises(TypeError, match="plan must be a JoinPlan, not "):
            knn_join(items=np.eye(3), plan=plan)


def test_what_the_join_refuses_the_planner_refuses():
    for call in (knn_join, plan_knn_join):
        with pytest.raises(ValueError, match="metric must be "):
            call(items=np.eye(3), metric="euclid")
        with pytest.raises(ValueError, match="cannot be less than 1"):
            call(items=np.eye(3), k=0)
        with pytest.raises(ValueError, match=r"seed must be 0 to 2\*\*64 - 1, not -1"):
            call(items=np.eye(3), seed=-1)
        with pytest.raises(TypeError):
            call(items=np.eye(3), seed=0.5)
        with pytest.raises(TypeError, match="there is nothing to join"):
            call()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", -1, r"seed must be 0 to 2\*\*64 - 1, not -1"),
        ("seed", 2**64, r"seed must be 0 to 2\*\*64 - 1, not 18446744073709551616"),
        ("axes", 0, "axes must be at least 1, not 0"),
        ("functions", 0, "functions must be 1 to 64, not 0"),
        ("functions", 65, "functions must be 1 to 64, not 65"),
        ("tables", 0, "tables must be 1 to 1024, not 0"),
        ("probes", 0, "probes must be 1 to 1024, not 0"),
        ("probes", 1025, "probes must be 1 to 1024, not 1025"),
        ("tables", 1025, "tables must be 1 to 1024, not 1025"),
        ("tables", 2**64 - 1, "tables must be 1 to 1024, not 18446744073709551615"),
        ("rounds", -1, "rounds must be .*, not -1"),
        ("rounds", 65, "rounds must be at most 64, not 65"),
    ],
)
def test_numbers_out_of_range(name, value, message):
    with pytest.raises(ValueError, match=message):
        JoinPlan.lsh(**{**NUMBERS, name: value})
    text = json.dumps({**json.loads(LSH.to_json()), name: value})
    with pytest.raises(ValueError, match=f"{name} must be |not a join plan: invalid"):
        JoinPlan.from_json(text)
    with pytest.raises(TypeError):
        JoinPlan.lsh(**{**NUMBERS, name: 1.5})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", -1, r"seed must be 0 to 2\*\*64 - 1, not -1"),
        ("lists", 0, "lists must be 1 to 1048576, not 0"),
        ("lists", 1_048_577, "lists must be 1 to 1048576, not 1048577"),
        ("probes", 0, "probes must be at least 1, not 0"),
        ("probes", 0.99, "probes must be at least 1, not 0.99"),
        ("probes", math.nan, "probes must be at least 1, not NaN"),
        ("probes", math.inf, "probes must be at least 1, not inf"),
        ("rounds", 2**64 - 1, "rounds must be at most 64, not 18446744073709551615"),
    ],
)
def test_numbers_of_lists_out_of_range(name, value, message):
    with pytest.raises(ValueError, match=message):
        JoinPlan.ivf(**{**IVF_NUMBERS, name: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a join plan: EOF"),
        ("{}", "not a join plan: missing field `plan`"),
        ('{"plan": "best"}', "not a join plan: unknown variant `best`"),
        ('{"plan": "lsh"}', "not a join plan: missing field "),
        (LSH.to_json()[:-1] + ', "width": 3}', "not a join plan: unknown field `width`"),
        (LSH.to_json().replace("0.9", "NaN"), "not a join plan: expected value"),
        (LSH.to_json().replace("0.9", "1.5"), "until_recall must be above 0 and at most 1"),
        (LSH.to_json().replace("0.9", '"high"'), "not a join plan: invalid type"),
    ],
)
def test_wrong_json(text, message):
    with pytest.raises(ValueError, match=message):
        JoinPlan.from_json(text)


@pytest.mark.parametrize(
    "numbers",
    [{"axes": 2**64 - 1}, {"functions": 64}, {"probes": 1024}, {"rounds": 64}, {"seed": 1}],
    ids=str,
)
def test_extreme_numbers(rng, numbers):
    items = rng.standard_normal((500, 4)).astype(np.float32)
    plan = JoinPlan.lsh(**{**NUMBERS, **numbers}, until_recall=1.0)
    result = knn_join(items=items, k=K, plan=plan)
    assert recall_of(result, brute_force("euclidean", items)) == 1


def test_a_plan_of_more_buckets_than_items_compares_all(clustered):
    items = clustered[0][:1000]
    truth = brute_force("euclidean", items)
    numbers = {**NUMBERS, "tables": 1024, "probes": 1024, "functions": 64}
    for until in (None, 1.0):
        plan = JoinPlan.lsh(**numbers, until_recall=until)
        result = knn_join(items=items, k=K, plan=plan)
        assert result.report.recall.value == 1
        assert recall_of(result, truth) == 1


def test_a_long_name_is_not_repeated():
    for text in ('{"plan": "' + "x" * 10**6 + '"}', '{"' + "y" * 10**6 + '": 1}'):
        with pytest.raises(ValueError, match=r"not a join plan: ") as error:
            JoinPlan.from_json(text)
        assert len(str(error.value)) < 300
