"""Joins planned for a recall against the best that a grid over plans finds.

For each data set, k, and one or two sides: every plan of the grid joins once; then, for each recall
asked for, the planned join and the quickest plans of the grid that reach it take turns. Seconds are
medians and include the planning; what that takes is the difference to the same plan passed in.
Recall is by exact search on 3,000 sampled rows that the planner knows nothing of. Results go to
bench-results/planner.json and .md, case by case; runs with --rows are only printed.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from lshjoin import JoinPlan, Neighbors, knn_join

from benches import record
from benches.data.descriptors import descriptors
from benches.data.embeddings import embeddings
from benches.data.gaussian import clusters, duplicates, huge, sphere
from benches.data.rows import Rows
from benches.data.truth import Truth
from benches.systems.protocol import THREADS

RECALLS = (0.8, 0.9, 0.95, 0.99)
TOLERANCE = 0.01  # of the recall
RATIO, WORST = 1.3, 2.0  # of the grid's best time: for most joins, and for all
SHARE = 0.9  # of the joins, that are most
PLANNING, LONG = 0.15, 1.0  # of the join's time, for joins of more seconds
SMALL = 4_999
PASSES = (4, 10, 25)  # probes that a neighbour pass is tried after, for so many neighbours
MOST_OF_PASS = 32  # at most: with more it takes longer than to compare all pairs
FINALISTS = 3  # of the grid, that are measured again beside the planned join
SHORT = 0.5  # seconds; shorter joins are measured more often by
OFTEN = 3  # times


def wordnet(rows: int, seed: int) -> Rows:
    return embeddings(rows, seed)[1]


DATA: dict[str, tuple[Callable[[int, int], Rows], int]] = {
    "wordnet": (wordnet, 60_000),
    "clusters-32": (clusters(32), 60_000),
    "clusters-960": (clusters(960), 20_000),
    "sphere-128": (sphere, 30_000),
    "descriptors-128": (descriptors, 60_000),
    "duplicates": (duplicates, 40_000),
    "huge-norms": (huge, 40_000),
}
CASES = {
    f"{name}-k{k}-{sides}": (name, k, sides)
    for name, k, sides in product(DATA, (1, 10, 100), ("self", "two"))
}


def grid(items: int, k: int, seed: int) -> Iterator[JoinPlan]:
    yield JoinPlan.exact()
    for factor, probes in product((0.5, 1, 1.5, 3), (1, 4, 10, 25, 60, 150)):
        lists = int(factor * items**0.5)
        for rounds in (0, 1) if probes in PASSES and k <= MOST_OF_PASS else (0,):
            yield JoinPlan.ivf(seed=seed, lists=lists, probes=min(probes, lists), rounds=rounds)


def timed(items: Rows, queries: Rows | None, k: int, **how: Any) -> tuple[float, Neighbors]:
    start = perf_counter()
    result = knn_join(queries, items, k, num_threads=THREADS, progress=False, **how)
    return perf_counter() - start, result


def run(case: str, limit: int | None, seed: int, repeats: int) -> dict[str, Any]:
    name, k, sides = CASES[case]
    make, count = DATA[name]
    rows = make(min(count, limit or count), seed)
    items, queries = (rows, None) if sides == "self" else np.split(rows, [len(rows) * 2 // 3])
    truth = Truth.of(items, queries, k, seed + 1)

    tried = []
    for plan in grid(len(items), k, seed):
        seconds, result = timed(items, queries, k, plan=plan)
        tried.append((seconds, truth.recall(items, queries, result.indices), plan))
    results = []
    for recall in RECALLS:
        enough = [trial for trial in tried if trial[1] >= recall - TOLERANCE]
        best = sorted(enough, key=lambda trial: trial[0])[:FINALISTS]
        finalists = [plan for _, _, plan in best]
        rounds = repeats * (OFTEN if best[0][0] < SHORT else 1)
        ours: list[tuple[float, Neighbors]] = []
        replayed: list[float] = []
        theirs: list[list[float]] = [[] for _ in finalists]
        for _ in range(rounds):
            ours.append(timed(items, queries, k, recall=recall, seed=seed))
            replayed.append(timed(items, queries, k, plan=ours[-1][1].plan)[0])
            for times, plan in zip(theirs, finalists, strict=True):
                times.append(timed(items, queries, k, plan=plan)[0])
        seconds = median(taken for taken, _ in ours)
        least, plan = min(zip(map(median, theirs), finalists, strict=True), key=lambda x: x[0])
        result = ours[-1][1]
        results.append(
            {
                "recall_asked": recall,
                "recall": truth.recall(items, queries, result.indices),
                "recall_reported": None if (r := result.report.recall) is None else r.value,
                "seconds": seconds,
                "seconds_predicted": result.plan.predicted.seconds,
                "planning": 1 - median(replayed) / seconds,
                "plan": result.plan.to_json(),
                "best_seconds": least,
                "best_plan": plan.to_json(),
                "ratio": seconds / least,
                "times": rounds,
            }
        )
        print(table_row(case, results[-1]), flush=True)
    return {
        "data": f"{name}, {len(items):,} x {items.shape[1]} float32"
        + ("" if queries is None else f", {len(queries):,} queries"),
        "k": k,
        "plans": len(tried),
        "recalls": results,
    }


def small(seed: int, repeats: int) -> dict[str, Any]:
    """What a join that is too small for planning takes, beside the exact plan."""
    rows = clusters(64)(SMALL, seed)
    pairs = [
        (timed(rows, None, 10, recall=0.95)[0], timed(rows, None, 10, plan=JoinPlan.exact())[0])
        for _ in range(5 * repeats)
    ]
    planned, exact = (median(times) for times in zip(*pairs, strict=True))
    return {"rows": SMALL, "seconds": planned, "exact_seconds": exact}


HEADER = (
    "| case | recall asked | achieved | seconds | predicted | planning | plan | best of grid | its "
    "seconds | ratio |\n|---|---:|---:|---:|---:|---:|---|---|---:|---:|"
)


def table_row(case: str, result: dict[str, Any]) -> str:
    plan, best = (repr(JoinPlan.from_json(result[name])) for name in ("plan", "best_plan"))
    return (
        f"| {case} | {result['recall_asked']} | {result['recall']:.4f} | {result['seconds']:.3f} | "
        f"{result['seconds_predicted']:.3f} | {100 * result['planning']:.0f} % | `{plan[9:]}` | "
        f"`{best[9:]}` | {result['best_seconds']:.3f} | {result['ratio']:.2f} |"
    )


def report(written: dict[str, Any]) -> str:
    rows = [(case, row) for case, one in written["cases"].items() for row in one["recalls"]]
    short = max(row["recall_asked"] - row["recall"] for _, row in rows)
    ratios = [row["ratio"] for _, row in rows]
    within = sum(ratio <= RATIO for ratio in ratios) / len(ratios)
    times = sorted({row.get("times", written["repeats"]) for _, row in rows})
    long = [row["planning"] for _, row in rows if row["seconds"] > LONG]
    small = written["small"]
    plans = min(one["plans"] for one in written["cases"].values())
    return "\n".join(
        [
            "# The planner",
            "",
            f"{len(rows)} joins planned for a recall, against the best of {plans} plans.",
            "",
            f"1. Recall below what was asked for: at most {short:.4f}; the bar is {TOLERANCE}.",
            f"2. Time at most {RATIO} times the grid's best: in {100 * within:.0f} % of the joins; "
            f"the bar is {100 * SHARE:.0f} %. The worst takes {max(ratios):.2f} times; the bar is "
            f"{WORST}.",
            f"3. Planning of joins over {LONG:.0f} s: at most {100 * max(long, default=0):.0f} % "
            f"of their time, in {len(long)} joins; the bar is {100 * PLANNING:.0f} %.",
            f"4. {small['rows']:,} rows, planned: {small['seconds']:.4f} s; exact: "
            f"{small['exact_seconds']:.4f} s.",
            "5. Recall 0.95 on WordNet: see knn_join.md, which plans.",
            "",
            HEADER,
            *(table_row(case, row) for case, row in rows),
            "",
            f"Seed {written['seed']}, median of {' or '.join(map(str, times))}. {written['date']}; "
            f"{record.circumstances(written)}",
            "",
        ]
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--cases", nargs="+", default=list(CASES), metavar="CASE", help="names or their beginnings"
    )
    options.add_argument("--rows", type=int, help="at most so many, to check the script")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    cases = [case for case in CASES if case.startswith(tuple(chosen.cases))]
    if not cases:
        options.error(f"no case begins with any of {chosen.cases}; there are {', '.join(CASES)}")

    known = record.read("planner").get("cases", {}) if not chosen.rows else {}
    written = {
        "cases": known,
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "faiss-cpu", "numpy"),
        "threads": THREADS,
        "seed": chosen.seed,
        "repeats": chosen.repeats,
        "small": small(chosen.seed, chosen.repeats),
    }
    print(HEADER)
    for case in cases:
        known[case] = run(case, chosen.rows, chosen.seed, chosen.repeats)
        written["date"] = record.now()
        written["cases"] = {case: known[case] for case in CASES if case in known}
        if not chosen.rows:
            record.write("planner", written, report(written))
    print(report(written))


if __name__ == "__main__":
    main()
