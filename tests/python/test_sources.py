"""Sources that are more than files here: other filesystems, tables, folders that say a column."""

import importlib.util
import os

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from frames import arrow_vectors
from lshjoin import (
    NotFiniteError,
    OtherJobError,
    build_index,
    dedup_files,
    knn_join_files,
    open_dataset,
    plan_knn_join_files,
    query_index,
    radius_join_files,
)
from lshjoin.base.places import place

ROWS = 60


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((ROWS, 4)).astype(np.float32)


@pytest.fixture
def table(vectors):
    """Whose order is not that of its ids."""
    ids = [f"ä{n * 7 % ROWS}" for n in range(ROWS)]
    return pa.table({"id": ids, "text": ["x"] * ROWS, "v": arrow_vectors(vectors)})


@pytest.fixture
def folder(table, tmp_path, monkeypatch):
    """Two days and a file of each kind; the working directory is another one."""
    folder = tmp_path / "store" / "data"
    for number, day in enumerate(("day=1", "day=12")):
        (folder / day).mkdir(parents=True)
        part = table.slice(number * 30, 30)
        pq.write_table(part.slice(0, 10), folder / day / "a.parquet", row_group_size=7)
        with pa.ipc.new_file(folder / day / "b.arrow", table.schema) as file:
            file.write_table(part.slice(10, 10), max_chunksize=3)
        np.save(folder / day / "c.npy", open_table_vectors(part.slice(20, 10)))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def open_table_vectors(table):
    return np.stack(table["v"].to_numpy(zero_copy_only=False))


@pytest.fixture
def faulty(tmp_path):
    (tmp_path / "store").mkdir(exist_ok=True)
    return Faulty(str(tmp_path / "store"), pafs.LocalFileSystem())


@pytest.fixture
def elsewhere(tmp_path):
    """A filesystem of pyarrow that is not this machine's, for all that it tells."""
    (tmp_path / "store").mkdir(exist_ok=True)
    return pafs.SubTreeFileSystem(str(tmp_path / "store"), pafs.LocalFileSystem())


def pairs_of(path):
    table = pq.read_table(path).sort_by([("query", "ascending"), ("distance", "ascending")])
    return table.to_pydict()  # strings are strings, in polars of another type


def test_the_same_rows_from_elsewhere(folder, elsewhere, vectors):
    here, there = open_dataset(folder), open_dataset("data", filesystem=elsewhere)
    assert np.array_equal(here.read(), vectors)
    assert np.array_equal(there.read(), vectors)
    assert [str(file.path) for file in there.files] == [
        file.path.relative_to(folder.parent).as_posix() for file in here.files
    ]
    for start, stop in ((0, 1), (9, 31), (25, 60), (59, 60)):
        assert np.array_equal(there.read(start, stop), vectors[start:stop])
    assert [len(batch.vectors) for batch in there.batches(7)] == [7] * 8 + [4]
    one = open_dataset("any://data/day=1/c.npy", filesystem=elsewhere)
    assert np.array_equal(one.read(), vectors[20:30])


def test_what_a_folder_says_is_an_id(folder, elsewhere):
    for source, filesystem in ((folder, None), ("data", elsewhere)):
        dataset = open_dataset(source, id_column="day", filesystem=filesystem)
        assert dataset.id_type == pa.int64()
        assert pa.chunked_array(list(dataset.ids())).to_pylist() == [1] * 30 + [12] * 30
    found = knn_join_files(folder / "day=1", folder / "day=12", k=1, out="o.pq", id_column="day")
    assert pq.read_table(found.out)["query"].unique().to_pylist() == [1]
    assert pq.read_table(found.out)["item"].unique().to_pylist() == [12]
    (folder / "day=1").rename(folder / "day=last%20one")
    days = pa.chunked_array(list(open_dataset(folder, id_column="day").ids()))
    assert days.unique().to_pylist() == ["12", "last one"]
    (folder / "day=12").rename(folder / "day=__HIVE_DEFAULT_PARTITION__")
    with pytest.raises(ValueError, match=r"day=__H.*column day is null in row 0"):
        list(open_dataset(folder, id_column="day").ids())
    with pytest.raises(ValueError, match=r"a.parquet has no column night"):
        open_dataset(folder, id_column="night")


