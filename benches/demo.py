"""The main job on text that every machine has: the docstrings of this Python and its packages.

They are embedded by TF-IDF and truncated SVD, joined with themselves for near-duplicates by Spark's
LSH, and each is joined to its nearest neighbours. `make demo` runs it.
"""

import argparse
import sys
import textwrap
from time import perf_counter

import lshjoin
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benches.data.docstrings import docstrings, embed
from benches.data.rows import Rows

NEIGHBORS = 10
# Chosen so that a pair at the threshold is missed by few of the tables and a random pair meets in
# hardly any: eight functions must agree in a table, one table in sixteen.
THRESHOLD = 0.3
TABLES, FUNCTIONS, BUCKET_LENGTH = 16, 8, 0.1


def near_duplicates(frame: pl.DataFrame) -> pl.DataFrame:
    """Pairs of rows, each once, nearest first."""
    lsh = lshjoin.BucketedRandomProjectionLSH(
        inputCol="vector",
        outputCol="hashes",
        numHashTables=TABLES,
        numHashFunctions=FUNCTIONS,
        bucketLength=BUCKET_LENGTH,
        seed=12345,
    )
    joined = lsh.fit(frame).approxSimilarityJoin(frame, frame, THRESHOLD)
    return (
        joined.select(
            a=pl.col("datasetA").struct["row"],
            b=pl.col("datasetB").struct["row"],
            distance="distCol",
        )
        .filter(pl.col("a") < pl.col("b"))
        .sort("distance", "a", "b")
    )


def brute_force(vectors: Rows) -> tuple[set[tuple[int, int]], NDArray[np.float32]]:
    """All pairs below the threshold, and the squared distance of each row's last neighbour."""
    pairs, last = set(), []
    for start in range(0, len(vectors), 2_000):
        block = vectors[start : start + 2_000]
        squared = np.clip(2 - 2 * block @ vectors.T, 0, None)
        squared[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        a, b = np.nonzero(squared < THRESHOLD**2)
        both = zip((a + start).tolist(), b.tolist(), strict=True)
        pairs.update((i, j) for i, j in both if i < j)
        last.append(np.partition(squared, NEIGHBORS - 1, axis=1)[:, NEIGHBORS - 1])
    return pairs, np.concatenate(last)


def summary(text: str) -> str:
    return textwrap.shorten(text.partition("\n\n")[0], 74, placeholder=" ...")


def show_pairs(pairs: pl.DataFrame, frame: pl.DataFrame, count: int) -> None:
    """The nearest pairs of two packages under two names, each function once: those are news."""
    names, texts = frame["name"], frame["text"]
    shown: set[int] = set()
    for a, b, distance in pairs.iter_rows():
        (package, *_, name), (other_package, *_, other) = names[a].split("."), names[b].split(".")
        if package == other_package or name == other or shown & {a, b}:
            continue
        shown |= {a, b}
        print(f"  {distance:.3f}  {names[a]}\n         {summary(texts[a])}")
        print(f"         {names[b]}\n         {summary(texts[b])}\n")
        if len(shown) == 2 * count:
            return


def show_neighbors(found: lshjoin.Neighbors, frame: pl.DataFrame) -> None:
    names = frame["name"].to_list()
    for name in (
        "json.dumps",
        "statistics.median",
        "textwrap.wrap",
        "shutil.copytree",
        "heapq.merge",
    ):
        if name not in names:
            continue
        row = names.index(name)
        print(f"  {name}: {summary(frame['text'][row])}")
        for at in range(3):
            near = int(found.indices[row, at])
            print(
                f"    {found.distances[row, at]:.3f}  {names[near]}: {summary(frame['text'][near])}"
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--limit", type=int, default=20_000, help="docstrings to read, at most")
    limit = options.parse_args().limit

    start = perf_counter()
    read = docstrings(limit)
    print(f"\nRead {len(read):,} docstrings of Python {sys.version.split()[0]} and its packages"
          f" in {perf_counter() - start:.1f} s.")  # fmt: skip
    start = perf_counter()
    vectors = embed(read["text"].to_list())
    known = np.flatnonzero(vectors.any(axis=1))
    vectors = vectors[known]
    frame = read[known].with_row_index("row").with_columns(vector=vectors)
    print(f"Embedded them by TF-IDF and truncated SVD in {vectors.shape[1]} dimensions in"
          f" {perf_counter() - start:.1f} s.")  # fmt: skip

    start = perf_counter()
    pairs = near_duplicates(frame)
    lsh_seconds = perf_counter() - start
    start = perf_counter()
    found = lshjoin.knn_join(items=vectors, k=NEIGHBORS)
    knn_seconds = perf_counter() - start
    start = perf_counter()
    true_pairs, last = brute_force(vectors)
    brute_seconds = perf_counter() - start
    recall = len(true_pairs & set(pairs.select("a", "b").iter_rows())) / max(len(true_pairs), 1)
    # By distance: of rows equally far, any is as good. 1e-5 is what the sums of float32 may be off.
    right = found.distances**2 <= last[:, None] + 1e-5

    print(f"\nNear-duplicates: approxSimilarityJoin, distance below {THRESHOLD}, {TABLES} tables of"
          f" {FUNCTIONS} functions")  # fmt: skip
    print(f"  {len(pairs):,} pairs in {lsh_seconds:.2f} s, {len(frame) / lsh_seconds:,.0f} rows a"
          f" second, recall {recall:.3f}\n")  # fmt: skip
    show_pairs(pairs, frame, 8)
    print(f"Nearest neighbours: knn_join, k = {NEIGHBORS}")
    print(f"  all rows in {knn_seconds:.2f} s, {len(frame) / knn_seconds:,.0f} rows a second,"
          f" recall {right.mean():.3f}\n")  # fmt: skip
    show_neighbors(found, frame)
    print(f"\nRecall is against brute force in NumPy, which took {brute_seconds:.1f} s for both.")


if __name__ == "__main__":
    main()
