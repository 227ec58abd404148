"""Kills at random moments: the kill tests, each with several times as many as in `make test`.

Joins, first saves, additions and removals, builds and models are killed and begun again with other
options; what each test demands stands beside it. Writes "kills" in bench-results/reliability.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches"))

import record  # noqa: E402

RESULT = record.RESULTS / "reliability.json"


def killed(times: int) -> tuple[int, list[dict[str, object]]]:
    """pytest's exit code, and for each test its kills, seconds and whether it passed."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-k", "killed", f"--junitxml={report}"]
        code = subprocess.run(
            [*command, "tests/python"],
            cwd=ROOT,
            env=os.environ | {"LSHJOIN_KILLS": str(times)},
            check=False,
        ).returncode
        cases = ET.parse(report).iter("testcase")
        return code, [
            {
                "test": f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}",
                "kills": sum(int(found.get("value", 0)) for found in case.iter("property")),
                "passed": case.find("failure") is None and case.find("error") is None,
                "seconds": round(float(case.get("time", 0)), 1),
            }
            for case in cases
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=3, help="as many kills as in `make test`")
    code, tests = killed(parser.parse_args().times)
    kills = {
        "date": record.now(),
        "machine": record.machine(),
        "kills": sum(test["kills"] for test in tests),
        "failed": sum(not test["passed"] for test in tests),
        "tests": tests,
    }
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps(known | {"kills": kills}, indent=2) + "\n")
    print(f"{kills['kills']} kills in {len(tests)} tests, {kills['failed']} of which failed")
    return code


if __name__ == "__main__":
    sys.exit(main())