def test_a_column_goes_before_what_a_folder_says(table, tmp_path):
    (tmp_path / "id=5").mkdir()
    pq.write_table(table, tmp_path / "id=5" / "a.parquet")
    ids = pa.chunked_array(list(open_dataset(tmp_path, id_column="id").ids()))
    assert ids.to_pylist() == table["id"].to_pylist()


def test_joins_from_and_to_elsewhere(folder, elsewhere):
    args = {"id_column": "day", "filesystem": elsewhere}
    for join, options in ((knn_join_files, {"k": 3}), (radius_join_files, {"radius": 1.5})):
        here = join(folder, **options, out="here.parquet", id_column="day")
        there = join("data", **options, out="any://out/deep/there.parquet", **args)
        assert there.out == "any://out/deep/there.parquet"
        assert there.pairs == here.pairs > 0
        with elsewhere.open_input_file("out/deep/there.parquet") as file:
            assert pairs_of(file) == pairs_of(here.out)
        with pytest.raises(FileExistsError, match="any://out/deep/there.parquet exists already"):
            join("data", **options, out="any://out/deep/there.parquet", **args)
        elsewhere.delete_dir("out")
        here.out.unlink()
    assert plan_knn_join_files("data", filesystem=elsewhere).items == ROWS
    deduplicated = dedup_files("data", 1.0, out="any://d.parquet", filesystem=elsewhere)
    assert deduplicated.kept == dedup_files(folder, 1.0, out="d.parquet").kept < ROWS
    assert len(build_index("data", out="i", filesystem=elsewhere)) == ROWS
    found = query_index("i", "data", k=2, out="any://q.parquet", filesystem=elsewhere)
    assert found.pairs == 2 * ROWS
    assert found.out == "any://q.parquet"
    assert sorted(os.listdir()) == ["d.parquet", "i"]
    names = {info.base_name for info in elsewhere.get_file_info(pafs.FileSelector(""))}
    assert names == {"data", "d.parquet", "q.parquet"}


class Faulty(pafs.SubTreeFileSystem):
    """A filesystem whose reads or writes fail once some have succeeded, or reads come short."""

    reads = writes = 10**9
    short = False

    def open_input_file(self, path):
        return pa.PythonFile(FaultyFile(self, super().open_input_file(path)), mode="r")

    def open_output_stream(self, path):
        return pa.PythonFile(FaultyFile(self, super().open_output_stream(path)), mode="w")


class FaultyFile:
    def __init__(self, faults, file):
        self.faults, self.file, self.closed = faults, file, False

    def read(self, size=-1):
        self.faults.reads -= 1
        if self.faults.reads < 0:
            if not self.faults.short:
                raise OSError("HTTP status 500")
            return self.file.read(size)[:-1]
        return self.file.read(size)

    def write(self, data):
        self.faults.writes -= 1
        if self.faults.writes < 0:
            raise OSError("HTTP status 500")
        return self.file.write(data)

    def close(self):
        self.closed = True
        self.file.close()

    def seek(self, *args):
        return self.file.seek(*args)

    def tell(self):
        return self.file.tell()

    def flush(self):
        pass

    def readable(self):
        return self.file.readable()

    def writable(self):
        return self.file.writable()

    def seekable(self):
        return self.file.seekable()


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("name", ["a.parquet", "b.arrow", "c.npy"])
def test_a_read_that_fails_names_the_file(name, short, folder, faulty, vectors):
    path = f"data/day=1/{name}"
    assert len(open_dataset(path, filesystem=faulty)) == 10
    faulty.short = short
    faulty.reads, errors = 0, []
    while (read := read_or_error(path, faulty, errors)) is None:
        faulty.reads = len(errors)
    assert np.array_equal(read, vectors[{"a": 0, "b": 10, "c": 20}[name[0]] :][:10])
    assert len(errors) > 2
    assert all(path in error for error in errors)
    if not short:
        assert all("could not be read: HTTP status 500" in error for error in errors)


def read_or_error(path, filesystem, errors):
    try:
        return open_dataset(path, filesystem=filesystem).read()
    except (OSError, ValueError) as error:
        errors.append(str(error))


