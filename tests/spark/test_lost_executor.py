"""An executor that is killed in the middle of a join: the job ends with the same result."""

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


@pytest.mark.parametrize("join", ["similarity", "nearest"])
def test_the_result_is_the_same(spark, join, tmp_path):
    rng = np.random.default_rng(11)
    a, b = (frame(spark, clustered(3_000, 16, rng)) for _ in range(2))
    set_way(spark, SHUFFLED)
    ours = model(a, numHashTables=2, bucketLength=0.1)
    if join == "similarity":
        joined = ours.approxSimilarityJoin(a, b, 1.5)
    else:
        joined = ours.approxNearestNeighborsJoin(a, b, 5, recall=0.8)
    reset_way(spark)
    expected = pairs_of(joined)
    assert len(expected) > 3_000

    begun, go_on = tmp_path / "begun", tmp_path / "go on"

    def held(batches):  # each task of the stage that it is in, the last
        begun.touch()
        while not go_on.exists():
            time.sleep(0.1)
        yield from batches

    found = []
    last = joined.mapInArrow(held, joined.schema)
    job = threading.Thread(target=lambda: found.append(pairs_of(last)))
    before = executors()
    assert len(before) == 2
    job.start()
    wait_until(begun.exists)
    os.kill(before[0], signal.SIGKILL)
    go_on.touch()
    job.join()
    assert found == [expected]
    wait_until(lambda: len(executors()) == 2)
    assert executors() != before
