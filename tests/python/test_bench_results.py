"""What README and docs/ say was measured is in bench-results/, and the benches' own parts work."""

import json
import re
import struct
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benches import record
from benches.comparison import ann_benchmarks, growth, workloads
from benches.comparison.run import key
from benches.data import files, truth
from benches.data.dataset import Data, intrinsic_dimension
from benches.report import blocks
from benches.report.growth import growth_page
from benches.report.levels import levels_table
from benches.report.page import page, repeated
from benches.report.results import Results
from benches.report.tables import main_table
from benches.systems.measure import measure_each
from benches.systems.peers import PEERS
from benches.systems.peers.lshjoin import Lshjoin
from benches.systems.protocol import Failure, Measurement
from benches.systems.worker import without_itself

PAGES = {path.relative_to(record.ROOT).as_posix(): path for path in blocks.PAGES}
# Numbers that look measured: with a unit of time, of memory or of a rate, or a share.
MEASURED = re.compile(
    r"\d(?:[\d.,]*\d)?(?: |-)?"
    r"(?:ms|s|seconds?|minutes?|[kMGTP]B|%|×|times(?= as| faster)|(?:rows|pairs) a)(?!\w)"
)
# What the pattern takes for measured though it is a limit, a setting or worked out on the spot.
NOT_MEASURED = {
    "docs/databricks.md": ["5 ×"],  # a setting to start from
    "docs/reliability.md": ["10 s", "400 MB", "256 MB", "8 TB", "1 MB", "128 MB"],  # limits
    "docs/spark.md": [
        "128 MB",  # how large a message of Spark Connect may be
        "5 ×",  # a setting to start from
        # Arithmetic: k, nb, L, s, c, m and the number of executors stand beside them.
        *("154 GB", "1.2 TB", "3 PB", "0.01 %", "614 GB", "6 GB", "1 %", "3.7 TB"),
        *("44 TB", "440 GB", "5.1 TB", "51 GB", "1.0 TB"),
    ],
}


def stand_alone(text):
    """The text without what benches/report fills in, and without code."""
    text = blocks.BLOCK.sub("", text)
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", PAGES)
def test_figures_are_those_recorded(name):
    text = PAGES[name].read_text()
    assert blocks.filled(text) == text, "run `make bench-report`"


@pytest.mark.parametrize("name", PAGES)
def test_no_figure_is_typed(name):
    typed = set(MEASURED.findall(stand_alone(PAGES[name].read_text())))
    typed -= set(NOT_MEASURED.get(name, []))
    assert not typed, "put measured numbers into a <!-- bench:… --> block"


@pytest.mark.parametrize(
    "claim",
    ["in 3.2 s", "216 times as fast", "takes 40 MB", "5 %", "12% of", "90,000 pairs a second"],
)
def test_a_typed_figure_is_noticed(claim):
    assert MEASURED.search(stand_alone(f"It {claim} there."))
    assert not MEASURED.search(stand_alone(f"It <!-- bench:join -->{claim}<!-- /bench --> there."))


def test_every_block_is_known():
    used = {
        name for path in PAGES.values() for _, name, _, _ in blocks.BLOCK.findall(path.read_text())
    }
    assert used <= set(blocks.BLOCKS)


def test_a_changed_result_changes_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    text = "<!-- bench:spark-ratio -->321<!-- /bench --> times"
    size = {"rows": 10_000, "ratio": 321.4}
    for ratio, unchanged in ((321.4, True), (400.0, False)):
        record.write("spark_join", {"sizes": [size | {"ratio": ratio}]}, "")
        assert (blocks.filled(text) == text) is unchanged