def test_a_write_that_fails_leaves_no_file_and_goes_on(folder, faulty, elsewhere):
    faulty.writes = 0
    arguments = {"k": 2, "out": "any://out/k.parquet", "filesystem": faulty}
    with pytest.raises(OSError, match=r"any://out/k.parquet could not be written: .*status 500"):
        knn_join_files("data", **arguments)
    assert not elsewhere.get_file_info(pafs.FileSelector("out"))
    assert os.listdir() == ["k.parquet.work"]
    faulty.writes = 10**9
    assert knn_join_files("data", **arguments).pairs == 2 * ROWS
    assert os.listdir() == []
    assert [i.path for i in elsewhere.get_file_info(pafs.FileSelector("out"))] == ["out/k.parquet"]


def test_a_result_that_is_there_is_not_read_again(folder, faulty):
    """What fails after the upload would fail a job that is done."""
    dataset = open_dataset(open_dataset(folder))
    faulty.reads = 0
    options = {"filesystem": faulty, "progress": False}
    joined = knn_join_files(dataset, k=2, out="any://k.parquet", **options)
    assert joined.pairs == 2 * ROWS
    assert dedup_files(dataset, 1.0, out="any://d.parquet", **options).rows == ROWS


def test_another_one_wrote_it_meanwhile(folder, elsewhere):
    def other(*_):
        elsewhere.open_output_stream("k.parquet").close()

    options = {"out": "any://k.parquet", "filesystem": elsewhere, "progress": other}
    with pytest.raises(FileExistsError, match="any://k.parquet exists already"):
        knn_join_files("data", k=2, **options)
    assert elsewhere.get_file_info("k.parquet").size == 0


def test_what_changed_elsewhere_is_another_job(folder, faulty):
    faulty.writes = 0
    arguments = {"k": 2, "out": "any://k.parquet", "filesystem": faulty}
    with pytest.raises(OSError, match="could not be written"):
        knn_join_files("data", **arguments)
    (folder / "day=1" / "c.npy").unlink()
    with pytest.raises(OtherJobError, match="belongs to another job"):
        knn_join_files("data", **arguments)


def test_places_that_will_not_do(folder, elsewhere):
    for source, error, message in (
        ("data/none", FileNotFoundError, "no file, folder or match of the pattern data/none"),
        ("data/day=1/c.npy/x", FileNotFoundError, "no file, folder or match"),
        ("", ValueError, "columns of lists|dimensions|no column"),
    ):
        if source:
            with pytest.raises(error, match=message):
                open_dataset(source, filesystem=elsewhere)
    with pytest.raises(TypeError, match="filesystem is a str; pass one of pyarrow.fs or of fsspec"):
        open_dataset("data", filesystem="s3")
    with pytest.raises(TypeError, match="filesystem= is for paths, but a source is a Table"):
        open_dataset(pa.table({"v": [[1.0]]}), filesystem=elsewhere)
    for out in ("hf://datasets/a/b/k.parquet", "https://host/k.parquet"):
        with pytest.raises(ValueError, match="can't be written by a join"):
            knn_join_files("data", out=out, filesystem=elsewhere)
    order = np.asfortranarray(np.ones((3, 2)))
    np.save(folder / "f.npy", order)
    assert len(open_dataset(folder / "f.npy")) == 3
    with pytest.raises(ValueError, match="data/f.npy is not a readable .npy file: its columns lie"):
        open_dataset("data/f.npy", filesystem=elsewhere)


