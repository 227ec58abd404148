"""Texts of plans that somebody changed on purpose: read, shown, and followed."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
from lshjoin import JoinPlan, knn_join, plan_knn_join

from benches.reliability.children import WrongAnswer, serve
from benches.reliability.mutations import change_json, change_text, pick

ROWS = np.random.default_rng(0).standard_normal((4500, 6)).astype(np.float32)
K = 5
PREDICTED = {
    "recall": {"value": 0.9, "low": 0.8, "high": 0.95, "rows": 100},
    "share": 0.1,
    "seconds": 1.5,
    "bytes": 1000,
    "contrast": 2.0,
    "why": "it is the quickest",
}
TEXTS = [
    JoinPlan.exact().to_json(),
    JoinPlan.lsh(axes=6, functions=6, tables=2, probes=2, rounds=1).to_json(),
    JoinPlan.lsh(axes=6, functions=8, tables=1, probes=1, rounds=0, until_recall=0.8).to_json(),
    JoinPlan.ivf(lists=60, probes=3, rounds=1).to_json(),
    JoinPlan.ivf(lists=60, probes=1, until_recall=0.9).to_json(),
    JoinPlan.partitions(lists=60, probes=3).to_json(),
    JoinPlan.partitions(lists=60, probes=1, until_recall=0.9).to_json(),
]
TEXTS += [json.dumps({**json.loads(text), "predicted": PREDICTED}) for text in TEXTS]


def make(place: Path) -> None:
    """Nothing: all plans are here."""


def use(text: str) -> None:
    plan = JoinPlan.from_json(text)
    for again in (JoinPlan.from_json(plan.to_json()), pickle.loads(pickle.dumps(plan))):
        if (again, hash(again), str(again)) != (plan, hash(plan), str(plan)):
            raise WrongAnswer(f"{plan!r} is read as {again!r}")
    found = knn_join(items=ROWS, k=K, plan=plan)
    if not (found.indices >= 0).all():
        raise WrongAnswer(f"{plan!r}: rows without {K} neighbours")
    far = np.linalg.norm(ROWS[:, None] - ROWS[found.indices], axis=2)
    if not np.allclose(far, found.distances, 1e-4, 1e-5):
        raise WrongAnswer(f"{plan!r}: distances of others")


def case(number: int, directory: Path) -> None:
    random = np.random.default_rng([number, 2])
    text = pick(random, TEXTS)
    if random.random() < 0.75:
        plan = json.loads(text)
        change_json(random, plan)
        text = json.dumps(plan)
    else:
        text = change_text(random, text.encode()).decode(errors=pick(random, ["replace", "ignore"]))
    use(text)


if __name__ == "__main__":
    start, stop, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    plan_knn_join(items=ROWS[:100])  # imports what is imported late
    serve(case, range(start, stop), place)
