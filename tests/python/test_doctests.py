"""The examples in the package's docstrings."""

import doctest
import importlib
import pkgutil

import lshjoin
import pytest

MODULES = [name for _, name, _ in pkgutil.iter_modules(lshjoin.__path__) if name != "__main__"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    results = doctest.testmod(importlib.import_module(f"lshjoin.{name}"))
    assert results.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    documented = {
        test.name
        for name in ("arrays", "estimators")
        for test in finder.find(importlib.import_module(f"lshjoin.{name}"))
        if test.examples
    }
    functions = ("knn_join", "radius_join", "radius_join_batches")
    assert {f"lshjoin.arrays.{name}" for name in functions} <= documented
    assert "lshjoin.estimators.BucketedRandomProjectionLSH" in documented
