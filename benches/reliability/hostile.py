"""Indexes, plans and models that somebody changed on purpose, each used in a child process.

Writes "indexes", "plans" and "models" in bench-results/reliability.json: how many were refused, how
many answered, and what else happened, which nothing may. `--show` tells of every case.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benches.reliability import children, indexes, models, outcomes, plans

KINDS = {"indexes": (indexes, 3000), "plans": (plans, 1000), "models": (models, 500)}


def tried(kind: str, numbers: range) -> dict[int, tuple[str, str]]:
    """What becomes of each case, with the words that it ended with."""
    module, _ = KINDS[kind]
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as elsewhere:
        os.environ["HOSTILE_ELSEWHERE"] = elsewhere
        module.make(Path(place))
        size = -(-len(numbers) // len(os.sched_getaffinity(0)))
        parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        with ThreadPoolExecutor() as pool:
            run = partial(children.run, module.__name__, place=Path(place))
            return {
                number: what for found in pool.map(run, parts) for number, what in found.items()
            }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--only", choices=KINDS)
    options.add_argument("--first", type=int, default=0, help="the number of the first case")
    options.add_argument("--cases", type=int, help="how many; as many as are promised if not given")
    options.add_argument("--show", action="store_true", help="each case, and write nothing")
    chosen = options.parse_args()
    failed = False
    for kind in [chosen.only] if chosen.only else KINDS:
        count = chosen.cases or KINDS[kind][1]
        found = tried(kind, range(chosen.first, chosen.first + count))
        counts = Counter(what for what, _ in found.values())
        print(kind, dict(counts), flush=True)
        for number, (what, message) in found.items():
            defect = what in children.DEFECTS
            failed |= defect
            if defect or chosen.show:
                print(f"{kind} {number}: {what}\n{message}")
        if not chosen.show:
            names = (children.REFUSED, children.ANSWERED, *children.DEFECTS)
            outcomes.keep(kind, {"outcomes": {name: counts[name] for name in names}})
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
