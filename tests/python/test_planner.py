"""The planner: recall as asked for, whichever way is taken there, and what is said of it."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from frames import make_frame
from lshjoin import (
    BucketedRandomProjectionLSH,
    JoinPlan,
    ManhattanProjectionLSH,
    knn_join,
    plan_knn_join,
    plot_plan,
    radius_join,
)
from test_plans import same

ROWS = 6_000
IVF = {"lists": 120, "probes": 1}


def clusters(rng, rows, dimensions, spread=1.0):
    centres = 3 * rng.standard_normal((150, dimensions))
    rows = centres[rng.integers(150, size=rows)]
    return (rows + spread * rng.standard_normal(rows.shape)).astype(np.float32)


def on_a_sphere(rng, rows, dimensions):
    rows = rng.standard_normal((rows, dimensions), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def descriptors(rng, rows, dimensions):
    return np.clip(np.rint(22 + 12 * clusters(rng, rows, dimensions)), 0, 255)


def with_duplicates(rng, rows, dimensions):
    values = clusters(rng, rows, dimensions)
    values[rng.choice(rows, rows // 10, replace=False)] = values[: rows // 10]
    return values


def with_huge_rows(rng, rows, dimensions):
    values = clusters(rng, rows, dimensions)
    values[rng.choice(rows, 5, replace=False)] *= 1e4
    return values


DATA = {
    "clusters": (clusters, 32),
    "wide": (clusters, 100),
    "sphere": (on_a_sphere, 64),
    "descriptors": (descriptors, 64),
    "duplicates": (with_duplicates, 32),
    "huge": (with_huge_rows, 32),
}


@pytest.fixture(scope="module", params=DATA)
def rows(request):
    make, dimensions = DATA[request.param]
    return make(np.random.default_rng(5), ROWS, dimensions)


def recall_of(result, items, queries, k):
    """Against brute force, on 300 random queries: centroids are learnt from every few rows."""
    count = len(items if queries is None else queries)
    asked = np.random.default_rng(1).choice(count, 300, replace=False)
    points = (items if queries is None else queries)[asked].astype(np.float64)
    truth = np.stack([((items - point) ** 2).sum(1) for point in points])
    if queries is None:
        truth[np.arange(len(asked)), asked] = np.inf
    furthest = np.sqrt(np.sort(truth, axis=1)[:, k - 1 : k])
    return (result.distances[asked] <= furthest * (1 + 1e-6) + 1e-6).mean()


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("two_sides", [False, True])
def test_recall_of_lists_is_as_asked_for_and_as_reported(rows, k, two_sides):
    items, queries = (rows[:5000], rows[:4500] + 0) if two_sides else (rows, None)
    for target in (0.8, 0.95):
        result = knn_join(queries, items, k, plan=JoinPlan.ivf(**IVF, until_recall=target))
        reported = result.report.recall
        assert reported.low <= reported.value <= reported.high
        assert reported.value >= target - 0.01
        # 300 rows tell the recall within three standard errors, at most.
        error = 3 * np.sqrt(target * (1 - target) / 300)
        assert recall_of(result, items, queries, k) >= target - 0.01 - error


def test_a_few_huge_rows_cost_nothing(rng):
    count = 16_000
    rows = clusters(rng, count, 32)
    plan = JoinPlan.ivf(**IVF, until_recall=0.9)
    before = knn_join(items=rows, k=10, plan=plan).report.pairs
    rows[rng.choice(count, 5, replace=False)] *= 1e4
    after = knn_join(items=rows, k=10, plan=plan).report.pairs
    assert after < 1.2 * before < count**2 / 4


@pytest.mark.parametrize("target", [0.8, 0.99])
def test_recall_of_what_is_planned(rows, target):
    result = knn_join(items=rows, k=10, recall=target)
    assert recall_of(result, rows, None, 10) >= target - 0.02
    assert result.plan == plan_knn_join(items=rows, k=10, recall=target)
    assert result.plan.predicted.recall.value >= target - 0.02
    assert same(result, knn_join(items=rows, k=10, plan=result.plan))


SCALAR = """
import sys
import numpy as np
from lshjoin import knn_join, plan_knn_join

