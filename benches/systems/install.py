"""Installs the systems that are compared, one by one, and remembers which would not install.

`python -m benches.systems.install GROUP ...` reads groups of requirements from pyproject.toml, with
the pip of the environment that it runs in; the crate ann-search-rs is built by `--rust`.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from benches import record

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

ANN_SEARCH_RS = Path(__file__).resolve().parent / "ann-search-rs"
ANN_SEARCH_RS_PEER = ANN_SEARCH_RS / "target/release/ann-search-rs-peer"
REMEMBERED = Path(sys.prefix, "not-installed.json")


def failures() -> dict[str, str]:
    """Why, by requirement."""
    return json.loads(REMEMBERED.read_text()) if REMEMBERED.exists() else {}


def rust_version() -> dict[str, str]:
    """Of ann-search-rs, where it is built."""
    if not ANN_SEARCH_RS_PEER.exists():
        return {}
    lock = (ANN_SEARCH_RS / "Cargo.lock").read_text()
    return {"ann-search-rs": re.search(r'name = "ann-search-rs"\nversion = "(.*)"', lock)[1]}


def install(name: str, command: list[str]) -> None:
    """Runs it; what a failed one complained about last is remembered."""
    done = subprocess.run(command, capture_output=True, text=True)
    known = failures()
    known.pop(name, None)
    if done.returncode:
        complaints = (done.stderr.strip() or "failed").splitlines()
        errors = [line for line in complaints if "error" in line.lower()] or complaints
        known[name] = errors[-1].strip()[:200]
        print(f"not installed: {name}: {known[name]}", flush=True)
    REMEMBERED.write_text(json.dumps(known, indent=2) + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("groups", nargs="*")
    options.add_argument("--rust", action="store_true", help="build ann-search-rs")
    chosen = options.parse_args()
    for group in chosen.groups:
        for requirement in requirements(group):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", requirement]
            install(re.match(r"[\w-]+", requirement)[0], pip)
    if chosen.rust:
        manifest = str(ANN_SEARCH_RS / "Cargo.toml")
        build = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", manifest]
        install("ann-search-rs", build)


def requirements(group: str) -> list[str]:
    return tomllib.loads((record.ROOT / "pyproject.toml").read_text())["dependency-groups"][group]


if __name__ == "__main__":
    main()
