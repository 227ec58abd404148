"""Joins of files on S3, as moto's server has it here, and with its faults."""

import os
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from frames import arrow_vectors
from lshjoin import JoinPlan, command_line, knn_join_files, open_dataset, radius_join_files
from lshjoin.files import plan as files_plan

pytest.importorskip("moto", reason="moto, an S3 of one's own, is not installed")
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

ROWS = 12_000
#: Too little for these rows, with Python not counted.
LIMIT = 2_500_000


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


class Server:
    """An S3 on this machine, of which requests can fail."""

    def __init__(self):
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self.address = f"127.0.0.1:{self._server.port}"
        self.fault = None  #: of a request, and the application: an answer, or None for the usual
        self.faults = 0  #: how many are still to come
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __call__(self, request, answer):
        if self.faults > 0 and (body := self.fault(request, answer, self._app)) is not None:
            self.faults -= 1
            return body
        return self._app(request, answer)

    def fail(self, fault, times=10**9):
        self.fault, self.faults = fault, times

    def filesystem(self, **options):
        options |= {"region": "us-east-1", "access_key": "k", "secret_key": "s"}
        return pafs.S3FileSystem(endpoint_override=self.address, scheme="http", **options)

    def url(self, path):
        return f"s3://k:s@{path}?endpoint_override={self.address}&scheme=http"

    def close(self):
        self._server.shutdown()


def refused(request, answer, _):
    answer("500 Internal Server Error", [("Content-Length", "0")])
    return [b""]


def refused_parts(request, answer, app):
    return refused(request, answer, app) if request["REQUEST_METHOD"] == "PUT" else None


