"""Near-duplicates in a corpus: docstrings of Python's standard library, and copies hidden in it.

    python examples/near_duplicates.py [DOCSTRINGS]

Each text becomes a vector that counts its words, `dedup` finds the groups of texts whose vectors
are near, and of each group the longest text is kept.
"""

import ast
import random
import sys
import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import lshjoin
import numpy as np
import polars as pl
from sklearn.feature_extraction.text import HashingVectorizer


def docstrings() -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted([*library.glob("*.py"), *library.glob("*/*.py")]):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # some files are there to be wrong
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if len(text.split()) >= 10:
                    yield text


def nearly(text: str) -> str:
    """The same text with one of its words missing."""
    words = text.split()
    del words[random.randrange(len(words))]
    return " ".join(words)


limit = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
random.seed(0)
originals = list(
    dict.fromkeys(islice(docstrings(), limit))
)  # without those that are equal to the letter
copied = random.sample(range(len(originals)), len(originals) // 20)
texts = originals + [nearly(originals[row]) for row in copied]

# 1,024 numbers a text: how often words occur whose hash is that number. A sentence embedding in its
# place finds texts that say the same in other words, too.
words = HashingVectorizer(n_features=1024, alternate_sign=False)
vectors = words.transform(texts).toarray().astype(np.float32)
frame = pl.DataFrame({"text": texts, "vector": vectors})

# Cosine distance below 0.1. "representative": each text left out is that near to the one kept for
# it, and no chain of texts, each near the next, leads far away.
found = lshjoin.dedup(
    frame, 0.1, on="vector", metric="cosine", keep="longest", linkage="representative"
)

print(f"{len(texts):,} texts in {found.groups.max() + 1:,} groups; {len(found.frame):,} are kept")
beside = found.groups[copied] == found.groups[len(originals) :]
print(f"of {len(copied)} hidden copies {beside.mean():.0%} are in the group of their original")

print("\nA group that nobody hid, if there is one:")
sizes = np.bincount(found.groups[: len(originals)])
for row in np.flatnonzero(found.groups[: len(originals)] == sizes.argmax())[:3]:
    print("  -", " ".join(texts[row].split())[:90])
