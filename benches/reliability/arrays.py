"""Odd arrays, columns, frames, parameters and files by the thousand: test_properties.py.

Each is answered as brute force does, or refused with the reason; else a test fails. Writes "arrays"
in bench-results/reliability.json: how many of each there were.
"""

import sys

from benches.reliability import outcomes


def main() -> int:
    code, report = outcomes.of_tests("tests/python/test_properties.py", HYPOTHESIS_PROFILE="fuzz")
    tests = list(report.iter("testcase"))
    failed = [test for test in tests if {part.tag for part in test} & {"failure", "error"}]
    counts: dict[str, dict[str, int]] = {}
    for suite in report.iter("testsuite"):
        for found in suite.findall("properties/property"):
            what, _, outcome = found.attrib["name"].rpartition(" ")
            if outcome in ("answered", "refused"):  # the others are hypothesis's own
                counts.setdefault(what, {})[outcome] = int(found.attrib["value"])
    outcomes.keep("arrays", {"tests": len(tests), "failed": len(failed), "counts": counts})
    print(f"{counts}; {len(failed)} of {len(tests)} tests failed")
    return code


if __name__ == "__main__":
    sys.exit(main())