def test_urls_that_fsspec_knows(table, vectors, tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    monkeypatch.chdir(tmp_path)
    memory = fsspec.filesystem("memory")
    for part in range(2):
        with memory.open(f"/bucket/day={part}/a.parquet", "wb") as file:
            pq.write_table(table.slice(part * 30, 30), file)
    for source in ("memory://bucket", "memory://bucket/day=*", "memory://bucket/**/*.parquet"):
        dataset = open_dataset(source, id_column="day")
        assert np.array_equal(dataset.read(), vectors)
        assert pa.chunked_array(list(dataset.ids())).to_pylist() == [0] * 30 + [1] * 30
    found = knn_join_files("memory://bucket", k=1, out="memory://out/k.parquet")
    with memory.open("/out/k.parquet") as file:
        assert pq.read_metadata(file).num_rows == found.pairs == ROWS
    assert memory.find("/out") == ["/out/k.parquet"]
    assert os.listdir() == []
    memory.rm("/", recursive=True)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("gs://anonymous@bucket/a folder/*.parquet", "bucket/a folder/*.parquet"),
        ("gs://anonymous@bucket/50%/?scheme=http", "bucket/50%"),
        ("s3://key:secret@bucket/a?b/c?region=eu-central-1", "bucket/a?b/c"),
        ("abfss://bucket:a2V5@account.dfs.core.windows.net/day=1", "bucket/day=1"),
    ],
)
def test_paths_of_urls(url, path):
    there = place(url)
    assert there.path == path
    assert str(there) == f"{url.partition(':')[0]}://{path}"  # without passwords and options


def test_whatever_a_store_raises_names_the_file():
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")

    class Down(fsspec.AbstractFileSystem):
        def info(self, path, **_):
            raise RuntimeError("it is down")

    with pytest.raises(OSError, match="any://a.parquet could not be reached: it is down"):
        open_dataset("any://a.parquet", filesystem=Down())


def lazy(table):
    return pl.LazyFrame(pl.from_arrow(table)).filter(pl.col("text") == "x")


def relation(table):
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    return duckdb.from_arrow(table).filter("text = 'x'")


def hugging_face(table):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    return datasets.Dataset(table).select(range(len(table)))


def hugging_face_stream(table):
    return hugging_face(table).to_iterable_dataset()


TABLES = {
    "table": lambda table: table,
    "pieces": lambda table: pa.concat_tables([table.slice(n, 7) for n in range(0, ROWS, 7)]),
    "reader": lambda table: table.to_reader(max_chunksize=9),
    "polars": pl.from_arrow,
    "lazy polars": lazy,
    "pandas": lambda table: table.to_pandas(),
    "dataset in memory": pads.dataset,
    "DuckDB": relation,
    "Hugging Face": hugging_face,
    "stream of Hugging Face": hugging_face_stream,
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(kind, table, vectors):
    source = TABLES[kind](table)
    dataset = open_dataset(source, "v", "id")
    assert np.array_equal(dataset.read(), vectors)
    assert np.array_equal(dataset.read(13, 31), vectors[13:31])
    assert pa.chunked_array(list(dataset.ids())).to_pylist() == table["id"].to_pylist()
    # The same, whatever batches it came in.
    known = {type(source).__name__: open_dataset(table, "v", "id").identity["files"][0]["digest"]}
    assert dataset.identity["files"] == [
        {"path": name, "digest": digest} for name, digest in known.items()
    ]


def test_the_file_of_a_table_goes_with_it(table, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dataset = open_dataset(table)
    assert len(os.listdir(tmp_path)) == 1
    assert len(dataset) == ROWS
    del dataset
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="Table has no column none; its columns are id, text, v"):
        open_dataset(table, "none")
    assert os.listdir(tmp_path) == []


def test_joins_of_tables(table, tmp_path):
    pq.write_table(table, tmp_path / "a.parquet")
    options = {"k": 3, "column": "v", "id_column": "id"}
    found = knn_join_files(lazy(table), tmp_path / "a.parquet", **options, out=tmp_path / "1.pq")
    same = knn_join_files(
        tmp_path / "a.parquet", tmp_path / "a.parquet", **options, out=tmp_path / "2.pq"
    )
    assert pairs_of(found.out) == pairs_of(same.out)
    kept = dedup_files(lazy(table), 1.0, out=tmp_path / "3.pq", column="v", id_column="id").kept
    reader = table.to_reader()  # which is read once
    again = dedup_files(reader, 1.0, out=tmp_path / "4.pq", column="v", id_column="id")
    assert again.kept == kept < ROWS


def test_tables_that_will_not_do(vectors):
    rows = [list(map(float, row)) for row in vectors[:9]]
    for values, error, message in (
        ([*rows, None], ValueError, "v of Table: row 9 is null"),
        ([*rows, [1.0]], ValueError, "column v of Table, row 9"),
        ([*rows, [0.0, np.nan, 0.0, 0.0]], NotFiniteError, "Table: row 9 of column v holds NaN"),
        (["a"], TypeError, "v of Table must be of type list of numbers"),
    ):
        with pytest.raises(error, match=message):
            open_dataset(pa.table({"v": values}), "v").read()
    with pytest.raises(ValueError, match="Table has 2 columns of lists: v, w; say which"):
        open_dataset(pa.table({"v": rows, "w": rows}))
    with pytest.raises(TypeError, match="column w of Table holds .*; ids are integers or strings"):
        open_dataset(pa.table({"v": rows, "w": rows}), "v", "w")
    for source in (vectors, 5, None):
        with pytest.raises(TypeError, match="a source is a (ndarray|int|NoneType); pass a path"):
            open_dataset(source)
    assert len(open_dataset(pa.table({"v": pa.array([], pa.list_(pa.float32()))}))) == 0


def test_datasets_of_pyarrow_are_their_files(folder, table, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))  # nothing is written
    for kind in ("parquet", "ipc"):
        pads.write_dataset(
            table.append_column("part", pa.array(["07", "8"] * 30)),
            tmp_path / kind,
            format=kind,
            basename_template="{i}.no-suffix",
            partitioning=pads.partitioning(pa.schema([("part", pa.string())]), flavor="hive"),
        )
        hive = pads.partitioning(pa.schema([("part", pa.string())]), flavor="hive")
        source = pads.dataset(tmp_path / kind, format=kind, partitioning=hive)
        dataset = open_dataset(source, "v", "part")
        assert np.array_equal(dataset.read(), open_table_vectors(source.to_table()))
        assert pa.chunked_array(list(dataset.ids())).to_pylist() == ["07"] * 30 + ["8"] * 30


