"""Arrays of vectors and of neighbours, as all of benches/ passes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]  # (rows, dimensions); uint8 where a workload says so
Indices = NDArray[np.integer[Any]]  # (queries, k) row numbers of the items


def unit(rows: Rows) -> Rows:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
