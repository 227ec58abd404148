"""An executor that is killed in the middle of a join: the job ends with the same result."""

import importlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from test_on_spark import (
    SHUFFLED,
    clustered,
    frame,
    model,
    pairs_of,
    reset_way,
    set_way,
    wait_until,
)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        not os.environ.get("LSHJOIN_SPARK", "").startswith("local-cluster"),
        reason="needs executors in processes of their own; test_elsewhere has them",
    ),
]


def executors() -> list[int]:
    """Processes of executors that descend from this one."""
    parents, found = {}, []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid = int(status.parent.name)
            parents[pid] = int(status.read_text().rsplit(") ", 1)[1].split()[1])
            command = Path(status.parent, "cmdline").read_text()
        except OSError:  # it has ended
            continue
        if "CoarseGrainedExecutorBackend" in command and "/java" in command.split("\0")[0]:
            found.append(pid)

    def is_ours(pid) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return sorted(filter(is_ours, found))


# Each plans, and gives what runs by that plan. (Another plan finds other neighbours: it is made of
# a sample, whose rows come out of a cluster in any order.)


def similarity(a, b, monkeypatch):
    joined = model(a, numHashTables=2, bucketLength=0.1).approxSimilarityJoin(a, b, 1.5)
    return lambda hold: pairs_of(hold(joined))


def nearest(a, b, monkeypatch):
    joined = model(a, bucketLength=0.1).approxNearestNeighborsJoin(a, b, 5, recall=0.8)
    return lambda hold: pairs_of(hold(joined))


def nearest_by(a, b, monkeypatch):
    from lshjoin.spark import nearest_by_join

    found = nearest_by_join(a, b, "features", "features", 5, recall=0.8)
    ids = found.toDF("a", "of_a", "b", "of_b").select("a", "b")
    return lambda hold: sorted(map(tuple, hold(ids).collect()))


def dedup(a, b, monkeypatch):
    """Which does its work when it is called: what is held is the join of the blocks."""
    # Of the package's two things of this name the module.
    module = importlib.import_module("lshjoin.spark.dedup")
    components = module.connected_components
    rows = a.union(b.selectExpr("id + 10000", "features"))

    def run(hold):
        monkeypatch.setattr(module, "connected_components", lambda edges: components(hold(edges)))
        return sorted(map(tuple, module.dedup(rows, 1.0, "id").collect()))

    return run


@pytest.mark.parametrize("join", [similarity, nearest, nearest_by, dedup])
def test_the_result_is_the_same(spark, join, tmp_path, monkeypatch):
    rng = np.random.default_rng(11)
    a, b = (frame(spark, clustered(3_000, 16, rng)) for _ in range(2))
    begun, go_on = tmp_path / "begun", tmp_path / "go on"

    def held(batches):  # each task of the stage that it is in, the last
        begun.touch()
        while not go_on.exists():
            time.sleep(0.1)
        yield from batches

    def hold(rows):
        return rows.mapInArrow(held, rows.schema)

    found = []
    spark.sparkContext.setCheckpointDir(str(tmp_path / "checkpoints"))
    set_way(spark, SHUFFLED)
    try:
        run = join(a, b, monkeypatch)
        expected = run(lambda rows: rows)
        assert len(expected) > 3_000
        job = threading.Thread(target=lambda: found.append(run(hold)))
        before = executors()
        assert len(before) == 2
        job.start()
        wait_until(begun.exists)
        os.kill(before[0], signal.SIGKILL)
        go_on.touch()
        job.join()
    finally:
        reset_way(spark)
        spark.sparkContext._jsc.sc().setCheckpointDir(None)
    assert found == [expected]
    wait_until(lambda: len(executors()) == 2)
    assert executors() != before
