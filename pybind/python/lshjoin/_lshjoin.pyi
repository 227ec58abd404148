"""The native engine. Private: use the functions and classes of ``lshjoin``.

Every matrix is 2-D and C-contiguous, one vector a row: of numbers or, for the metrics "hamming" and
"jaccard", of packed bits, eight a byte (uint8, distances are float32 then). Long calls release the
GIL, let Ctrl-C through, and call ``on_progress(done, total)`` from the calling thread about ten
times a second.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

# bfloat16, a dtype of ml_dtypes, beside these.
Matrix = (
    NDArray[np.int8]
    | NDArray[np.uint8]
    | NDArray[np.float16]
    | NDArray[np.float32]
    | NDArray[np.float64]
)
Floats = NDArray[np.float32] | NDArray[np.float64]
Bits = NDArray[np.uint8]  # (rows, bytes), C-contiguous: eight bits a byte
Progress = Callable[[int, int], object] | None
# Of the queries, if there are some, and of the items: a number a row, 2**32 - 1 for none.
Keys = tuple[NDArray[np.uint32] | None, NDArray[np.uint32]] | None

__version__: str

def cpu_features() -> list[str]:
    """Instruction sets that this machine has, weakest first.

    The last of them is used, unless the environment variable ``LSHJOIN_ISA`` names another.
    On x86-64 there are ``avx2``, ``avxvnni``, ``avx512``, ``avx512vnni`` and ``amx``, on arm64
    ``neon``, ``neondot`` and ``neoni8mm``; ``scalar`` is everywhere. Results are the same on all of
    them.
    """

def isa() -> str:
    """The instruction set in use. ValueError when LSHJOIN_ISA names one that is not here."""

class Model:
    """L tables of k hash functions each. Immutable."""

    @staticmethod
    def fit(
        rows: Matrix,
        *,
        family: str,  # "euclidean", "manhattan" or "cosine"
        num_hash_functions: int,
        num_hash_tables: int,
        bucket_length: float,  # ignored by "cosine"
        seed: int,  # 64 bits, signed
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> Model: ...
    @staticmethod
    def from_directions(
        directions: NDArray[np.float64],  # (L * k, dim)
        offsets: NDArray[np.float64],  # (L * k,)
        family: str,
        num_hash_functions: int,
        num_hash_tables: int,
        bucket_length: float,
    ) -> Model: ...
    @property
    def dim(self) -> int: ...
    @property
    def directions(self) -> NDArray[np.float64]: ...
    @property
    def offsets(self) -> NDArray[np.float64]: ...
    @property
    def key_modes(self) -> list[str]:
        """Per table, by the rows fitted on: "packed" (lossless) or "rehash" (128-bit hash)."""

    def hash(
        self, rows: Matrix, *, num_threads: int | None = None, on_progress: Progress = None
    ) -> NDArray[np.int32]:
        """Bucket ids, (n, L, k)."""

    def similarity_join(
        self,
        a: Matrix,
        b: Matrix | None,  # None: a with itself, each pair both ways and each row with itself
        threshold: float,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """Rows of a, rows of b, distances: the pairs that share a bucket and are nearer than
        threshold, by row of a, then row of b."""

    def nearest_neighbors(
        self,
        queries: Matrix,
        items: Matrix,
        k: int,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Distances and rows of items, (n, k), nearest first (ties by row), padded with inf and -1:
        of the items that share a bucket with the query."""

class Sets:
    """Sets of whole numbers from 0 to 2038074742, none of them empty. Immutable."""

    def __new__(
        cls,
        offsets: NDArray[np.int64],  # (n + 1,): where each starts
        elements: NDArray[np.int64],
    ) -> Self: ...
    def __len__(self) -> int: ...