rows = np.load(sys.argv[1])
result = knn_join(items=rows, k=10, recall=0.9)
assert plan_knn_join(items=rows, k=10, recall=0.9) == result.plan
print(result.plan.to_json())
np.savez(sys.argv[2], *result)
"""


@pytest.fixture(scope="module")
def planned_elsewhere(tmp_path_factory):
    """Rows, and what a slow machine plans and finds: there it pays to compare few pairs."""
    directory = tmp_path_factory.mktemp("elsewhere")
    rows = clusters(np.random.default_rng(6), 16_000, 48)
    np.save(directory / "rows.npy", rows)
    plan = subprocess.run(
        [sys.executable, "-c", SCALAR, directory / "rows.npy", directory / "found.npz"],
        env={"LSHJOIN_ISA": "scalar"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    with np.load(directory / "found.npz") as found:
        return rows, JoinPlan.from_json(plan), list(found.values())


def test_a_plan_is_the_same_elsewhere(planned_elsewhere):
    rows, plan, found = planned_elsewhere
    assert json.loads(plan.to_json())["plan"] == "ivf"
    for threads in (1, 2):
        again = knn_join(items=rows, k=10, plan=plan, num_threads=threads)
        assert same(again, found)
    assert recall_of(again, rows, None, 10) >= 0.87


def test_a_plan_says_what_to_expect(planned_elsewhere):
    rows, plan, _ = planned_elsewhere
    predicted = plan.predicted
    assert JoinPlan.from_json(plan.to_json()).predicted == predicted
    assert predicted.recall.value >= 0.89
    assert predicted.recall.low < predicted.recall.value < predicted.recall.high
    assert 0 < predicted.share < 0.5
    assert predicted.contrast > 1.2
    assert predicted.why.startswith("to compare all pairs would take ")
    # What it compares is what it said.
    report = knn_join(items=rows, k=10, plan=plan).report
    share = report.pairs / len(rows) ** 2
    assert predicted.share / 1.2 < share < 1.2 * predicted.share
    words = [line.split()[0] for line in str(plan).splitlines()]
    assert words == (
        ["lists", "probes", "rounds", "until", "recall", "pairs", "time", "memory", "why"]
    )


MEMORY = """
import sys
import numpy as np
from lshjoin import knn_join

