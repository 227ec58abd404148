"""Joins of files out of core: the pairs of a join in memory, whatever happens on the way."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lshjoin import (
    JoinPlan,
    OtherJobError,
    dedup_files,
    knn_join,
    knn_join_files,
    plan_knn_join_files,
    radius_join_files,
)
from lshjoin.files import plan as files_plan

PARTITIONS = JoinPlan.partitions(lists=60, probes=4)
#: Too little for the rows below, with Python not counted, but for some chunks of them.
LIMIT = 4_000_000


def clusters(rng, rows):
    centres = np.random.default_rng(5).standard_normal((200, 16))
    noise = 0.3 * rng.standard_normal((rows, 16))
    return (centres[rng.integers(200, size=rows)] + noise).astype(np.float32)


@pytest.fixture
def files(rng, tmp_path, monkeypatch):
    """items.npy and queries.npy, for small limits: Python's own memory does not count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files_plan, "_BASE", 0)
    monkeypatch.setattr(files_plan, "_BATCH", (1 << 16, 1 << 20))
    np.save("items.npy", clusters(rng, 20_000))
    np.save("queries.npy", clusters(rng, 15_000))


def pairs(path):
    order = [(name, "ascending") for name in ("query", "distance", "item")]
    return pq.read_table(path).sort_by(order)


