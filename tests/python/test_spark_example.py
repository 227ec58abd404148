"""The example in Spark's documentation of BucketedRandomProjectionLSH, its numbers unchanged.

Only the import line and the making of the frames differ.
"""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from lshjoin import BucketedRandomProjectionLSH, BucketedRandomProjectionLSHModel

DATA = {"id": [0, 1, 2, 3], "features": [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]}
DATA2 = {"id": [4, 5, 6, 7], "features": [[2.0, 2.0], [2.0, 3.0], [3.0, 2.0], [3.0, 3.0]]}


@pytest.mark.parametrize("make", [pl.DataFrame, pd.DataFrame])
def test_documented_numbers(make, tmp_path):
    df = make(DATA)
    brp = BucketedRandomProjectionLSH()
    assert repr(brp.setInputCol("features")).startswith("BucketedRandomProjectionLSH")
    assert repr(brp.setOutputCol("hashes")).startswith("BucketedRandomProjectionLSH")
    assert repr(brp.setSeed(12345)).startswith("BucketedRandomProjectionLSH")
    assert repr(brp.setBucketLength(1.0)).startswith("BucketedRandomProjectionLSH")
    model = brp.fit(df)
    assert model.getBucketLength() == 1.0
    assert repr(model.setOutputCol("hashes")).startswith("BucketedRandomProjectionLSHModel")
    hashes = model.transform(df)["hashes"].to_list()
    assert hashes[0] == [[-1.0]]
    # Not in the documentation: the other rows, as Spark 4.3.0 hashed them.
    assert hashes[1:] == [[[1.0]], [[-2.0]], [[0.0]]]

    df2 = make(DATA2)
    nearest = model.approxNearestNeighbors(df2, np.array([1.0, 2.0]), 1)
    assert list(nearest.columns) == ["id", "features", "hashes", "distCol"]
    assert nearest["id"].to_list() == [4]
    assert [list(vector) for vector in nearest["features"]] == [[2.0, 2.0]]
    assert nearest["hashes"].to_list() == [[[1.0]]]
    assert nearest["distCol"].to_list() == [1.0]

    for threshold in (3.0, 3):
        joined = model.approxSimilarityJoin(df, df2, threshold, distCol="EuclideanDistance")
        if make is pl.DataFrame:
            pairs = joined.select(
                idA=pl.col("datasetA").struct["id"],
                idB=pl.col("datasetB").struct["id"],
                distance="EuclideanDistance",
            ).rows()
        else:
            pairs = list(
                zip(
                    joined["datasetA"]["id"],
                    joined["datasetB"]["id"],
                    joined["EuclideanDistance"],
                    strict=True,
                )
            )
        assert pairs == [(3, 6, 2.23606797749979)]

    brp.save(f"{tmp_path}/brp")
    brp2 = BucketedRandomProjectionLSH.load(f"{tmp_path}/brp")
    assert brp2.getBucketLength() == brp.getBucketLength()
    model.save(f"{tmp_path}/brp-model")
    model2 = BucketedRandomProjectionLSHModel.load(f"{tmp_path}/brp-model")
    assert model2.transform(df)["hashes"].to_list() == hashes