def run_of(tmp_path, monkeypatch, name, slower=1.0):
    """A run in which FAISS takes longer than lshjoin, and what happened to others."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    machine = {"cpu": "a processor", "cores": 2, "system": "a system"}
    about = {"machine": machine, "isa": "avx2", "threads": 2, "versions": {"numpy": "2"}}
    about |= {"started": "today", "load": 0.1, "not_installed": {"falconn": "no wheel"}}
    record.append_line(name, about)
    known = {"variance_of_leading_axes": {"16": 0.25}, "contrast": 1.5, "intrinsic_dimension": 12}
    for workload, task in ((blocks.MAIN, "knn"), (blocks.SINGLE, "single")):
        described = {"title": "k-NN self-join", "data": "rows", "rows": 10, "limit": 60}
        record.append_line(
            name, {"workload": workload, "task": task, "statistics": known} | described
        )
        common = {"workload": workload, "round": 0, "build": {}, "search": {}}
        timed = {"build_seconds": 0.5, "search_seconds": 1.0, "seconds": 1.5, "recall": 0.95}
        ours = timed | {"peak_bytes": 10**8, "rest_bytes": 0}
        record.append_line(name, common | {"system": "lshjoin"} | ours)
        theirs = ours | {"seconds": 6.0 * slower, "rest_bytes": 10**7}
        index = {"system": "FAISS", "build": {"index": "IVF64,PQ8x4fs,RFlat"}}
        record.append_line(name, common | index | theirs)
        record.append_line(name, common | {"system": "annoy", "over_seconds": 57.2})
        record.append_line(name, common | {"system": "FALCONN", "error": "no module"})
    return Results(name)


def test_tables_tell_times_ratios_limits_and_failures(tmp_path, monkeypatch):
    results = run_of(tmp_path, monkeypatch, "bench")
    text = page(results)
    for part in ("over 57 s", "failed: no module", "Not installed: falconn", "contrast 1.50"):
        assert part in text
    table = blocks.filled("<!-- bench:join --><!-- /bench -->")
    assert "| **lshjoin** | 0.5 | 1.0 | 1.5 | 0.950 | 100 | 1.0 |" in table
    assert "| FAISS IVF-PQ fast-scan, refined | 0.5 | 1.0 | 6.0 | 0.950 | 100 | 4.0 |" in table
    assert "| 1000.00 | 10 |" in blocks.filled("<!-- bench:single --><!-- /bench -->")


@pytest.mark.parametrize(("again", "even"), [(1.8, False), (6.3, True)])
def test_a_ratio_within_the_noise_is_no_win(tmp_path, monkeypatch, again, even):
    """lshjoin took 1.5 s and, a second time, that; FAISS takes 6.0 s, four times as long."""
    run_of(tmp_path, monkeypatch, "bench")
    line = {"workload": blocks.MAIN, "round": 0, "build": {}, "search": {}, "recall": 0.95}
    line |= {"system": "lshjoin again", "build_seconds": 0, "search_seconds": again}
    record.append_line("bench", line | {"seconds": again, "peak_bytes": 10**8})
    results = Results("bench")
    assert results.noise(blocks.MAIN) == pytest.approx(again / 1.5 - 1)
    assert results.noise(blocks.SINGLE) is None
    table = "\n".join(main_table(results, blocks.MAIN))
    assert ("| 4.0 (even) |" in table) is even
    assert "again |" not in table
    assert f"{again / 1.5 - 1:.0%} apart at most" in table
    assert "| lshjoin again |" in page(results)


@pytest.mark.parametrize("workload", workloads.FULL + workloads.QUICK, ids=lambda one: one.name)
def test_every_system_of_a_workload_is_known_and_measured_once(workload, rng):
    rows = rng.standard_normal((400, 32)).astype(np.float32)
    sweeps = workload.sweeps(Data("rows", rows, metric="cosine"))
    assert {sweep.name for sweep in sweeps} <= set(PEERS)
    assert all(len(sweep.searches) > 0 for sweep in sweeps)
    common = {"workload": workload.name, "round": 0}
    keys = [
        key(common | {"system": one.name, "build": one.build, "search": search})
        for one in sweeps
        for search in one.searches
    ]
    assert len(keys) == len(set(keys))


def test_growth_is_told_by_its_exponent(tmp_path, monkeypatch):
    run_of(tmp_path, monkeypatch, "growing")
    sizes = [
        {"rows": rows, "seconds": 2e-6 * rows**1.25, "peak_bytes": 10**9 + 400 * rows}
        for rows in (10_000, 100_000, 1_000_000)
    ]
    told = growth.told(sizes)
    assert told["fitted"] == [100_000, 1_000_000]
    assert told["seconds"]["exponent"] == pytest.approx(1.25)
    assert told["seconds"]["projected"] == pytest.approx(2e-6 * 1e8**1.25)
    assert told["peak_bytes"]["projected"] == pytest.approx(4.1e10)
    assert growth.told(sizes[:2]) == {}
    result = {"machine": {"cpu": "a processor", "cores": 2, "system": "a system"}, "versions": {}}
    result |= {"data": "rows", "k": 10, "recall": 0.9, "paper": 10**8, "noise": 0.03}
    text = growth_page(result | {"systems": {"lshjoin": {"sizes": sizes} | told}}, "growth")
    assert "| **lshjoin** | 0.20 | 3.56 | 63.25 | 1.25 |" in text
    assert "| **lshjoin** | 5.6 | 41 | 100,000, 1,000,000 rows |" in text


def test_a_system_that_was_too_slow_or_large_is_not_asked_for_more_rows(tmp_path, monkeypatch, rng):
    run_of(tmp_path, monkeypatch, "growing")
    data = Data("rows", rng.standard_normal((100, 32)).astype(np.float32))
    # Of 10 rows lshjoin and FAISS had an answer, each with 100 MB: with 100 rows a gigabyte.
    for free, names in ((2e9, {"lshjoin", "FAISS"}), (1e9, set())):
        memory = SimpleNamespace(available=free)
        monkeypatch.setattr(growth.psutil, "virtual_memory", lambda memory=memory: memory)
        assert {sweep.name for sweep in growth.promising("growing", data)} == names
    assert len(growth.promising("no run", data)) > 3


def test_groups_are_of_equal_keys():
    sample, keys = np.array([0, 3, 4]), np.array([7, 8, 7, 8, 7])
    found = [(sample[of].tolist(), rows.tolist()) for of, rows in truth.groups(sample, keys)]
    assert found == [([0, 4], [0, 2, 4]), ([3], [1, 3])]


def test_levels_are_told_beside_the_best():
    levels = [
        {"isa": isa, "asked": 0.9, "seconds": seconds} for isa, seconds in (("a", 3.0), ("b", 1.5))
    ]
    assert levels_table({"levels": levels})[2:] == ["| a | 3.00 | 2.00 |", "| b | 1.50 | 1.00 |"]


def test_two_runs_are_compared_by_their_ratios(tmp_path, monkeypatch):
    first = run_of(tmp_path, monkeypatch, "bench")
    second = run_of(tmp_path, monkeypatch, "second", slower=1.5)
    text = repeated(first, second)
    assert "1 of 2 within 15% of the first; of those that took 1 s or more, 1 of 2." in text
    assert "| 4.00 | 6.00 | +50% ! |" in text


def test_vecs_are_read(tmp_path, rng):
    for suffix, dtype, code in ((".fvecs", np.float32, "f"), (".bvecs", np.uint8, "B")):
        rows = rng.integers(0, 256, (5, 7)).astype(dtype)
        path = tmp_path / f"rows{suffix}"
        path.write_bytes(b"".join(struct.pack(f"<i7{code}", 7, *row) for row in rows))
        read = files.read(path)
        assert read.items.dtype == np.float32
        np.testing.assert_array_equal(read.items, rows)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "too few"),
        (struct.pack("<i2f", 3, 1, 2), "not a number of vectors of 3 values"),
        (struct.pack("<i1fi1f", 1, 1, 2, 1), "vector 1 is not of 1 values"),
        (struct.pack("<i1f", -1, 1), "-1 values"),
    ],
)
def test_broken_vecs_are_refused(tmp_path, content, complaint):
    path = tmp_path / "rows.fvecs"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        files.read(path)


def test_npy_parquet_and_hdf5_are_read(tmp_path, rng):
    h5py = pytest.importorskip("h5py")
    rows = rng.standard_normal((30, 4)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows.astype(np.float16))
    table = pa.table({"id": np.arange(30), "vector": list(rows)})
    pq.write_table(table, tmp_path / "rows.parquet")
    with h5py.File(tmp_path / "rows.hdf5", "w") as file:
        file["train"], file["test"] = rows[5:], rows[:5]
        file.attrs["distance"] = "angular"
    for name, exactly in (("rows.npy", rows.astype(np.float16)), ("rows.parquet", rows)):
        read = files.read(tmp_path / name)
        assert (read.metric, read.queries) == ("euclidean", None)
        np.testing.assert_array_equal(read.items, exactly)
    read = files.read(tmp_path / "rows.hdf5")
    assert read.metric == "cosine"
    np.testing.assert_array_equal(read.items, rows[5:])
    np.testing.assert_array_equal(read.queries, rows[:5])
    pq.write_table(pa.table({"id": [1]}), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="no column of lists among id"):
        files.read(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="not one of"):
        files.read(tmp_path / "rows.csv")


def test_intrinsic_dimension_is_that_of_a_uniform_cube(rng):
    rows = rng.random((4_000, 3))
    near = np.sort(np.linalg.norm(rows[:300, None] - rows[None], axis=2), axis=1)[:, 1:11]
    assert 2.6 < intrinsic_dimension(near) < 3.4


def test_a_row_is_dropped_from_its_own_neighbours():
    found = np.array([[0, 1, 2], [2, 1, 0], [0, 1, 5]])  # a duplicate took the place of the last
    assert without_itself(found).tolist() == [[1, 2], [2, 0], [0, 1]]


def test_a_system_in_its_own_process_tells_of_every_search(tmp_path, rng):
    rows = rng.standard_normal((200, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    (first, found), (second, _) = measure_each(
        "lshjoin", {}, [{"recall": 1.0}, {"recall": 2.0}], tmp_path / "rows.npy", None, k=3
    )
    assert isinstance(first, Measurement)
    assert first.seconds > 0
    assert first.peak_bytes > rows.nbytes
    peer = Lshjoin("euclidean", 1)
    peer.prepare(rows, None)
    peer.build(rows)
    np.testing.assert_array_equal(found, peer.knn(None, 3, recall=1.0))
    assert isinstance(second, Failure)
    assert "recall" in second.error


def test_a_system_that_takes_too_long_is_stopped(tmp_path, rng):
    np.save(tmp_path / "rows.npy", rng.standard_normal((20_000, 64)).astype(np.float32))
    [(result, found)] = measure_each(
        "lshjoin", {}, [{"recall": 1.0}], tmp_path / "rows.npy", None, limit=1e-3
    )
    assert found is None
    assert result == Failure(over_seconds=1e-3)


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
def test_the_adapter_for_ann_benchmarks_runs_as_it_is_run_there(metric, rng):
    rows = rng.standard_normal((500, 16)).astype(np.float32)
    outcomes = list(ann_benchmarks.run(rows[20:], rows[:20], metric, 10))
    assert len(outcomes) == len({outcome.name for outcome in outcomes}) == 8
    assert all(outcome.recall == 1 for outcome in outcomes)  # so few are compared with all
    algorithm = ann_benchmarks.adapter().LshJoin(metric)
    algorithm.fit(rows[:4])
    assert sorted(algorithm.query(rows[0], 10)) == [0, 1, 2, 3]
    algorithm.batch_query(rows[:2], 10)
    assert [sorted(near) for near in algorithm.get_batch_results()] == [[0, 1, 2, 3]] * 2


def test_an_unknown_metric_is_refused_by_the_adapter():
    with pytest.raises(ValueError, match="jaccard"):
        ann_benchmarks.adapter().LshJoin("jaccard")
    assert list(ann_benchmarks.definitions("jaccard")) == []


def test_recorded_runs_are_complete():
    """A run that is published has ended."""
    for path in record.RESULTS.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert any("finished" in line for line in lines), f"{path.name} was interrupted"