@pytest.mark.parametrize("queries", [None, "queries.npy"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
def test_knn_pairs_are_those_in_memory(metric, queries, files):
    common = {"metric": metric, "plan": PARTITIONS}
    inside = knn_join_files(queries, "items.npy", 5, out="inside.parquet", **common)
    disk = knn_join_files(queries, "items.npy", 5, out="disk.parquet", memory_limit=LIMIT, **common)
    assert not inside.plan.out_of_core
    assert disk.plan.out_of_core
    assert disk.plan.queries > 2 * disk.plan.chunk
    assert disk.pairs == inside.pairs == 5 * disk.queries
    assert pairs("disk.parquet").equals(pairs("inside.parquet"))
    found = pairs_of_arrays(queries, 5, **common)
    assert found.to_pydict() == pairs("disk.parquet").to_pydict()
    assert sorted(os.listdir()) == ["disk.parquet", "inside.parquet", "items.npy", "queries.npy"]


def pairs_of_arrays(queries, k, **options):
    queries = None if queries is None else np.load(queries)
    found = knn_join(queries, np.load("items.npy"), k, **options)
    columns = {
        "query": np.repeat(np.arange(len(found.indices)), k),
        "item": found.indices.ravel(),
        "distance": found.distances.ravel(),
    }
    order = [(name, "ascending") for name in ("query", "distance", "item")]
    return pa.table(columns).sort_by(order)


@pytest.mark.parametrize("queries", [None, "queries.npy"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
def test_the_plan_of_a_recall_gives_the_same_pairs_in_memory(metric, queries, files):
    common = {"metric": metric, "recall": 0.8, "memory_limit": LIMIT}
    disk = knn_join_files(queries, "items.npy", 5, out="disk.parquet", **common)
    assert disk.plan.out_of_core
    fixed = JoinPlan.from_json(disk.plan.join.to_json())
    asked = plan_knn_join_files(queries, "items.npy", 5, **common).join
    for plan in (fixed, asked) if metric == "euclidean" else (fixed,):
        found = pairs_of_arrays(queries, 5, metric=metric, plan=plan)
        assert found.to_pydict() == pairs("disk.parquet").to_pydict()
    assert fixed.kind == "partitions"


def test_plans_that_only_memory_can_follow(files):
    ivf = JoinPlan.ivf(lists=60, probes=4)
    common = {"items": "items.npy", "k": 5, "plan": ivf}
    knn_join_files(out="inside.parquet", **common)
    found = pairs_of_arrays(None, 5, plan=ivf)
    assert found.to_pydict() == pairs("inside.parquet").to_pydict()
    with pytest.raises(ValueError, match=r"exact or of partitions, not JoinPlan\.ivf"):
        knn_join_files(out="disk.parquet", memory_limit=LIMIT, **common)
    doubles = np.load("items.npy").astype(np.float64)
    with pytest.raises(ValueError, match="an index holds 32 bits a value"):
        knn_join(items=doubles, plan=PARTITIONS)


@pytest.mark.parametrize("queries", [None, "queries.npy"])
def test_radius_pairs_are_those_in_memory(queries, files):
    inside = radius_join_files(queries, "items.npy", 1.2, out="inside.parquet")
    disk = radius_join_files(queries, "items.npy", 1.2, out="disk.parquet", memory_limit=LIMIT)
    assert (inside.plan.out_of_core, disk.plan.out_of_core) == (False, True)
    assert disk.pairs == inside.pairs > 10_000
    assert pairs("disk.parquet").equals(pairs("inside.parquet"))


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
def test_every_row_has_all_its_neighbors(metric, files):
    rows = np.load("items.npy")
    for first, size in ((0, 1), (1, 2), (3, 3), (6, 5)):
        rows[first : first + size] += 300 * (first + 1) * np.eye(16, dtype="f4")[first]
    np.save("items.npy", rows)
    common = {"items": "items.npy", "k": 10, "metric": metric}
    few = JoinPlan.partitions(lists=60, probes=1)
    for limit, plan in ((None, {"recall": 0.9}), (None, {"plan": few}), (LIMIT, {"plan": few})):
        done = knn_join_files(out="out.parquet", memory_limit=limit, **plan, **common)
        assert done.plan.out_of_core == (limit is not None)
        assert done.pairs == 10 * len(rows)
        lists = pairs("out.parquet").group_by("query").aggregate([("item", "count_distinct")])
        assert set(lists["item_count_distinct"].to_pylist()) == {10}
        os.remove("out.parquet")


def test_one_source_alone_is_joined_with_itself(files):
    for number, sides in enumerate(({"queries": "items.npy"}, {"items": "items.npy"})):
        join = knn_join_files(k=3, out=f"{number}.parquet", recall=0.9, **sides)
        assert (join.queries, join.items) == (20_000, 20_000)
    assert pairs("0.parquet").equals(pairs("1.parquet"))
    assert radius_join_files("queries.npy", radius=0.5, out="near.parquet").items == 15_000
    assert plan_knn_join_files("queries.npy").queries == 15_000


@pytest.mark.parametrize("queries", [None, "queries.npy"])
def test_exact(queries, files):
    for limit in (None, LIMIT):
        out = f"{limit}.parquet"
        exact = {"plan": JoinPlan.exact(), "memory_limit": limit}
        join = knn_join_files(queries, "items.npy", 5, out=out, **exact)
        assert join.plan.out_of_core is (limit is not None)
    assert pairs("None.parquet").equals(pairs(f"{LIMIT}.parquet"))


def test_many_equal_rows(files):
    rows = np.load("items.npy")
    rows[::3] = rows[0]
    np.save("items.npy", rows)
    for limit in (None, LIMIT):
        exact = {"plan": JoinPlan.exact(), "memory_limit": limit}
        join = knn_join_files(items="items.npy", k=5, out=f"{limit}.parquet", **exact)
        assert join.plan.out_of_core is (limit is not None)
    assert pairs("None.parquet").equals(pairs(f"{LIMIT}.parquet"))


def test_dedup(files):
    rows = np.load("items.npy")
    rows[10_000:] = rows[:10_000] + np.float32(1e-3)
    np.save("items.npy", rows)
    for limit in (None, LIMIT):
        groups = dedup_files("items.npy", 0.01, out=f"{limit}.parquet", memory_limit=limit)
        assert (groups.rows, groups.groups, groups.kept) == (20_000, 10_000, 10_000)
    table = pq.read_table("None.parquet")
    assert table.equals(pq.read_table(f"{LIMIT}.parquet"))
    assert table["group"].to_pylist() == 2 * list(range(10_000))
    assert not os.path.exists(f"{LIMIT}.parquet.work")


@pytest.mark.parametrize("queries", [None, "queries.npy"])
def test_manhattan(queries, files):
    """Without codes, and slow: few rows."""
    for name in ("items.npy", "queries.npy"):
        np.save(name, np.load(name)[:3000])
    for limit in (None, 1_200_000):
        out = f"{limit}.parquet"
        common = {"metric": "manhattan", "memory_limit": limit}
        join = knn_join_files(queries, "items.npy", 5, out=out, **common)
        assert join.plan.out_of_core is (limit is not None)
    assert pairs("None.parquet").equals(pairs("1200000.parquet"))


def test_a_recall_is_reached(files):
    plan = JoinPlan.partitions(lists=60, probes=1, until_recall=0.9)
    knn_join_files(items="items.npy", k=5, out="p.parquet", plan=plan, memory_limit=LIMIT)
    knn_join_files(items="items.npy", k=5, out="exact.parquet", plan=JoinPlan.exact())
    found, true = (
        set(zip(*pq.read_table(path, columns=["query", "item"]).to_pydict().values(), strict=True))
        for path in ("p.parquet", "exact.parquet")
    )
    assert len(found & true) >= 0.9 * len(true)


JOB = """
    import sys
    from lshjoin import JoinPlan, dedup_files, knn_join_files, radius_join_files
    from lshjoin.files import plan as files_plan
    files_plan._BASE, files_plan._BATCH = 0, (1 << 16, 1 << 20)
    plan = JoinPlan.partitions(lists=60, probes=4)
    command, memory, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    options = {"out": "p.parquet", "memory_limit": memory or None, "num_threads": threads}
    if command == "knn":
        knn_join_files(items="items.npy", k=5, plan=plan, max_rows_per_file=30_000, **options)
    elif command == "radius":
        radius_join_files("queries.npy", "items.npy", 1.2, **options)
    else:
        dedup_files("items.npy", 0.9, **options)
"""


def start(command, memory, threads):
    arguments = [sys.executable, "-c", textwrap.dedent(JOB), command, str(memory), str(threads)]
    return subprocess.Popen(arguments)


@pytest.mark.parametrize("command", ["knn", "radius", "dedup"])
def test_killed_at_random_moments(command, files, kills):
    """And begun again with another memory limit, which may have room for all, and other threads."""

    def rows():
        table = pq.read_table("p.parquet")
        table = table.sort_by([(name, "ascending") for name in table.column_names])
        shutil.rmtree("p.parquet") if command == "knn" else os.unlink("p.parquet")
        return table

    begun = time.monotonic()
    assert start(command, LIMIT, 2).wait() == 0
    whole = time.monotonic() - begun
    undisturbed = rows()
    moments = random.Random(7)
    while kills.count < kills.of(4):
        memory = moments.choice([LIMIT, LIMIT, LIMIT - 500_000, 3 * LIMIT, 0])
        process = start(command, memory, moments.choice([1, 2, 3]))
        # From the imports to the last rename. What is left to do gets shorter.
        kills.kill(process, moments.uniform(0, whole))
        if os.path.exists("p.parquet"):  # after its rename a kill takes nothing back
            assert rows().equals(undisturbed)
    assert start(command, LIMIT, 2).wait() == 0
    assert rows().equals(undisturbed)
    assert sorted(os.listdir()) == ["items.npy", "queries.npy"]


def test_finished_chunks_are_not_joined_again(files, monkeypatch):
    def stop_after(chunks):
        told = []

        def progress(done, total):
            told.append((done, total))
            if len(list(os.scandir("work"))) - len(others) > chunks:
                raise KeyboardInterrupt

        others = ["index", "manifest.json", "plan.json"]
        return progress

    common = {"items": "items.npy", "k": 5, "plan": PARTITIONS, "memory_limit": 2_200_000}
    with pytest.raises(KeyboardInterrupt):
        knn_join_files(out="p.parquet", work_dir="work", progress=stop_after(1), **common)
    parts = {path.name: path.stat().st_mtime_ns for path in os.scandir("work")}
    assert len([name for name in parts if name.startswith("pairs")]) >= 1
    with pytest.raises(KeyboardInterrupt):
        knn_join_files(out="p.parquet", work_dir="work", progress=stop_after(2), **common)
    again = {path.name: path.stat().st_mtime_ns for path in os.scandir("work")}
    assert again.items() > parts.items()
    knn_join_files(out="p.parquet", work_dir="work", **common)
    knn_join_files(out="q.parquet", **common)
    assert pq.read_table("p.parquet").equals(pq.read_table("q.parquet"))


def test_more_memory_may_go_on_with_less(files):
    """The limit is no part of what the job is."""
    common = {"items": "items.npy", "k": 5, "plan": PARTITIONS, "work_dir": "work"}

    def stop(done, total):
        if any(name.startswith("pairs") for name in os.listdir("work")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        knn_join_files(out="p.parquet", memory_limit=LIMIT, progress=stop, **common)
    knn_join_files(out="p.parquet", memory_limit=LIMIT - 500_000, **common)
    del common["work_dir"]
    knn_join_files(out="q.parquet", **common)
    assert pairs("p.parquet").equals(pairs("q.parquet"))


def test_another_command_is_refused(files):
    common = {"items": "items.npy", "out": "p.parquet", "work_dir": "work"}

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        knn_join_files(k=5, progress=stop, **common)
    with pytest.raises(OtherJobError, match="work belongs to another job: k is 5 there but 6 here"):
        knn_join_files(k=6, **common)
    with pytest.raises(OtherJobError, match='command is "knn" there but "radius" here'):
        radius_join_files(radius=1.0, **common)
    np.save("items.npy", np.load("items.npy"))  # the same, but who knows
    with pytest.raises(OtherJobError, match="items files 0 changed is"):
        knn_join_files(k=5, **common)


def test_ctrl_c_leaves_a_job_to_go_on_with(files):
    command = [sys.executable, "-m", "lshjoin", "radius", "items.npy", "--radius", "1"]
    np.save("items.npy", np.random.default_rng(0).random((200_000, 16), np.float32))
    process = subprocess.Popen([*command, "--out", "p.parquet"], stderr=subprocess.PIPE, text=True)
    while not os.path.exists("p.parquet.work/manifest.json"):
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert error.endswith("Error: interrupted; the same command goes on where it was\n")
    assert process.returncode == 130
    assert os.path.exists("p.parquet.work/manifest.json")
    assert not os.path.exists("p.parquet")


def test_the_plan_says_what_will_be_done(files):
    text = str(plan_knn_join_files(items="items.npy", k=5, memory_limit=LIMIT))
    assert "20,000 queries, 20,000 items of 16 dimensions, out of core: " in text
    assert "items 1.28 MB 2 times, unsorted rows 1.44 MB, codes of the index" in text
    plan = plan_knn_join_files(items="items.npy", k=5, memory_limit=LIMIT).as_dict()
    assert json.loads(json.dumps(plan))["chunk"] * 2 < 20_000
    assert sum(plan["resident"].values()) <= LIMIT
    with pytest.raises(ValueError, match="memory_limit is 1 MB, but this join needs .* at least"):
        plan_knn_join_files(items="items.npy", k=5, memory_limit=1_000_000)


@pytest.mark.parametrize("queries", [None, "queries.npy"])
def test_a_plan_tells_the_time_of_each_kind_of_join(queries, files):
    for metric in ("euclidean", "inner_product"):
        plan = plan_knn_join_files(
            queries, "items.npy", 5, metric=metric, memory_limit=LIMIT, recall=0.8
        )
        assert plan.out_of_core
        assert plan.seconds > 0
    told = []

    def is_enough(plan):
        told.append(plan)
        raise KeyboardInterrupt

    common = {"out": "near.parquet", "memory_limit": LIMIT, "on_plan": is_enough}
    with pytest.raises(KeyboardInterrupt):
        radius_join_files(queries, "items.npy", 0.2, **common)
    assert told[0].out_of_core
    assert told[0].seconds > 0


def test_float64_is_not_rounded(files):
    np.save("items.npy", np.load("items.npy").astype(np.float64))
    with pytest.raises(ValueError, match="float64 vectors are joined in memory alone"):
        knn_join_files(items="items.npy", out="p.parquet", memory_limit=LIMIT)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_limit_is_kept(tmp_path, rng):
    """By what is not mapped, which would be half as much again in memory."""
    np.save(tmp_path / "items.npy", rng.random((300_000, 32), np.float32))
    limit = 300 << 20
    script = f"""
        import threading, time
        from lshjoin import JoinPlan, knn_join_files
        peak = 0
        def watch():
            global peak
            while True:
                with open("/proc/self/status") as status:
                    anonymous = next(line for line in status if line.startswith("RssAnon"))
                peak = max(peak, int(anonymous.split()[1]) << 10)
                time.sleep(0.005)
        threading.Thread(target=watch, daemon=True).start()
        plan = JoinPlan.partitions(lists=600, probes=1)
        join = knn_join_files(items="items.npy", out="p.parquet", plan=plan, memory_limit={limit})
        assert join.plan.out_of_core
        print(peak)
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},
    )
    assert process.stderr == ""
    assert int(process.stdout) < limit


@pytest.mark.parametrize("name", ["plan.json", "pairs-*.parquet", "items-ids", "items-ids-ends"])
def test_what_is_damaged_in_a_work_directory_is_named(name, files, tmp_path, monkeypatch):
    rows = np.load("items.npy")
    ids = [f"row {row}" for row in range(len(rows))]
    table = pa.table({"id": ids, "v": pa.FixedSizeListArray.from_arrays(rows.ravel(), 16)})
    pq.write_table(table, "items.parquet")
    common = {"items": "items.parquet", "out": "p.parquet", "id_column": "id"}

    def knn():
        return knn_join_files(k=5, plan=PARTITIONS, memory_limit=LIMIT, **common)

    def full(*arguments):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lshjoin.files.joins.stored_tables", full)
        with pytest.raises(OSError, match="no space"):
            knn()
    work = tmp_path / "p.parquet.work"
    path = sorted(work.glob(name))[0]
    if "ids" in name:  # which only parts that are missing have a use for
        for part in work.glob("pairs-*"):
            part.unlink()
    content = path.read_bytes()
    for damaged in (b"junk", b"", content[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{path.name}(-ends)? is damaged"):
            knn()
    path.write_bytes(content)
    assert knn().pairs == 5 * len(rows)
