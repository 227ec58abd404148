"""Rows whose neighbours others are given: few, and more, of whose neighbours some are missed."""

import numpy as np
import pytest
from lshjoin import knn_join
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def digits():
    """Rows and labels; a little is added, since pixels are integers and so distances ties."""
    rows, labels = load_digits(return_X_y=True)
    return rows + np.random.default_rng(0).normal(0, 0.1, rows.shape), labels


@pytest.fixture(scope="session")
def many():
    """Rows of topics that overlap, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 300)
    rows = rng.standard_normal((20, 32))[labels] + rng.standard_normal((6000, 32))
    return rows.astype(np.float32), labels


@pytest.fixture(scope="session")
def missed(many):
    """The 30 nearest of each of the many, some of which are not found."""
    found = knn_join(many[0], k=30, recall=0.9)
    exact = knn_join(many[0], k=30, recall=1.0)
    assert 0.85 < (found.distances <= exact.distances[:, -1:]).mean() < 0.995
    return found
