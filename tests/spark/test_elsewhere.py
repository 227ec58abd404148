"""lshjoin.spark on a cluster of two processes and over Spark Connect: the tests marked for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif("LSHJOIN_SPARK" in os.environ, reason="it is elsewhere already")
@pytest.mark.skipif(
    bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
)
@pytest.mark.parametrize(
    ("spark", "marked"), [("connect", "connect"), ("local-cluster[2,1,1024]", "cluster")]
)
def test_elsewhere(spark, marked):
    """In a process of their own, as there is one Spark in each."""
    import pyspark

    if spark == "connect" and pyspark.__version__ < "4":
        pytest.skip("Spark Connect not tested: PySpark has its server from 4.0 on")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-m", marked, "."],
        cwd=HERE,
        env=os.environ | {"LSHJOIN_SPARK": spark},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-10_000:])
    assert done.returncode == 0
    assert " passed" in done.stdout
    assert "no Java" not in done.stdout
