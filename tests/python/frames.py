"""Data frames of each kind, built from the same columns, and read back as dicts."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest


class Stream:
    """Columns that only the Arrow C interface gives access to."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def arrow_vectors(rows):
    """A fixed-size-list column of an array of rows."""
    rows = np.ascontiguousarray(rows)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def make_frame(kind, rows, ids=None):
    """Columns ``id`` and ``features``."""
    rows = np.asarray(rows)
    ids = np.arange(len(rows)) if ids is None else np.asarray(ids)
    if kind == "pandas":
        return pd.DataFrame({"id": ids, "features": pd.Series(list(rows), dtype=object)})
    if kind == "polars" and rows.dtype == np.float16 and not hasattr(pl, "Float16"):
        pytest.skip(f"polars {pl.__version__} has no float16")
    table = pa.table({"id": ids, "features": arrow_vectors(rows)})
    return {"pyarrow": table, "polars": pl.DataFrame(table), "stream": Stream(table)}[kind]


def rows_of(frame):
    """The rows of a data frame as dicts; structs, and pandas' pairs of names, as dicts of dicts."""
    if isinstance(frame, pa.Table):
        return frame.to_pylist()
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    records = []
    for values in frame.itertuples(index=False, name=None):
        record = {}
        for name, value in zip(frame.columns, values, strict=True):
            if isinstance(name, tuple) and name[1]:
                record.setdefault(name[0], {})[name[1]] = value
            else:
                record[name[0] if isinstance(name, tuple) else name] = value
        records.append(record)
    return records
