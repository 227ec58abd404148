"""Vectors in files: what is read, in which order, and what is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from frames import arrow_vectors
from lshjoin import NotFiniteError, knn_join, knn_join_files, open_dataset


def write(path, rows, ids=None, column="v", as_lists=False):
    if path.suffix == ".npy":
        np.save(path, rows)
        return path
    vectors = pa.array(list(rows)) if as_lists else arrow_vectors(rows)
    columns = {column: vectors} if ids is None else {"id": ids, column: vectors}
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=7)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=7)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npy"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 5, 7, 1000, None])
def test_rows_come_in_order(suffix, dtype, batch, rng, tmp_path):
    rows = rng.standard_normal((53, 4)).astype(dtype)
    write(tmp_path / f"b{suffix}", rows[20:])
    write(tmp_path / f"a{suffix}", rows[:20])
    dataset = open_dataset(tmp_path)
    assert (len(dataset), dataset.dim, dataset.dtype) == (53, 4, dtype)
    batches = list(dataset.batches(batch))
    assert [first for first, _ in batches] == [
        sum(len(vectors) for _, vectors in batches[:number]) for number in range(len(batches))
    ]
    assert max(len(vectors) for _, vectors in batches) <= (batch or 53)
    assert np.array_equal(np.concatenate([vectors for _, vectors in batches]), rows)
    assert np.array_equal(dataset.read(), rows)
    for start, stop in ((0, 0), (0, 20), (3, 4), (13, 47), (20, 53), (52, 53)):
        assert np.array_equal(dataset.read(start, stop), rows[start:stop])
        part = [vectors for _, vectors in dataset.batches(batch, start, stop)]
        assert max(map(len, part), default=0) <= (batch or 53)
        assert sum(map(len, part)) == stop - start


@pytest.mark.parametrize("ids", [[f"é{n}" * (n % 3) for n in range(30)], list(range(5, 35))])
def test_lists_and_ids(ids, rng, tmp_path):
    rows = rng.standard_normal((30, 3))
    write(tmp_path / "a.parquet", rows, ids, as_lists=True)
    dataset = open_dataset(tmp_path / "a.parquet", "v", "id")
    assert np.array_equal(dataset.read(), rows)
    assert pa.chunked_array(list(dataset.ids())).to_pylist() == ids


def test_the_widest_type_of_all_files(rng, tmp_path):
    parts = [rng.standard_normal((4, 2)).astype(dtype) for dtype in (np.float16, np.float64)]
    parts.append(rng.integers(-9, 9, (4, 2)).astype(np.int8))
    for number, part in enumerate(parts):
        np.save(tmp_path / f"{number}.npy", part)
    dataset = open_dataset(tmp_path)
    assert dataset.dtype == np.float64
    assert np.array_equal(dataset.read(), np.concatenate(parts))


def test_files_folders_and_patterns(tmp_path):
    one = np.ones((1, 2), np.float32)
    (tmp_path / "day=1" / "_temporary").mkdir(parents=True)
    for name in ("day=1/a.parquet", "b.parquet", "c.parquet"):
        write(tmp_path / name, one)
    for name in ("day=1/_temporary/x.parquet", ".hidden.parquet"):
        write(tmp_path / name, one)
    (tmp_path / "notes.txt").write_text("")

    def names(source):
        return [file.path.relative_to(tmp_path).as_posix() for file in open_dataset(source).files]

    assert names(tmp_path) == ["b.parquet", "c.parquet", "day=1/a.parquet"]
    assert names(str(tmp_path / "*.parquet")) == ["b.parquet", "c.parquet"]
    assert names(str(tmp_path / "day=*")) == ["day=1/a.parquet"]
    assert names([tmp_path / "c.parquet", tmp_path / "b.parquet"]) == ["c.parquet", "b.parquet"]


def test_links(tmp_path):
    """One to a file is a file; one to a folder is not followed, which might be a circle."""
    (tmp_path / "data").mkdir()
    path = write(tmp_path / "data" / "a.npy", np.ones((1, 2)))
    (tmp_path / "data" / "b.npy").symlink_to(path)
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data", target_is_directory=True)
    assert [file.path.name for file in open_dataset(tmp_path / "data").files] == ["a.npy", "b.npy"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    path = write(tmp_path / "part[1].parquet", np.ones((1, 2)))
    assert open_dataset(str(path)).files[0].path == path


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npy"])
def test_not_finite(value, suffix, tmp_path):
    rows = np.ones((30, 4), np.float32)
    write(tmp_path / f"a{suffix}", rows)
    rows[17, 2] = value
    write(tmp_path / f"b{suffix}", rows)
    dataset = open_dataset(tmp_path)
    name = {np.nan: "NaN", np.inf: "infinity", -np.inf: "-infinity"}[value]
    words = rf"b\{suffix}: row 17.* holds {name} at dimension 2"
    with pytest.raises(NotFiniteError, match=words) as caught:
        list(dataset.batches(5))
    assert (caught.value.row, caught.value.dimension) == (17, 2)


def nulls(path):
    pq.write_table(pa.table({"v": pa.array([[1.0, 2.0]] * 9 + [None])}), path, row_group_size=4)


def ragged(path):
    pq.write_table(pa.table({"v": [[1.0, 2.0]] * 9 + [[1.0]]}), path, row_group_size=4)


def text_column(path):
    pq.write_table(pa.table({"v": ["a"]}), path)


def two_columns(path):
    pq.write_table(pa.table({"v": [[1.0]], "w": [[1.0]]}), path)


def no_columns(path):
    pq.write_table(pa.table({"x": [1.0]}), path)


def cut_short(path):
    write(path, np.ones((1000, 4)))
    path.write_bytes(path.read_bytes()[:-20])


def damaged(path):
    write(path, np.random.default_rng(0).standard_normal((1000, 4)))
    content = bytearray(path.read_bytes())
    content[200:1000] = bytes(800)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "column", "message"),
    [
        (nulls, "v", "Column v of .*x.parquet: row 9 is null"),
        (ragged, "v", "column v of .*x.parquet, row 9"),
        (text_column, "v", "v of .*x.parquet must be of type list of numbers"),
        (two_columns, None, "x.parquet has 2 columns of lists: v, w; say which"),
        (no_columns, None, "x.parquet has no columns of lists; say which"),
        (no_columns, "v", "x.parquet has no column v; its columns are x"),
        (cut_short, None, "x.parquet is not a readable parquet file"),
        (damaged, "v", "x.parquet is not a readable parquet file"),
    ],
)
def test_refused(make, column, message, tmp_path):
    path = tmp_path / "x.parquet"
    make(path)
    with pytest.raises((TypeError, ValueError), match=message):
        open_dataset(path, column).read()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_names_that_are_no_text(suffix, tmp_path):
    """A damaged letter, wherever names of columns stand."""
    path = write(tmp_path / f"x{suffix}", np.ones((3, 2)), ["a", "b", "c"])
    content = path.read_bytes()
    places = [at for at in range(len(content) - 1) if content[at : at + 2] == b"id"]
    assert places
    for at in places:
        path.write_bytes(content[:at] + b"\xe9" + content[at + 1 :])
        for column in ("v", None):
            try:
                open_dataset(path, column, "id")
            except ValueError as error:
                assert path.name in str(error), at  # noqa: PT017


def test_refused_npy(tmp_path):
    path = tmp_path / "x.npy"
    for array in (np.ones(3), np.ones((2, 2, 2)), np.ones((2, 0))):
        np.save(path, array)
        with pytest.raises(ValueError, match="x.npy must be 2-D"):
            open_dataset(path)
    np.save(path, np.array([["a"]]))
    with pytest.raises(TypeError, match="x.npy must hold real numbers"):
        open_dataset(path)
    np.save(path, np.array([[object()]]), allow_pickle=True)
    with pytest.raises(ValueError, match="x.npy is not a readable"):
        open_dataset(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="x.npy is not a readable"):
        open_dataset(path)
    np.save(path, np.ones((2, 2)))
    with pytest.raises(ValueError, match="no column id"):
        open_dataset(path, id_column="id")


def test_files_that_do_not_fit_together(tmp_path):
    a = write(tmp_path / "a.parquet", np.ones((2, 3)), [1, 2])
    b = write(tmp_path / "b.parquet", np.ones((2, 4)), ["x", "y"])
    with pytest.raises(ValueError, match=r"3 dimensions in .*a.parquet but 4 in .*b.parquet"):
        open_dataset(tmp_path)
    with pytest.raises(TypeError, match=r"id holds int64 in .*a.parquet but string in .*b.parquet"):
        open_dataset([a, b], id_column="id")
    with pytest.raises(TypeError, match=r"column v of .* holds .*; ids are integers or strings"):
        open_dataset(a, id_column="v")


def test_ids_without_nulls(tmp_path):
    write(tmp_path / "a.parquet", np.ones((9, 3)), [1, 2, 3, 4, 5, None, 7, 8, 9])
    dataset = open_dataset(tmp_path, id_column="id")
    with pytest.raises(ValueError, match=r"a.parquet: column id is null in row 5"):
        list(dataset.ids())


def test_files_that_change_while_they_are_read(tmp_path):
    path = write(tmp_path / "a.parquet", np.ones((9, 3)))
    dataset = open_dataset(path)
    write(path, np.ones((8, 3)))
    with pytest.raises(ValueError, match="held 9 rows but now holds 8"):
        dataset.read()
    with pytest.raises(ValueError, match="held 9 rows but now holds 8"):
        dataset.read(7)


def test_no_rows(tmp_path):
    write(tmp_path / "a.parquet", np.ones((0, 3), np.float32))
    dataset = open_dataset(tmp_path)
    assert (len(dataset), dataset.dim, dataset.read().shape) == (0, 3, (0, 3))


def id_columns():
    """The same ids in every type, and the type that they come in."""
    words = [f"wört-{n % 5}" * (n % 3) for n in range(30)]
    numbers = [n % 7 * 10**9 for n in range(30)]
    large = pa.large_string()
    return {
        "string": (pa.array(words), pa.string()),
        "large": (pa.array(words, large), large),
        "view": (pa.array(words, pa.string_view()), large),
        "dictionary": (pa.array(words).dictionary_encode(), pa.string()),
        "dictionary of large": (pa.array(words, large).dictionary_encode(), large),
        "dictionary of views": (dictionary_of_views(words), large),
        "pandas": (pa.array(pd.Categorical(words)), large),
        "uint64": (pa.array(numbers, pa.uint64()), pa.uint64()),
        "dictionary of numbers": (pa.array(numbers).dictionary_encode(), pa.int64()),
    }


def dictionary_of_views(words):
    values = sorted(set(words))
    indices = pa.array([values.index(word) for word in words], pa.uint8())
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string_view()))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", id_columns())
def test_ids_of_any_type(kind, suffix, rng, tmp_path):
    stored, expected = id_columns()[kind]
    rows = rng.standard_normal((30, 3))
    try:
        dataset = open_dataset(write(tmp_path / f"a{suffix}", rows, stored), id_column="id")
    except pa.ArrowNotImplementedError:
        pytest.skip(f"pyarrow {pa.__version__} writes no {stored.type} to Parquet")
    if not pa.types.is_integer(expected) and expected != dataset.id_type:
        assert suffix == ".parquet"  # which knows strings alone, of no length
        expected = dataset.id_type
    assert dataset.id_type == expected
    assert {piece.type for piece in dataset.ids()} == {expected}
    assert pa.chunked_array(list(dataset.ids())).to_pylist() == stored.to_pylist()
    found = knn_join_files(
        items=tmp_path / f"a{suffix}", k=2, out=tmp_path / "out.parquet", id_column="id"
    )
    near = knn_join(items=rows, k=2).indices
    pairs = pq.read_table(found.out)
    assert pairs["query"].to_pylist() == [stored[row].as_py() for row in range(30) for _ in "12"]
    assert pairs["item"].to_pylist() == [stored[row].as_py() for row in near.ravel().tolist()]
    assert pa.types.is_integer(pairs.schema.field("item").type) == pa.types.is_integer(expected)


def test_ids_of_polars(rng, tmp_path):
    rows = rng.standard_normal((9, 3))
    words = [f"w{n}" for n in range(9)]
    vectors = pl.Series(rows, dtype=pl.Array(pl.Float64, 3))
    types = [pl.String, pl.Categorical, pl.Enum(words)]
    for number, of_ids in enumerate(types):
        frame = pl.DataFrame({"id": pl.Series(words, dtype=of_ids), "v": vectors})
        frame.write_ipc(tmp_path / f"{number}.arrow")
        frame.write_parquet(tmp_path / f"{number}.parquet")
    pq.write_table(
        pa.table({"id": words, "v": arrow_vectors(rows)}), tmp_path / "of_pyarrow.parquet"
    )
    # Strings are strings, however the one or the other file has them.
    dataset = open_dataset(tmp_path, id_column="id")
    assert dataset.id_type == pa.large_string()
    assert pa.chunked_array(list(dataset.ids())).to_pylist() == words * 7
    assert np.array_equal(dataset.read(), np.tile(rows, (7, 1)))


def test_nulls_of_dictionaries(tmp_path):
    rows = np.ones((3, 2))
    for indices, values in (([0, None, 1], ["a", "b"]), ([0, 1, 2], ["a", None, "b"])):
        ids = pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(values))
        dataset = open_dataset(write(tmp_path / "a.arrow", rows, ids), id_column="id")
        with pytest.raises(ValueError, match="column id is null in row 1"):
            list(dataset.ids())


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_vectors_of_any_type(suffix, rng, tmp_path):
    rows = rng.standard_normal((30, 3)).astype(np.float32)
    tensor = pa.fixed_shape_tensor(pa.float32(), [3])
    columns = {
        "lists": pa.array(rows.tolist(), pa.list_(pa.float32())),
        "large": pa.array(rows.tolist(), pa.large_list(pa.float32())),
        "views": pa.array(rows.tolist(), pa.list_view(pa.float32())),
        "large views": pa.array(rows.tolist(), pa.large_list_view(pa.float32())),
        "tensors": pa.ExtensionArray.from_storage(tensor, arrow_vectors(rows)),
    }
    for kind, column in columns.items():
        path = tmp_path / f"{kind}{suffix}"
        table = pa.table({"n": range(30), "v": column})
        try:
            if suffix == ".parquet":
                pq.write_table(table, path, row_group_size=7)
            else:
                with pa.ipc.new_file(path, table.schema) as file:
                    file.write_table(table, max_chunksize=7)
        except pa.ArrowNotImplementedError:  # Parquet has no views
            assert "views" in kind
            continue
        dataset = open_dataset(path)
        assert (dataset.dim, dataset.dtype) == (3, np.float32)
        assert np.array_equal(dataset.read(), rows)
        assert np.array_equal(dataset.read(5, 16), rows[5:16])
