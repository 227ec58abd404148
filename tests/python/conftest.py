"""What the tests share. Helpers to import stand in frames.py: tests/spark has a conftest too."""

import numpy as np
import pytest


@pytest.fixture(params=["pandas", "polars", "pyarrow", "stream"])
def kind(request):
    """Every kind of data frame."""
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20041)
