"""The tests of lshjoin.spark on a cluster of two processes and over Spark Connect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

SOME = "sparse or test_nearest_join or to_a_key or name_the_row or comes_back or written_as"


@pytest.mark.skipif("LSHJOIN_SPARK" in os.environ, reason="it is elsewhere already")
@pytest.mark.skipif(
    bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
)
@pytest.mark.parametrize(
    ("spark", "tests"),
    [
        ("connect", ["test_on_spark.py", "-k", SOME]),
        ("local-cluster[2,1,1024]", ["test_lost_executor.py"]),
    ],
)
def test_elsewhere(spark, tests):
    """In a process of their own, as there is one Spark in each."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *tests],
        cwd=HERE,
        env=os.environ | {"LSHJOIN_SPARK": spark},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-10_000:])
    assert done.returncode == 0
    assert " passed" in done.stdout
    assert "no Java" not in done.stdout
