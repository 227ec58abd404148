"""Text that every machine has, the docstrings of this Python and its packages, and its vectors."""

import ast
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from benches.data.rows import Rows

DIMENSIONS = 128


def docstrings(limit: int) -> pl.DataFrame:
    """Columns name and text. A text comes once for each name of a function: overrides repeat it."""
    found: dict[tuple[str, str], str] = {}
    for name, text in every_docstring():
        if len(text) >= 60:
            found.setdefault((name.rpartition(".")[2], text), name)
        if len(found) == limit:
            break
    return pl.DataFrame({"name": list(found.values()), "text": [text for _, text in found]})


def every_docstring() -> Iterator[tuple[str, str]]:
    """Qualified names and docstrings, read from source files: nothing is imported."""
    for root in dict.fromkeys(sysconfig.get_path(name) for name in ("stdlib", "purelib")):
        for path in sorted(Path(root).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            # What is installed into the standard library's folder comes with the second root.
            if parts[0] == "site-packages" or any(re.match("_?tests?$|test_", p) for p in parts):
                continue
            module = ".".join(part for part in parts if part != "__init__")
            with warnings.catch_warnings():  # of old escapes in other people's strings
                warnings.simplefilter("ignore")
                try:
                    tree = ast.parse(path.read_bytes())
                except (SyntaxError, ValueError):
                    continue
            yield from documented(tree, module)


def documented(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            qualified = f"{name}.{child.name}"
            text = ast.get_docstring(child)
            if text:
                yield qualified, inspect.cleandoc(text)
            yield from documented(child, qualified)


def embed(texts: list[str]) -> Rows:
    """Unit vectors; zero where a text has no word in common with any other."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english", dtype=np.float32)
    topics = TruncatedSVD(DIMENSIONS, random_state=0)
    return normalize(topics.fit_transform(words.fit_transform(texts))).astype(np.float32)
