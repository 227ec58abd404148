"""Tries the wheels of a directory: `python tests/wheels.py target/wheels`.

Each has to keep to abi3, and to do what tests/smoke.py does in a clean environment of every CPython
from 3.10 on that is on the path or pyenv's.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SMOKE = Path(__file__).with_name("smoke.py")
MINORS = range(10, 20)  # from 3.10 on, as pyproject.toml has it
# Debian's Python may be there without what makes environments.
USABLE = "import ensurepip, sys; sys.exit(sys.implementation.name != 'cpython')"


def interpreters() -> list[str]:
    """This one, and one of each other version."""
    # Before the path, where pyenv has commands that start no version but the chosen one.
    pyenv = sorted(Path.home().glob(".pyenv/versions/*/bin"))
    folders = os.pathsep.join([*map(str, pyenv), os.environ["PATH"]])
    others = [
        shutil.which(f"python3.{minor}", path=folders)
        for minor in MINORS
        if minor != sys.version_info.minor
    ]
    return [sys.executable, *(python for python in others if python and usable(python))]


def usable(python: str) -> bool:
    tried = subprocess.run([python, "-c", USABLE], capture_output=True, check=False)
    return tried.returncode == 0


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


def main() -> None:
    wheels = sorted(Path(sys.argv[1]).resolve().glob("*.whl"))
    if not wheels:
        sys.exit(f"no wheel in {sys.argv[1]}")
    for wheel in wheels:
        run(sys.executable, "-m", "abi3audit", "--strict", "--summary", wheel)
        for python in interpreters():
            with tempfile.TemporaryDirectory() as directory:
                run(python, "-m", "venv", directory)
                folder = "Scripts" if sys.platform == "win32" else "bin"
                clean = Path(directory, folder, "python")
                run(clean, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel)
                run(clean, SMOKE)


if __name__ == "__main__":
    main()
