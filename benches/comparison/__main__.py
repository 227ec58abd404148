"""Measures lshjoin beside similar systems, into bench-results/NAME.jsonl.

Each system runs in a process of its own on the same number of threads, and they take turns.
`python -m benches.report NAME` makes tables and plots of it.
"""

import argparse
from pathlib import Path

from benches import record
from benches.comparison import workloads
from benches.comparison.run import Run
from benches.data.dataset import K


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="some three minutes of it")
    options.add_argument("--name", help="of the results; bench, quick or data unless given")
    options.add_argument("--data", type=Path, nargs="+", help="files to join instead")
    options.add_argument("--k", type=int, default=K, help="neighbours of a row in those files")
    options.add_argument("--workloads", nargs="+", help="some of them by name")
    chosen = options.parse_args()
    if chosen.data:
        name, planned = "data", [workloads.file(path, chosen.k) for path in chosen.data]
    elif chosen.quick:
        name, planned = "quick", workloads.QUICK
    else:
        name, planned = "bench", workloads.FULL
    if chosen.workloads:
        planned = [workload for workload in planned if workload.name in chosen.workloads]
    run = Run(chosen.name or name)
    for workload in planned:
        run.run(workload)
    if not chosen.workloads:
        run.append({"finished": record.now()})


if __name__ == "__main__":
    main()
