"""Kills at random moments: the kill tests, each with several times as many as in `make test`.

Joins, first saves, additions and removals, builds and models are killed and begun again with other
options; what each test demands stands beside it. Writes "kills" in bench-results/reliability.json.
"""

import argparse
import sys

from benches.reliability import outcomes


def killed(times: int) -> tuple[int, list[dict[str, object]]]:
    """pytest's exit code, and for each test its kills, seconds and whether it passed."""
    code, report = outcomes.of_tests("-k", "killed", "tests/python", LSHJOIN_KILLS=str(times))
    return code, [
        {
            "test": f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}",
            "kills": sum(int(found.get("value", 0)) for found in case.iter("property")),
            "passed": case.find("failure") is None and case.find("error") is None,
            "seconds": round(float(case.get("time", 0)), 1),
        }
        for case in report.iter("testcase")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=3, help="as many kills as in `make test`")
    code, tests = killed(parser.parse_args().times)
    kills, failed = sum(test["kills"] for test in tests), sum(not test["passed"] for test in tests)
    outcomes.keep("kills", {"kills": kills, "failed": failed, "tests": tests})
    print(f"{kills} kills in {len(tests)} tests, {failed} of which failed")
    return code


if __name__ == "__main__":
    sys.exit(main())