def cut(request, answer, app):
    """Half of what is read of a file, after which the connection ends."""
    if request["REQUEST_METHOD"] != "GET" or "list-type" in request["QUERY_STRING"]:
        return None
    body = b"".join(app(request, answer))
    return [body[: len(body) // 2]]


def slow(request, answer, app):
    """As it is, but later."""
    time.sleep(0.02)
    return app(request, answer)


@pytest.fixture(scope="module")
def server():
    server = Server()
    server.filesystem(allow_bucket_creation=True).create_dir("bucket")
    yield server
    server.close()


@pytest.fixture
def s3(server):
    """Which tries each request twice; with nothing but the bucket in it."""
    server.fail(None, 0)
    s3 = server.filesystem(retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=2))
    s3.delete_dir_contents("bucket")
    return s3


@pytest.fixture
def data(s3, tmp_path, monkeypatch):
    """A folder, which S3 has, too; the working directory is another one."""
    monkeypatch.setattr(files_plan, "_BASE", 0)
    monkeypatch.setattr(files_plan, "_BATCH", (1 << 16, 1 << 20))
    rows = np.random.default_rng(5).standard_normal((ROWS, 16)).astype(np.float32)
    for number in range(3):
        part = slice(number * ROWS // 3, (number + 1) * ROWS // 3)
        folder = tmp_path / "data" / f"part={number} of 3"
        folder.mkdir(parents=True)
        table = pa.table({"id": range(ROWS)[part], "v": arrow_vectors(rows[part])})
        pq.write_table(table, folder / "a.parquet", row_group_size=1300)
    pafs.copy_files(str(tmp_path / "data"), "bucket/data", destination_filesystem=s3)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "data"


def names(s3):
    found = s3.get_file_info(pafs.FileSelector("bucket", recursive=True))
    return sorted(info.path for info in found if info.is_file and "bucket/data" not in info.path)


def read(s3, path):
    table = pq.read_table(path, filesystem=s3)
    return table.sort_by([("query", "ascending"), ("distance", "ascending")])


@pytest.mark.parametrize(
    ("fault", "limit"),
    [(None, None), (slow, None), (cut, None), (None, LIMIT), (cut, LIMIT), (refused, LIMIT)],
)
def test_the_same_pairs(fault, limit, data, s3, server):
    """In memory and out of core; and if a request fails, which is tried again."""
    plan = JoinPlan.partitions(lists=40, probes=4)
    options = {"k": 3, "id_column": "id", "plan": plan, "memory_limit": limit}
    here = knn_join_files(data, **options, out="here.parquet")
    assert here.plan.out_of_core == (limit is not None)
    server.fail(fault, {None: 0, slow: 10**9}.get(fault, 1))
    there = knn_join_files(
        "bucket/data", **options, out="s3://bucket/deep/there.parquet", filesystem=s3
    )
    assert server.faults == 0 or fault is slow
    assert (there.pairs, there.out) == (here.pairs, "s3://bucket/deep/there.parquet")
    assert read(s3, "bucket/deep/there.parquet").equals(read(None, "here.parquet"))
    assert names(s3) == ["bucket/deep/there.parquet"]
    assert os.listdir() == ["here.parquet"]


@pytest.mark.parametrize("fault", [refused, cut])
def test_what_can_not_be_read_leaves_nothing(fault, data, s3, server):
    dataset = open_dataset("bucket/data", filesystem=s3)
    server.fail(fault)
    with pytest.raises(OSError, match=r"s3|bucket"):
        radius_join_files("bucket/data", radius=0.5, out="out.parquet", filesystem=s3)
    with pytest.raises(
        OSError, match=r"bucket/data/part=0 of 3/a.parquet could not be read: .*AWS"
    ):
        dataset.read()
    assert os.listdir() == []


def test_what_can_not_be_written_goes_on(data, s3, server):
    server.fail(refused_parts)
    options = {"k": 2, "out": "s3://bucket/k.parquet", "filesystem": s3}
    with pytest.raises(OSError, match="s3://bucket/k.parquet could not be written: .*AWS Error"):
        knn_join_files("bucket/data", **options)
    assert names(s3) == []
    assert os.listdir() == ["k.parquet.work"]
    server.fail(None, 0)
    assert knn_join_files("bucket/data", **options).pairs == 2 * ROWS
    assert names(s3) == ["bucket/k.parquet"]
    assert os.listdir() == []


def test_urls(data, s3, server, capsys):
    words = ["knn", server.url("bucket/data"), "-k", "1", "--id-column", "part", "--json"]
    words += ["--out", server.url("bucket/k.parquet")]
    assert command_line.run(words) == 0
    printed = capsys.readouterr()
    assert '"out": "s3://bucket/k.parquet"' in printed.out
    assert set(read(s3, "bucket/k.parquet")["item"].to_pylist()) == {
        f"{number} of 3" for number in range(3)
    }
    assert command_line.run(words) == command_line.REFUSED
    printed = capsys.readouterr()
    assert "s3://bucket/k.parquet exists already" in printed.err
    assert "k:s" not in printed.err  # the password


def test_patterns(data, s3):
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    for pattern, rows in (
        ("*/a.parquet", ROWS),
        ("**/*.parquet", ROWS),
        ("part=[01]*", 2 * ROWS // 3),
    ):
        dataset = open_dataset(f"bucket/data/{pattern}", filesystem=s3)
        assert len(dataset) == rows
    with pytest.raises(FileNotFoundError, match=r"match of the pattern bucket/none/\*"):
        open_dataset("bucket/none/*", filesystem=s3)


def test_another_library_of_s3(data, s3, server):
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    other = s3fs.S3FileSystem(
        key="k", secret="s", endpoint_url=f"http://{server.address}", skip_instance_cache=True
    )
    options = {"k": 2, "memory_limit": None}
    there = knn_join_files("bucket/data", **options, out="s3://bucket/k.pq", filesystem=other)
    here = knn_join_files(data, **options, out="here.parquet")
    assert there.pairs == here.pairs
    assert read(s3, "bucket/k.pq").equals(read(None, "here.parquet"))
    assert names(s3) == ["bucket/k.pq"]
    known = open_dataset("bucket/data", filesystem=other).identity
    assert open_dataset("bucket/data", filesystem=other).identity == known
    pq.write_table(pa.table({"v": [[0.0] * 16]}), "bucket/data/new.parquet", filesystem=s3)
    other.invalidate_cache()
    assert open_dataset("bucket/data", filesystem=other).identity != known