def test_a_part_of_a_dataset_of_pyarrow(table, vectors, tmp_path):
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    source = pads.dataset(tmp_path)
    filtered = source.filter(pads.field("id") == "ä7")
    assert np.array_equal(open_dataset(filtered, "v").read(), vectors[[1]])
    (fragment,) = source.get_fragments()
    part = pads.FileSystemDataset(
        [fragment.subset(row_group_ids=[1])], source.schema, source.format, source.filesystem
    )
    assert np.array_equal(open_dataset(part, "v").read(), vectors[20:40])


def test_splits_are_to_be_chosen(table):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    splits = datasets.DatasetDict({"train": datasets.Dataset(table)})
    with pytest.raises(TypeError, match="choose one of the splits of the dataset: train"):
        open_dataset(splits)


def test_delta_tables(table, vectors, tmp_path):
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed")
    path = tmp_path / "table"
    days = pa.array([n // 20 for n in range(ROWS)], pa.int32())
    deltalake.write_deltalake(path, table.append_column("day", days), partition_by=["day"])
    deltalake.DeltaTable(path).delete("day = 1")
    kept = {
        tuple(row): day
        for row, day in zip(vectors.tolist(), days.to_pylist(), strict=True)
        if day != 1
    }
    dataset = open_dataset(path, "v", "day")
    assert len(dataset) == len(kept) == 40
    days_of = pa.chunked_array(list(dataset.ids())).to_pylist()
    assert dict(zip(map(tuple, dataset.read().tolist()), days_of, strict=True)) == kept
    assert dataset.identity == open_dataset(path, "v", "day").identity
    (path / "_delta_log" / "00000000000000000001.json").write_text("{}\n{")
    with pytest.raises(ValueError, match="table is a Delta table that can't be read"):
        open_dataset(path)


def test_delta_tables_that_are_not_read(table, tmp_path, elsewhere):
    path = tmp_path / "store" / "table"
    (path / "_delta_log").mkdir(parents=True)
    pq.write_table(table, path / "a.parquet")
    with pytest.raises(ValueError, match=r"holds a Delta table, .*name the table itself, .*table$"):
        open_dataset(tmp_path / "store")
    with pytest.raises(ValueError, match=r"table is a Delta table, .*\.to_pyarrow_dataset\(\)"):
        open_dataset("table", filesystem=elsewhere)
    if importlib.util.find_spec("deltalake") is None:
        with pytest.raises(ImportError, match=r"pip install 'lshjoin\[delta\]'"):
            open_dataset(path)
