"""What the tests share. Helpers to import stand in frames.py: tests/spark has a conftest too."""

import os
import signal
import subprocess

import numpy as np
import pytest


@pytest.fixture(params=["pandas", "polars", "pyarrow", "stream"])
def kind(request):
    """Every kind of data frame."""
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20041)


class Kills:
    """Kills of child processes, counted for benches/reliability/kills.py, which asks for more."""

    def __init__(self):
        self.count = 0

    @staticmethod
    def of(number):
        """As many kills, or as many times as it asks for."""
        return number * int(os.environ.get("LSHJOIN_KILLS", "1"))

    def kill(self, child, seconds):
        """Kills a child that has not ended after so many seconds, or waits for it if None."""
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            self.count += 1
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream:
                stream.close()
        assert child.returncode in (0, -signal.SIGKILL)


@pytest.fixture
def kills(record_property):
    kills = Kills()
    yield kills
    record_property("kills", kills.count)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes, and a function that makes it larger."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    try:
        mounted = mount("size=3m")
    except OSError as error:
        pytest.skip(f"no file system can be mounted: {error}")
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.strip()}")
    yield path, lambda: mount("remount", "size=64m")
    subprocess.run(["umount", "--lazy", str(path)], check=True)


class Crash(BaseException):
    """As a kill: nothing that is called after it does anything."""


@pytest.fixture
def crash_after(monkeypatch):
    """Calls something that is to end at one of its changes of names of files; whether it did."""

    def crash(calls, call):
        left = calls

        def crashing(change):
            def counted(*args, **kwargs):
                nonlocal left
                if left == 0:
                    raise Crash
                left -= 1
                return change(*args, **kwargs)

            return counted

        with monkeypatch.context() as patched:
            for name in ("mkdir", "rename", "replace", "rmdir", "unlink"):
                patched.setattr(os, name, crashing(getattr(os, name)))
            try:
                call()
            except Crash:
                return True
        return False

    return crash
