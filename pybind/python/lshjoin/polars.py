"""``import lshjoin.polars`` gives frames of polars a namespace: ``frame.lshjoin.join(...)``.

It is a module of its own since ``import lshjoin`` does not import polars. Uses ``frames``.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from lshjoin.frames.join import join


@pl.api.register_dataframe_namespace("lshjoin")
@pl.api.register_lazyframe_namespace("lshjoin")
class Namespace:
    """What ``frame.lshjoin`` has, of a DataFrame or a LazyFrame.

    Examples:
        >>> import polars as pl
        >>> import lshjoin.polars
        >>> vectors = [[0, 1], [0, 2], [9, 9]]
        >>> words = pl.LazyFrame({"word": ["cat", "tom", "car"], "vector": vectors})
        >>> words.lshjoin.join(on="vector", radius=5.0).collect().rows()
        [('cat', 'tom', 1.0), ('tom', 'cat', 1.0)]
    """

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def join(self, right: object = None, **options: Any) -> Any:
        """:func:`lshjoin.join` of this frame, with the same options."""
        return join(self._frame, right, **options)
