"""Indexes, plans and models of unknown origin: some of what `make reliability` tries."""

import json

import numpy as np
import pytest
from lshjoin import BucketedRandomProjectionLSHModel, Index, JoinPlan

from benches.reliability import children, hostile, index_files, indexes, models
from benches.reliability.mutations import SPECIAL


@pytest.mark.parametrize(("kind", "count"), [("indexes", 60), ("plans", 60), ("models", 40)])
def test_whatever_was_changed_is_refused_or_answered_rightly(kind, count):
    found = hostile.tried(kind, range(count))
    assert len(found) == count
    assert not {number: what for number, what in found.items() if what[0] in children.DEFECTS}
    assert {what for what, _ in found.values()} == {children.REFUSED, children.ANSWERED}


@pytest.fixture
def saved(rng, tmp_path):
    plan = JoinPlan.partitions(lists=20, probes=2)
    items = rng.standard_normal((400, 6)).astype(np.float32)
    Index.build(items, metric="cosine", plan=plan).save(tmp_path / "index")
    return tmp_path / "index"


def manifest_of(directory):
    return json.loads((directory / "manifest.json").read_text())


def change(directory, name, array):
    """Puts another array in the place of one, every checksum right."""
    manifest = manifest_of(directory)
    index_files.write_array(directory, manifest, name, array)
    index_files.write_manifest(directory, manifest)
    return manifest["arrays"][name]["file"]


def use(directory):
    index = Index.load(directory)
    query = np.ones((1, index.dim), np.float32)
    index.knn(query, 2, plan=index.plan)
    index.knn(query, 2, recall=1.0)


def test_centroids_by_the_thousand_are_refused_unread(saved, rng):
    """Their neighbours would be found in a time that grows with their square."""
    lists = 200_000
    manifest = manifest_of(saved)
    starts = np.sort(rng.integers(401, size=lists + 1)).astype("<u8")
    starts[[0, -1]] = 0, 400
    for claimed, message in (
        (20, r"manifest\.json: it has arrays of shapes that do not fit"),
        (16_384, r"manifest\.json: it has arrays of shapes that do not fit"),
        (lists, r"manifest\.json: it has arrays of shapes that do not fit"),
        (2**20 + 1, r"manifest\.json: lists must be 1 to 1048576, not 1048577"),
    ):
        index_files.write_array(saved, manifest, "starts", starts)
        index_files.write_array(saved, manifest, "centroids", np.zeros((lists, 4), "<f4"))
        manifest["metadata"]["plan"]["lists"] = claimed
        index_files.write_manifest(saved, manifest)
        with pytest.raises(ValueError, match=message):
            Index.load(saved)


def test_a_group_of_lists_by_the_thousand_is_refused(rng, tmp_path):
    """Each row of it would be compared with all of them."""
    plan = JoinPlan.partitions(lists=5000, probes=1)
    Index.build(rng.random((10_000, 2)), plan=plan).save(tmp_path / "many")
    starts = index_files.read_arrays(tmp_path / "many")["group_starts"].copy()
    assert len(starts) > 50
    starts[1:-1] = starts[-1]
    change(tmp_path / "many", "group_starts", starts)
    with pytest.raises(ValueError, match="a group has more lists than there are in any"):
        use(tmp_path / "many")


def test_more_rows_than_there_are_take_no_memory(saved):
    """The manifest is small, its shapes agree with one another, and no file is as long."""
    manifest = manifest_of(saved)
    manifest["metadata"]["items"] = 2**31
    for about in manifest["arrays"].values():
        if about["shape"][0] == 400:
            about["shape"][0] = 2**31
    index_files.write_manifest(saved, manifest)
    for mmap in (True, False):
        with pytest.raises(ValueError, match=str(saved)):
            Index.load(saved, mmap=mmap)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["groups", "centroids", "norms", "rows"])
def test_what_is_not_finite_is_refused_by_name(name, value, saved):
    array = index_files.read_arrays(saved)[name].copy()
    array.reshape(-1)[-1] = value
    file = change(saved, name, array)
    expected = rf"{file}: it holds (NaN|-?inf) as value {array.size - 1} of its data"
    with pytest.raises(ValueError, match=expected):
        use(saved)
    with pytest.raises(ValueError, match=expected):
        Index.load(saved, mmap=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("starts", "lists don't follow one another"),
        ("group_starts", "lists don't follow one another"),
        ("by_id", r"it names row \d+ of 400"),
        ("held_out", r"it names row \d+ of 400"),
        ("ids", "ids don't rise, or one comes twice"),
        ("known", "is true of no codes"),
        ("codes", "is true of no codes"),
    ],
)
def test_numbers_that_no_index_has_are_refused_by_name(name, message, saved):
    array = index_files.read_arrays(saved)[name].copy()
    places = array.view(index_files.KNOWN)["sum"] if name == "known" else array
    places[1] = 127 if name == "codes" else 2**31 - 1
    if name == "ids":
        places[:] = 5
    file = change(saved, name, array)
    named = manifest_of(saved)["arrays"]["by_id" if name == "ids" else "known"]["file"]
    with pytest.raises(ValueError, match=message) as error:
        use(saved)
    assert (named if name in ("ids", "codes") else file) in str(error.value)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["manifest", "rows", "starts"])
def test_what_is_no_file_is_refused_by_name(name, kind, saved):
    (path,) = saved.glob(f"{name}*")
    path.unlink()
    SPECIAL[kind](path)
    with pytest.raises((ValueError, OSError), match=str(saved)) as error:
        use(saved)
    # Where there is no manifest, there is no index.
    assert str(saved if (name, kind) == ("manifest", "nothing") else path) in str(error.value)


@pytest.mark.parametrize("file", ["../rows-1.safetensors", "/dev/zero", "", "..", "thesis.txt"])
def test_a_manifest_names_no_other_files(file, saved):
    (saved.parent / "rows-1.safetensors").write_bytes(b"")
    manifest = manifest_of(saved)
    manifest["arrays"]["rows"]["file"] = file
    index_files.write_manifest(saved, manifest)
    with pytest.raises(
        ValueError, match="the manifest gives rows the name of a file that no array has"
    ):
        Index.load(saved)


@pytest.mark.parametrize("name", ["groups", "centroids", "rows"])
def test_a_build_goes_on_with_nothing_larger_than_it_began(name, tmp_path):
    """A file of holes, whose values would take up all memory."""
    indexes.begin(tmp_path, "euclidean", 150)
    journal = tmp_path / "manifest-unfinished.json"
    state = json.loads(journal.read_text())
    about = state["build"]["files"][name]
    index_files.make_holes(tmp_path / about["file"], name, about["shape"], 2**36)
    journal.write_text(json.dumps(state))
    with pytest.raises(ValueError, match="what was begun there is not an index of these items"):
        indexes.resume(tmp_path, "euclidean")


@pytest.fixture
def model(tmp_path):
    models.make(tmp_path)
    return tmp_path / "euclidean-model"


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("part", ["metadata", "data"])
def test_what_is_no_file_of_a_model_is_refused_by_name(part, kind, model):
    (path,) = (model / part).glob("part-*")
    path.unlink()
    SPECIAL[kind](path)
    with pytest.raises((ValueError, OSError), match=str(model / part)):
        BucketedRandomProjectionLSHModel.load(model)
