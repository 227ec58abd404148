"""Indexes, plans and models that somebody changed on purpose, each opened and used in a child process.

Writes "indexes", "plans" and "models" in bench-results/reliability.json: how many were refused, how
many answered, and what else happened, which nothing may. `--show` tells of cases that went wrong.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent)]

import children  # noqa: E402
import indexes  # noqa: E402
import models  # noqa: E402
import plans  # noqa: E402
import record  # noqa: E402

KINDS = {"indexes": (indexes, 3000), "plans": (plans, 1000), "models": (models, 500)}


def outcomes(kind: str, numbers: range) -> dict[int, tuple[str, str]]:
    """What becomes of each case, with the words that it ended with."""
    module, _ = KINDS[kind]
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as elsewhere:
        os.environ["HOSTILE_ELSEWHERE"] = elsewhere
        module.make(Path(place))
        return children.run(str(module.__file__), numbers, Path(place))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--only", choices=KINDS)
    options.add_argument("--first", type=int, default=0, help="the number of the first case")
    options.add_argument("--cases", type=int, help="how many; as many as are promised if not given")
    options.add_argument("--show", action="store_true", help="each defect, and write nothing")
    chosen = options.parse_args()
    defects = 0
    for kind in [chosen.only] if chosen.only else KINDS:
        count = chosen.cases or KINDS[kind][1]
        found = outcomes(kind, range(chosen.first, chosen.first + count))
        counts = Counter(what for what, _ in found.values())
        wrong = {number: found[number] for number in found if found[number][0] in children.DEFECTS}
        defects += len(wrong)
        print(kind, dict(counts), flush=True)
        for number, (what, message) in wrong.items():
            print(f"{kind} {number}: {what}\n{message}")
        if not chosen.show:
            keep(kind, {name: counts[name] for name in (children.REFUSED, children.ANSWERED)}
                 | {name: counts[name] for name in children.DEFECTS})
    return min(defects, 1)


def keep(kind: str, counts: dict[str, int]) -> None:
    path = record.RESULTS / "reliability.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result = {"date": record.now(), "machine": record.machine(), "cases": sum(counts.values())}
    known[kind] = result | {"outcomes": counts}
    path.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
