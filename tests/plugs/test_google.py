"""Files on Google's storage, as an emulator of it has them here.

In a process of its own: pyarrow holds the interpreter's lock while it waits for an answer.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from lshjoin import knn_join_files, open_dataset

COMMAND = Path(sys.executable).with_name("gcp-storage-emulator")
if not COMMAND.exists():
    pytest.skip("gcp-storage-emulator is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def options():
    """Of a URL, which lead to the emulator."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    words = ["start", "--host=localhost", f"--port={port}", "--in-memory"]
    emulator = subprocess.Popen([COMMAND, *words, "--default-bucket=bucket"])
    yield f"endpoint_override=localhost:{port}&scheme=http"
    emulator.send_signal(signal.SIGTERM)
    emulator.wait()


def test_a_join(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).standard_normal((3_000, 8)).astype(np.float32)
    google, _ = pafs.FileSystem.from_uri(f"gs://anonymous@bucket/?{options}")
    for day in range(2):
        half = rows[day * 1_500 : (day + 1) * 1_500]
        table = pa.table({"vector": list(half)})
        pq.write_table(table, f"bucket/the items/day={day}/a.parquet", filesystem=google)

    items = f"gs://anonymous@bucket/the items?{options}"
    np.testing.assert_array_equal(open_dataset(items, "vector").read(), rows)
    by_url = knn_join_files(items, k=2, out=f"gs://anonymous@bucket/by_url.parquet?{options}")
    there = knn_join_files(
        "bucket/the items", k=2, out="gs://bucket/there.parquet", filesystem=google
    )
    assert by_url.out == "gs://bucket/by_url.parquet"
    found = [
        pq.read_table(f"bucket/{name}.parquet", filesystem=google) for name in ("by_url", "there")
    ]
    assert found[0].num_rows == there.pairs == 6_000
    assert found[0].equals(found[1])
    with pytest.raises(FileExistsError, match=r"gs://bucket/there\.parquet exists already"):
        knn_join_files("bucket/the items", out="gs://bucket/there.parquet", filesystem=google)
    assert os.listdir() == []


def test_no_answer_is_an_error(options):
    nowhere = options.replace("localhost:", "localhost:1")  # a port above all that there are
    with pytest.raises(OSError, match=r"gs://bucket/a\.parquet could not be reached"):
        open_dataset(f"gs://anonymous@bucket/a.parquet?{nowhere}&retry_limit_seconds=1")
