"""All that an index can do, and whether its answers are those of its rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from lshjoin import Index, JoinPlan

from benches.reliability.children import WrongAnswer, tell
from benches.reliability.index_files import read_arrays


def distances(metric: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "inner_product":
        return -queries @ rows.T
    if metric == "cosine":

        def unit(x: np.ndarray) -> np.ndarray:
            lengths = np.linalg.norm(x, axis=1, keepdims=True)
            return x / np.where(lengths > 0, lengths, 1)

        return 1 - unit(queries) @ unit(rows).T
    apart = queries[:, None] - rows[None]
    return np.abs(apart).sum(2) if metric == "manhattan" else np.sqrt((apart**2).sum(2))


class Items:
    """What an index has to answer from."""

    def __init__(self, directory: Path) -> None:
        arrays = read_arrays(directory)
        metadata = json.loads((directory / "manifest.json").read_text())["metadata"]
        self.metric = metadata["metric"]
        self.rows, self.ids = arrays["rows"][:, : metadata["dim"]], arrays["ids"]

    def change(self, gone: np.ndarray, new: np.ndarray, rows: np.ndarray) -> None:
        keep = ~np.isin(self.ids, gone)
        self.rows = np.concatenate([self.rows[keep], rows])
        self.ids = np.concatenate([self.ids[keep], new])

    def check(self, queries: np.ndarray, found: Any, complete: bool) -> None:
        """That distances are those of the items, and the least if all were to be found."""
        true = distances(self.metric, queries, self.rows)
        near = (1e-5 * np.abs(true).max(initial=1), 1e-4)
        places = {int(one): place for place, one in enumerate(self.ids)}
        for query, (far, ids) in enumerate(zip(found.distances, found.indices, strict=True)):
            known = far < np.inf
            own = np.array([true[query, places[int(one)]] for one in ids[known]])
            expected = np.sort(true[query])[: len(far)]
            if not np.allclose(own, far[known], near[1], near[0]):
                raise WrongAnswer(f"query {query}: {far} of {ids}, which are at {own}")
            if complete and not np.allclose(expected, far[: len(expected)], near[1], near[0]):
                raise WrongAnswer(f"query {query}: {far} where {expected} are nearest")


def use(directory: Path, seed: int) -> None:
    """All that an index can do; answers are checked where it has vouched for itself."""
    index = Index.load(directory)
    assert str(index).startswith(f"<lshjoin.Index: {len(index)} items")
    assert index.info["dim"] == index.dim
    items, refused = None, None
    try:
        index.verify()
        items = Items(directory)
    except ValueError as error:
        refused = error
    random = np.random.default_rng(seed)
    # Fewer queries or items meet all whatever the plan.
    counts = (20, 4200 if len(index) > 4096 else 20)
    few, many = (random.standard_normal((count, index.dim), np.float32) for count in counts)
    every = index.knn(few, 4, recall=1.0)
    tell({})
    numbers = json.loads(index.plan.to_json())
    probing = JoinPlan.from_json(json.dumps(numbers | {"until_recall": None}))
    fixed = index.fixed_plan(3, queries=many, plan=index.plan)
    tell({})
    for queries, plan in (
        (few, index.plan),
        (few, probing),
        (many, fixed),
    ):
        found = index.knn(queries, 3, plan=plan)
        tell({})
        if items:
            items.check(
                queries[:20],
                type(found)(*(part[:20] for part in found), found.plan, found.report),
                False,
            )
    plan = index.fixed_plan(3, plan=index.plan)
    tell({})
    for chunk in index.chunks(3)[:1]:
        index.knn_of_chunk(chunk, 3, plan=plan)
        tell({})
        index.knn_of_chunk(chunk, 3, plan=JoinPlan.exact())
        tell({})
    if index.metric != "inner_product":
        index.radius(few, 0.5)
        index.radius_of_chunk(range(min(len(index), 300)), 0.1)
        tell({})
    gone, new = (
        np.unique(every.indices[0, :2][every.distances[0, :2] < np.inf]),
        2**40 + np.arange(3),
    )
    index.remove(gone)
    index.add(few[:3], new)
    changed = index.knn(few, 4, recall=1.0)
    tell({})
    saved = directory.parent / "saved"
    index.save(saved)
    tell({})
    again = Index.load(saved, mmap=False).knn(few, 4, recall=1.0)
    if items:
        items.check(few, every, True)
        items.change(gone, new, few[:3])
        items.check(few, changed, True)
        items.check(few, again, True)
    Index.load(directory).save(directory.parent / "copied")
    if refused:
        raise refused
