"""Columns of keys in files: which rows may be neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lshjoin.base.keys import codes_of, keys_as
from lshjoin.files.datasets import Dataset

if TYPE_CHECKING:
    import pyarrow as pa

#: Of each row a number that rows of equal keys have in common; the largest where it has none.
Codes = NDArray[np.uint32]

NO_KEY = np.iinfo(np.uint32).max


class KeyColumns(NamedTuple):
    """The columns of both sides by which rows are compared."""

    within: str | None = None  #: of keys that are equal for neighbours
    apart: str | None = None  #: of keys that differ for neighbours

    def names(self) -> tuple[str, ...]:
        """Each of them once."""
        return tuple(dict.fromkeys(name for name in self if name is not None))


NO_KEYS = KeyColumns()


def column_codes(name: str, datasets: Sequence[Dataset]) -> list[Codes]:
    """The codes of a column of keys, alike in all these datasets.

    Memory holds four bytes a row, and each key once.

    Raises:
        TypeError: as :func:`common_type`, and for fractions.
    """
    import pyarrow as pa

    kind = common_type(name, datasets)
    indices: list[pa.Array] = []
    lengths = []
    none = pa.array([], kind).dictionary_encode()
    for dataset in datasets:
        pieces = [
            keys_as(piece, kind, f"column {name} of {file.path}").dictionary_encode()
            for file, _, piece in dataset.values(name)
        ]
        lengths.append(len(pieces))
        indices += pieces
    alike = pa.chunked_array(indices, none.type).unify_dictionaries()
    pieces = [chunk.indices for chunk in alike.chunks]
    ends = np.cumsum([0, *lengths])
    return [codes_of(pieces[first:last]) for first, last in pairwise(ends)]


def common_type(name: str, datasets: Sequence[Dataset]) -> pa.DataType:
    """What keys of all files can be. TypeError where they are not of one kind; names the files."""
    import pyarrow as pa

    files = [file for dataset in datasets for file in dataset.files]
    common = pa.schema({name: files[0].key_types[name]})
    for file in files[1:]:
        mine = pa.schema({name: file.key_types[name]})
        try:
            common = pa.unify_schemas([common, mine], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            raise TypeError(
                f"column {name} holds {mine.field(name).type} in {file.path} but "
                f"{common.field(name).type} in {files[0].path}; write keys of one type"
            ) from None
    return common.field(name).type