class MinHashModel:
    """L tables of k min-wise hash functions each. Immutable."""

    @staticmethod
    def draw(
        *,
        num_hash_functions: int,
        num_hash_tables: int,
        seed: int,  # 64 bits, signed
    ) -> MinHashModel: ...
    @staticmethod
    def from_coefficients(
        coefficients: NDArray[np.int32],  # (L * k, 2): a and b
        num_hash_functions: int,
    ) -> MinHashModel: ...
    @property
    def coefficients(self) -> NDArray[np.int32]: ...
    @property
    def key_modes(self) -> list[str]:
        """Per table "packed" (lossless) or "rehash" (128-bit hash)."""

    def hash(
        self, sets: Sets, *, num_threads: int | None = None, on_progress: Progress = None
    ) -> NDArray[np.int32]:
        """Hash values, (n, L, k)."""

    def similarity_join(
        self,
        a: Sets,
        b: Sets | None,  # None: a with itself, each pair both ways and each set with itself
        threshold: float,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """Rows of a, rows of b, Jaccard distances: as those of Model."""

    def nearest_neighbors(
        self,
        queries: Sets,
        items: Sets,
        k: int,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Jaccard distances and rows of items: as those of Model."""

def token_indices(
    text: NDArray[np.uint8],  # UTF-8
    offsets: NDArray[np.int64],  # (n + 1,): where each token starts
) -> NDArray[np.int64]:
    """The elements that stand for tokens: their xxh3, 64 bits, modulo 2038074743."""

def knn_join(
    queries: Matrix | None,  # None: items with themselves, a row not its own neighbour
    items: Matrix,
    k: int,
    *,
    metric: str,
    within: Keys = None,  # only rows of equal keys
    apart: Keys = None,  # no rows of equal keys
    plan: str | None = None,  # from one of the functions below; without one, for the recall
    recall: float = 0.95,
    seed: int = 0,  # 64 bits
    num_threads: int | None = None,
    on_progress: Progress = None,
) -> tuple[Floats, NDArray[np.int64], str, str]:
    """Distances and rows of items, (n, k), nearest first (ties by row), padded with inf and -1; the
    plan, which is that of plan_knn_join where none is given, and the report, as JSON."""

def plan_knn_join(
    queries: Matrix | None,
    items: Matrix,
    k: int,
    *,
    metric: str,
    within: Keys = None,
    apart: Keys = None,
    recall: float,
    seed: int,  # 64 bits
    num_threads: int | None = None,
    on_progress: Progress = None,
) -> str:
    """What was chosen ("chosen", a plan) and what from, as JSON."""

def ivf_plan(
    *,
    seed: int,
    lists: int,
    probes: float,
    rounds: int,
    until_recall: float | None,
) -> str: ...
def partition_plan(
    *,
    seed: int,
    lists: int,
    probes: float,
    until_recall: float | None,
) -> str: ...
def lsh_plan(
    *,
    seed: int,
    axes: int,
    functions: int,
    tables: int,
    probes: int,
    rounds: int,
    until_recall: float | None,
) -> str: ...
def check_plan(text: str) -> tuple[str, str | None]:
    """The plan in the engine's own words, which are the same for equal plans, and what is predicted
    of it."""

def suggest(
    rows: Matrix,
    *,
    family: str,  # "euclidean" or "manhattan"
    num_neighbors: int | None,
    threshold: float,  # ignored with num_neighbors
    recall: float,
    seed: int,  # 64 bits, signed
    num_threads: int | None = None,
    on_progress: Progress = None,
) -> str:
    """Numbers for a model that brings near rows together, as JSON."""

def radius_join(
    queries: Matrix | None,
    items: Matrix,
    radius: float,
    *,
    metric: str,
    within: Keys = None,
    apart: Keys = None,
    num_threads: int | None = None,
    on_progress: Progress = None,
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
    """lims (n + 1), distances, rows of items: neighbours of query i are at lims[i]:lims[i + 1]."""

class RadiusJoinBatches:
    """The pairs of radius_join in batches, made by threads of its own from the start on.

    close() has to be called before the interpreter ends.
    """

    def __new__(
        cls,
        queries: Matrix | None,
        items: Matrix,
        radius: float,
        *,
        metric: str,
        within: Keys = None,
        apart: Keys = None,
        batch_size: int,
        num_threads: int | None = None,
    ) -> RadiusJoinBatches: ...
    def next(
        self, on_progress: Progress = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats] | None:
        """Rows of queries, rows of items, distances; None after the last batch."""

    def close(self) -> None:
        """Ends the join, and waits until it has ended."""

class FileJoin:
    """A join of rows in files, planned before a row is read. Bytes in, bytes out."""

    def __new__(
        cls,
        queries: int | None,  # None: items with themselves
        items: int,
        dim: int,
        *,
        width: int = 4,  # bytes of a value
        packed_bits: bool = False,  # then dim is that of bytes
        k: int | None = None,  # None: within a radius
        lists: int | None = None,  # None: as many as so many items ask for
        probes: float | None = None,  # None: not known yet
    ) -> FileJoin: ...
    def plan(self, recall: float, seed: int) -> str:
        """By which it goes out of core or, of packed bits, in memory."""

    def in_memory(self) -> str:
        """What it keeps where both sides are in memory, as JSON: vectors, codes, neighbours."""

    # batch: bytes of items on their way to an index, the fewest and the most
    def out_of_core(self, memory: int, batch: tuple[int, int]) -> str | None:
        """How it goes by an index, as JSON: chunk and batches, in rows, and what it keeps; None
        where that takes more memory."""

    def least(self, batch: tuple[int, int]) -> int:
        """The memory in which it can go by an index."""

    def batch(self, memory: int, batch: tuple[int, int]) -> int:
        """Items that are brought to an index at a time where it alone is made."""

    def chunk(self, memory: int) -> int:
        """Queries whose lists and results take up so much."""

Rows = NDArray[np.float32]  # 2-D, C-contiguous
Ids = NDArray[np.int64]  # 1-D, contiguous
Nearest = tuple[NDArray[np.float32], NDArray[np.int64], str]  # the report as JSON
Within = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]

class ListRouter:
    """Parts of neighbouring lists, and the margin with which rows probe them. Immutable."""

    @staticmethod
    def learn(
        queries: Matrix | None,  # samples of both sides; None: the items with themselves
        items: Matrix,
        parts: int,  # at most
        *,
        metric: str,
        k: int,  # neighbours of a query in the sample, the recall of which is asked for
        recall: float,
        probing: Literal["queries", "items"],  # the side that goes to more than one part
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> ListRouter: ...
    @staticmethod
    def from_bytes(bytes: bytes) -> ListRouter: ...
    @property
    def parts(self) -> int: ...
    def homes(
        self,
        rows: Matrix,
        side: Literal["queries", "items"],
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> NDArray[np.int64]:
        """The part in which each row is at home, that of its nearest list."""

    def probes(
        self,
        rows: Matrix,
        side: Literal["queries", "items"],
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row numbers, rising, and parts: for each row that in which it is at home, then others."""

class Index:
    """Items by list, with codes and ids. OSError and ValueError name the file."""

    @staticmethod
    def load(path: str, *, mmap: bool, num_threads: int | None = None) -> Index: ...
    @staticmethod
    def build_bits(items: Bits, ids: Ids, *, metric: str, num_threads: int | None = None) -> Index:
        """Of packed bits, in memory: rows of items and queries are then Bits."""

    def save(
        self, path: str, *, num_threads: int | None = None, on_progress: Progress = None
    ) -> None: ...
    def verify(self, *, num_threads: int | None = None, on_progress: Progress = None) -> None: ...
    def __len__(self) -> int: ...
    def info(self) -> dict[str, Any]:
        """items, removed, added, dim, metric, plan."""

    def add(self, items: Rows | Bits, ids: Ids) -> None: ...
    def remove(self, ids: Ids) -> None: ...
    def kept_apart(self, keys: tuple[NDArray[np.uint32] | None, NDArray[np.uint32]]) -> Index:
        """The same for a search of queries of these keys, of items by id; ids are row numbers."""

    def plan(self, recall: float, queries: int) -> str:
        """What knn is to do for so many queries, as JSON."""

    def fixed_plan(
        self,
        queries: Rows | None,  # a sample; None: the items with themselves
        count: int,  # of all queries
        k: int,
        plan: str,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> str:
        """The plan with probes in place of until_recall."""

    def knn(
        self,
        queries: Rows | Bits,
        k: int,
        plan: str,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> Nearest:
        """Distances and ids, (n, k), nearest first (ties by id), padded with inf and -1; and the
        report."""

    def radius(
        self,
        queries: Rows | Bits,
        radius: float,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> Within:
        """lims (n + 1), distances, ids."""

    def knn_of_chunk(
        self,
        start: int,
        stop: int,
        k: int,
        plan: str,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> tuple[NDArray[np.int64], Nearest]:
        """Ids of these items, and the nearest others of each with the report."""

    def radius_of_chunk(
        self,
        start: int,
        stop: int,
        radius: float,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> tuple[NDArray[np.int64], Within]:
        """Ids of these items, and the others within the radius of each."""

class IndexBuilder:
    """Of no more use after an error."""

    @property
    def passes(self) -> int:
        """How many times all items have to come, in the same order."""

    def __new__(
        cls,
        items: int,
        dim: int,
        *,
        metric: str,
        plan: str | None,
        seed: int,
        path: str | None,  # None: in memory
        resume: bool = False,
    ) -> IndexBuilder: ...
    def next(self) -> tuple[int, int]:
        """The pass, and the item in it, that are to come next; (passes, 0) where all have come."""

    def push(
        self,
        items: Rows,
        ids: Ids,
        *,
        num_threads: int | None = None,
        on_progress: Progress = None,
    ) -> None: ...
    def finish(self, *, num_threads: int | None = None, on_progress: Progress = None) -> Index: ...
    def close(self) -> None:
        """Lets others have its directory. Of no more use then."""