def kilobytes(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

rows = np.load(sys.argv[1])
knn_join(items=rows[:6_000], k=10, recall=0.9)
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
before = kilobytes("VmRSS")
plan = knn_join(items=rows, k=int(sys.argv[3]), metric=sys.argv[2], recall=0.9).plan
print(plan.predicted.bytes / 1024 / (kilobytes("VmHWM") - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are set back by /proc")
@pytest.mark.parametrize(
    ("metric", "k"), [("euclidean", 10), ("euclidean", 100), ("cosine", 10), ("inner_product", 10)]
)
def test_as_much_memory_is_taken_as_was_said(metric, k, tmp_path, rng):
    rows = clusters(rng, 40_000, 96)
    rows[-4_000:] = rows[:4_000]
    np.save(tmp_path / "rows.npy", rows)
    command = [sys.executable, "-c", MEMORY, tmp_path / "rows.npy", metric, str(k)]
    said = float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    # Roughly: what was freed before is used again, by more or less of the peak.
    assert 0.7 < said < 1.4


def test_plans_that_do_the_same_are_equal(planned_elsewhere):
    plan = planned_elsewhere[1]
    bare = eval(repr(plan))
    assert bare.predicted is None
    assert (plan, hash(plan)) == (bare, hash(bare))
    assert "why" not in str(bare)
    with pytest.raises(FrozenInstanceError):
        plan.predicted = None


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (900, 2)])
def test_small_joins_are_exact_at_once(rng, shape):
    rows = rng.standard_normal(shape)
    plan = plan_knn_join(items=rows, k=3, recall=0.8)
    assert plan == JoinPlan.exact()
    assert (plan.predicted.why, plan.predicted.contrast) == ("a side is small", None)
    report = knn_join(items=rows, k=3, recall=0.8).report
    assert report.recall == (1.0, 1.0, 1.0, 0)
    assert report.pairs == shape[0] * (shape[0] - 1) // 2


def test_what_is_too_small_to_plan(rng):
    """Fewer items than 5,000, pairs than theirs with each other, or queries than 1,000."""
    rows = rng.standard_normal((30_000, 2))
    small = [(None, 4_999), (4_999, 5_000), (6_000, 4_999), (999, 30_000)]
    for (queries, items), is_small in [
        *((sides, True) for sides in small),
        *((sides, False) for sides in [(None, 6_000), (5_000, 5_000), (1_000, 30_000)]),
    ]:
        left = None if queries is None else rows[:queries]
        predicted = plan_knn_join(left, rows[:items], recall=0.8).predicted
        assert (predicted.why == "a side is small") == is_small, (queries, items)


def test_other_reasons_for_the_exact_plan(rng):
    rows = rng.standard_normal((5_100, 4))
    assert plan_knn_join(items=rows, recall=1.0).predicted.why == "all neighbours are asked for"
    manhattan = plan_knn_join(items=rows, recall=0.9, metric="manhattan")
    assert (manhattan, manhattan.predicted.why) == (
        JoinPlan.exact(),
        "this distance has no other plan",
    )


HARD = """
import numpy as np
from lshjoin import plan_knn_join

rows = np.random.default_rng(0).standard_normal((8_000, 200), dtype=np.float32)
print(plan_knn_join(items=rows, recall=0.95))
"""


def test_hard_data_is_said_to_be_hard():
    printed = subprocess.run(
        [sys.executable, "-c", HARD],
        env={"LSHJOIN_ISA": "scalar"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    assert printed.startswith("exact   all pairs are compared\n")
    assert "distances barely differ: a random item is only 1." in printed.splitlines()[-1]


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
def test_every_metric_is_planned(planned_elsewhere, metric):
    rows = planned_elsewhere[0]
    queries = rows[::2] + 0
    result = knn_join(queries, rows, 5, metric=metric, recall=0.9)
    plan = plan_knn_join(queries, rows, 5, metric=metric, recall=0.9)
    assert result.plan == plan
    exact = knn_join(queries, rows, 5, metric=metric, recall=1.0)
    near = exact.distances[:, -1:] + 1e-5 * np.abs(exact.distances[:, -1:])
    assert (result.distances <= near).mean() >= 0.89


def test_report(rows):
    plan = JoinPlan.lsh(axes=16, functions=6, tables=2, probes=3, rounds=1)
    report = knn_join(items=rows, k=5, plan=plan).report
    assert report.recall is None  # nothing is held out
    stages = ["duplicates", "codes", "key order", "tables", "neighbor passes", "finish"]
    assert list(report.seconds) == stages
    assert "not measured" in str(report)
    until = JoinPlan.lsh(axes=16, functions=6, tables=2, probes=3, rounds=1, until_recall=0.9)
    report = knn_join(items=rows, k=5, plan=until).report
    assert report.recall.value >= 0.89
    assert report.recall.rows > 80
    assert report.pairs > 0
    assert all(seconds >= 0 for seconds in report.seconds.values())
    lines = str(report).splitlines()
    assert [lines[0].split()[0], lines[1].split()[0]] == ["recall", "pairs"]
    assert lines[-1].startswith("total")


def test_planning_can_be_interrupted(rng):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan_knn_join(items=rng.standard_normal((6_000, 8)), recall=0.9, progress=stop)


def test_the_planner_refuses_what_the_join_refuses(rng):
    rows = rng.standard_normal((6_000, 8))
    rows[17, 3] = np.nan
    with pytest.raises(ValueError, match="row 17 of items holds NaN"):
        plan_knn_join(items=rows, recall=0.9)
    for text in ('{"plan": "exact", "predicted": 3}', '{"plan": "exact", "predicted": {}}'):
        with pytest.raises(ValueError, match="not a join plan"):
            JoinPlan.from_json(text)


def test_picture(planned_elsewhere):
    pytest.importorskip("matplotlib")
    rows = planned_elsewhere[0]
    for items in (rows[:100], rows):
        figure = plot_plan(items=items, k=10, recall=0.9)
        cost, distances = figure.axes
        assert cost.get_ylabel() == "recall"
        assert "chosen" in [text.get_text() for text in cost.get_legend().get_texts()]
        assert distances.get_xlabel() == "euclidean distance"


@pytest.mark.parametrize("estimator", [BucketedRandomProjectionLSH, ManhattanProjectionLSH])
def test_suggested_buckets_find_the_nearest(estimator):
    rows = clusters(np.random.default_rng(7), 3_000, 16)
    frame = make_frame("polars", rows)
    lsh = estimator.suggest(frame, numNearestNeighbors=5, recall=0.85)
    assert (lsh.getInputCol(), lsh.getSeed()) == ("features", 772209414)
    assert lsh.suggestion.recall.value >= 0.8
    assert 0 < lsh.suggestion.candidates < 50 * len(rows)
    model = lsh.fit(frame)
    truth = knn_join(rows[:200], rows, 6, metric=model.family, recall=1.0)
    found = [
        set(model.approxNearestNeighbors(frame, row, 6)["id"]) & set(near.tolist())
        for row, near in zip(rows, truth.indices, strict=False)
    ]
    assert sum(map(len, found)) / truth.indices.size >= 0.8


def test_suggested_buckets_find_what_is_within_a_threshold():
    rows = clusters(np.random.default_rng(8), 3_000, 16)
    frame = make_frame("pyarrow", rows)
    lsh = BucketedRandomProjectionLSH.suggest(frame, threshold=4.5, recall=0.9, seed=5)
    found = lsh.fit(frame).approxSimilarityJoin(frame, frame, 4.5)
    truth = radius_join(items=rows, radius=4.5)
    assert (len(found) - len(rows)) / len(truth.indices) >= 0.87
    assert lsh.getSeed() == 5


def test_suggestions_refuse_what_makes_no_sense(rng):
    frame = make_frame("polars", rng.standard_normal((50, 3)))
    suggest = BucketedRandomProjectionLSH.suggest
    for given in ({}, {"threshold": 1.0, "numNearestNeighbors": 3}):
        with pytest.raises(TypeError, match="either threshold or numNearestNeighbors"):
            suggest(frame, **given)
    with pytest.raises(ValueError, match="recall must be above 0 and below 1"):
        suggest(frame, numNearestNeighbors=3, recall=1.0)
    with pytest.raises(ValueError, match="threshold must be so large"):
        suggest(frame, threshold=1e-9)
    with pytest.raises(ValueError, match="cannot be less than 1"):
        suggest(frame, numNearestNeighbors=0)
    with pytest.raises(ValueError, match="duplicates"):
        suggest(make_frame("polars", np.ones((50, 3))), numNearestNeighbors=2)
