"""One system's work in a process of its own: `python -m benches.systems.worker JOB`.

Follows `protocol`, and saves the neighbours that it found for their recall to be computed.
"""

import json
import sys
from dataclasses import asdict
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benches.data.rows import Indices, Rows
from benches.systems import peers
from benches.systems.meter import timed_often
from benches.systems.protocol import LOADED, Measurement


def main() -> None:
    job = json.loads(sys.argv[1])
    items = np.load(job["items"])
    queries = np.load(job["queries"]) if job["queries"] else None
    asked = np.load(job["keys"]) if job["keys"] else queries
    module, name = peers.PEERS[job["name"]].split(":")
    peer_class = getattr(import_module(f"{peers.__name__}.{module}"), name)
    peer = peer_class(job["metric"], job["threads"], **job["build"])
    peer.prepare(items, queries)
    print(LOADED, flush=True)

    def build() -> None:
        vars(peer).pop("index", None)  # that of the run before would count to the memory
        peer.build(items)

    build_seconds, _ = timed_often(build)
    task = getattr(peer, job["task"])
    wanted = {"hash": None} | dict.fromkeys(("radius", "dedup"), job["radius"])
    for number, search in enumerate(job["searches"]):
        seconds, answer = timed_often(task, asked, wanted.get(job["task"], job["k"]), **search)
        if isinstance(answer, float):  # a task that timed itself, one query after the other
            seconds = answer
        measured = asdict(Measurement(build_seconds, seconds, peer.peak_bytes()))
        if job["task"] in ("knn", "within"):
            measured |= saved(answer, peer, queries, Path(job["found"], f"{number}.npy"))
        elif job["task"] == "radius":
            measured["pairs"] = answer[0]
        elif job["task"] == "dedup":
            measured["kept"] = answer[0]
        elif job["task"] == "single":
            measured["rest_bytes"] = peer.rest_bytes()
        print(json.dumps(measured), flush=True)


def saved(found: Indices, peer: Any, queries: Rows | None, path: Path) -> dict[str, Any]:
    """Saves neighbours, for their recall to be computed."""
    found = found.astype(np.int64)
    if queries is None and peer.returns_itself:
        found = without_itself(found)
    np.save(path, found)
    digest = blake2b(digest_size=16)
    for array in peer.joined or (found,):
        digest.update(np.ascontiguousarray(array))
    plan = peer.joined and peer.joined.plan.to_json()
    return {"digest": digest.hexdigest(), "plan": plan}


def without_itself(found: Indices) -> Indices:
    """One column less: the row itself, or the last where a duplicate took its place."""
    itself = found == np.arange(len(found))[:, None]
    itself[~itself.any(axis=1), -1] = True
    return found[~itself].reshape(len(found), -1)


if __name__ == "__main__":
    main()
