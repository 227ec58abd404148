"""The examples in the package's docstrings."""

import doctest
import importlib
import pkgutil

import lshjoin
import pytest

MODULES = [name for _, name, _ in pkgutil.iter_modules(lshjoin.__path__) if name != "__main__"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
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
    assert {f"lshjoin.{name}" for name in ("arrays.knn_join", "arrays.radius_join")} <= documented
    assert "lshjoin.estimators.BucketedRandomProjectionLSH" in documented
