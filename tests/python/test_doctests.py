"""The examples in the package's docstrings."""

import doctest
import importlib
import inspect
import pkgutil

import lshjoin
import pytest

#: Examples of lshjoin.spark need a session: tests/spark runs them.
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(lshjoin.__path__, "lshjoin.")
    if name != "lshjoin.__main__" and not name.startswith("lshjoin.spark")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    documented = {
        test.name
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    }
    for name in lshjoin.__all__:
        public = getattr(lshjoin, name)
        if inspect.isfunction(public):
            assert f"{public.__module__}.{name}" in documented
    assert "lshjoin.frames.families.BucketedRandomProjectionLSH" in documented
    assert "lshjoin.frames.minhash.MinHashLSH" in documented
