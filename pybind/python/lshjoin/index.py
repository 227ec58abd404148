"""Indexes: items kept ready, in memory or on disk, for joins to come."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin import engine
from lshjoin.arrays.both import Nearest, nearest_of_both, within_of_both
from lshjoin.arrays.exclude import excluded_ids, excluded_of_new, nearest_but
from lshjoin.arrays.ids import Ids
from lshjoin.arrays.knn import knn_join
from lshjoin.arrays.neighbors import (
    BinaryMetric,
    Edges,
    NearestMetric,
    Neighbors,
    RadiusNeighbors,
)
from lshjoin.arrays.radii import Radii, Radius
from lshjoin.arrays.radius import radius_join, within_radii
from lshjoin.arrays.sides import are_bits
from lshjoin.base.checks import to_bytes, to_float, to_k, to_natural, to_radius
from lshjoin.base.paths import local_path
from lshjoin.base.places import StoragePath
from lshjoin.base.plan import JoinPlan
from lshjoin.base.progress import Progress, reporter
from lshjoin.base.vectors import array_matrix, integer_ids, packed_bits

if TYPE_CHECKING:
    from lshjoin._lshjoin import Bits

Batches = Callable[[int], Iterable[tuple[ArrayLike, ArrayLike]]]


class Index:
    """Items that queries are joined with, again and again, and that are saved in between.

    Items are float32 under 64-bit ids of your own; float64 is rounded. They lie by list, around
    centroids learnt from a sample, with 8-bit codes that queries are compared with first: what
    :func:`lshjoin.knn_join` makes of them in each call is here made once. Packed bits, for
    ``metric="hamming"`` and ``"jaccard"``, are kept as they are, and compared with all.

    Made by :meth:`build`, :meth:`load` or, of items larger than memory, :meth:`build_on_disk`.
    ``len(index)`` is the number of items. Indexes can be used from several threads. They can be
    pickled, which copies all items; to hand a large one on, save it and pass the path.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import Index
        >>> items = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> index = Index.build(items, ids=[10, 20, 30])
        >>> distances, ids = index.knn([[0.0, 0.0]], k=2)
        >>> ids
        array([[10, 30]])
        >>> index.remove([10])
        >>> index.add([[0.0, 2.0]], ids=[40])
        >>> index.save("items.index")
        >>> index = Index.load("items.index")
        >>> index.knn([[0.0, 0.0]], k=2).indices
        array([[30, 40]])
        >>> index
        <lshjoin.Index: 3 items, 2 dimensions, euclidean>
    """

    def __init__(self, native: engine.Index) -> None:
        """Of the engine's own index: use :meth:`build` or :meth:`load`."""
        self._native = native

    @classmethod
    def build(
        cls,
        items: ArrayLike,
        *,
        ids: ArrayLike | None = None,
        metric: NearestMetric | BinaryMetric = "euclidean",
        plan: JoinPlan | None = None,
        seed: SupportsIndex = 0,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Index:
        """An index of an array, in memory.

        Args:
            items: (n, d) array-like, one vector a row, of float16, float32 or integers; float64
                is rounded to float32. For packed bits uint8, as for :func:`lshjoin.knn_join`.
            ids: (n,) integers of 64 bits, each once; 0 to n - 1 if None.
            metric: "euclidean", "manhattan", "cosine" (1 - cosine similarity) or "inner_product"
                (its negative is the distance: the largest come first); of packed bits "hamming"
                or "jaccard".
            plan: a :meth:`JoinPlan.partitions` whose seed, axes and lists to use; about 1.5 times
                the square root of n lists if None. Manhattan distance has no use for lists, and
                packed bits have none.
            seed: which items centroids start from, 0 to 2**64 - 1, without a plan.
            num_threads: threads to use; all cores if None. The index does not depend on it.
            progress: True for a tqdm bar, False for none, or a function of (done, total). None,
                the default, shows a bar on terminals and in notebooks after a second, if tqdm is
                installed.

        Raises:
            TypeError: for arrays that do not hold real numbers, or ids that are no integers.
            NotFiniteError: for NaN and infinity (also of numbers beyond float32), with the row and
                the dimension; a ValueError.
            ValueError: for arrays that are not 2-D, ids that come twice or are not as many as
                items.

        Examples:
            >>> from lshjoin import Index
            >>> len(Index.build([[1.0, 2.0], [3.0, 4.0]], metric="cosine"))
            2
            >>> import numpy as np
            >>> bits = np.packbits([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]], axis=1)
            >>> index = Index.build(bits, ids=[7, 8, 9], metric="hamming")
            >>> index.knn(bits[:1], k=2).indices
            array([[7, 8]])
        """
        if are_bits(metric):
            if plan is not None:
                raise TypeError("an index of packed bits has no lists: leave plan out")
            bits = packed_bits(items, "items")
            numbers = np.arange(len(bits)) if ids is None else integer_ids(ids)
            return cls(
                engine.Index.build_bits(bits, numbers, metric=metric, num_threads=num_threads)
            )
        rows = _float32(items, "items")
        numbers = np.arange(len(rows)) if ids is None else integer_ids(ids)
        builder = _builder(len(rows), rows.shape[1], metric, plan, seed, None)
        with reporter(progress, "Index.build") as on_progress:
            for _ in range(builder.passes):
                builder.push(rows, numbers, num_threads=num_threads, on_progress=on_progress)
            return cls(builder.finish(num_threads=num_threads))

    @classmethod
    def build_on_disk(
        cls,
        path: StoragePath,
        batches: Batches,
        *,
        count: SupportsIndex,
        dim: SupportsIndex,
        metric: NearestMetric = "euclidean",
        plan: JoinPlan | None = None,
        seed: SupportsIndex = 0,
        resume: bool = False,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Index:
        """An index of items that need not fit in memory, built where it is saved, and mapped.

        Memory holds two batches, the sample that centroids are learnt from and about 20 bytes an
        item. The files take up about 5 bytes a value; beside these, items are written once to files
        that they are sorted from, which go one by one as the index grows. Until all is written, the
        directory has the index that it had before, or none.

        Args:
            path: a directory, which is made; an index in it is replaced.
            batches: called twice, each time for the same (items, ids) in the same order, from the
                item of the number that it is given on: 0, but where building is resumed. The
                larger the batches, the fewer and longer the writes.
            count: how many items there are in all.
            dim: values of an item.
            metric: as for :meth:`build`, not of packed bits.
            plan: as for :meth:`build`.
            seed: as for :meth:`build`.
            resume: leaves in the directory what is done, however the call ends, and goes on with
                what an earlier call of the same arguments left there, for the same items: of the
                second pass at most a 32nd part is done again, and of the sorting about a 16th.
            num_threads: threads to use; all cores if None.
            progress: as for :meth:`build`; counts items, each three times: in each pass, and when
                it is sorted.

        Raises:
            TypeError, ValueError: as :meth:`build`, when there are more or fewer items than
                ``count``, and when the directory holds anything but an index.
            BlockingIOError: when another process is saving there.
            OSError: when files can't be written.

        Examples:
            >>> import numpy as np
            >>> from lshjoin import Index
            >>> def batches(start):
            ...     for first in range(start, 1000, 100):
            ...         yield np.random.default_rng(first).random((100, 8)), first + np.arange(100)
            >>> Index.build_on_disk("large.index", batches, count=1000, dim=8)
            <lshjoin.Index: 1000 items, 8 dimensions, euclidean>
        """
        if are_bits(metric):
            raise TypeError(
                f"an index of packed bits, for {metric}, is built in memory: use Index.build and "
                "save it, or build_index of files"
            )
        count, dim, path = to_natural("count", count), to_natural("dim", dim), str(local_path(path))
        with (
            # Not left to a traceback, with which the directory would not be the next builder's.
            closing(_builder(count, dim, metric, plan, seed, path, resume)) as builder,
            reporter(progress, "Index.build_on_disk") as on_progress,
        ):
            begun, start = builder.next()
            total = (builder.passes + 1) * count
            for number in range(begun, builder.passes):
                done = number * count + start
                for items, ids in batches(start):
                    rows = _float32(items, "items", dim)
                    builder.push(rows, integer_ids(ids), num_threads=num_threads)
                    done += len(rows)
                    if on_progress:
                        on_progress(done, total)
                start = 0

            def sorting(done: int, of: int) -> None:
                if on_progress:
                    on_progress(total - count + count * done // max(of, 1), total)

            return cls(builder.finish(num_threads=num_threads, on_progress=sorting))

    @classmethod
    def load(cls, path: StoragePath, *, mmap: bool = True, num_threads: int | None = None) -> Index:
        """Opens what :meth:`save` or :meth:`build_on_disk` wrote.

        It may come from anybody: whatever the files hold, nothing but an error comes of it, or an
        answer, which is that of the items once :meth:`verify` has found nothing.

        Args:
            path: the directory.
            mmap: whether files are mapped, so that opening takes milliseconds and memory holds
                what queries touch. Then manifest and sizes are checked now, codes and ids before
                the first answer, and each megabyte of the items before it is made use of. False
                reads and verifies all now. Mapped files must not be changed or cut short by others.
            num_threads: threads to use; all cores if None.

        Raises:
            FileNotFoundError: when there is nothing; other OSErrors as they come.
            ValueError: when it is no index, or damaged, or of a later version; names the file.
        """
        return cls(engine.Index.load(str(local_path(path)), mmap=mmap, num_threads=num_threads))

    def save(
        self, path: StoragePath, *, num_threads: int | None = None, progress: Progress = None
    ) -> None:
        """Saves to a directory, in place of the index that may be there.

        What was removed is left out, and what was added goes to its list: lists are made anew for
        that, in memory bounded as for :meth:`build_on_disk`. However it ends, the directory has
        the old index or the new one. This index itself stays as it is; :meth:`load` what was saved
        to go on with that.

        Raises:
            ValueError: when the directory holds anything but an index, or this index is damaged.
            BlockingIOError: when another process is saving there.
            OSError: when files can't be written.
        """
        with reporter(progress, "Index.save") as on_progress:
            self._native.save(
                str(local_path(path)), num_threads=num_threads, on_progress=on_progress
            )

    def verify(self, *, num_threads: int | None = None, progress: Progress = None) -> None:
        """Looks at every byte of the files, and whether all that was learnt fits the items.

        Raises:
            ValueError: when a file is damaged, or is not one of an index of these items; names it.
        """
        with reporter(progress, "Index.verify") as on_progress:
            self._native.verify(num_threads=num_threads, on_progress=on_progress)

    def knn(
        self,
        queries: ArrayLike,
        k: SupportsIndex = 10,
        *,
        exclude: ArrayLike | Edges | None = None,
        recall: float | None = None,
        plan: JoinPlan | None = None,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Neighbors:
        """For every row of ``queries``, the ``k`` nearest items.

        Args:
            queries: (n, d) array-like or a column, rounded to float32; of packed bits uint8.
            k: neighbours a query, at least 1. Queries with fewer are padded with inf and -1.
            exclude: pairs that are known and are to be left out, of a row of ``queries`` and an id:
                (p, 2) array-like, or :class:`Edges` of an earlier result. The next nearest take
                their places.
            recall: the share of the true neighbours to find, above 0; 0.95 if None. 1.0 compares
                all pairs, as do few queries whatever the recall. Otherwise some of the queries,
                whose neighbours are computed first, tell how many lists to probe.
            plan: :meth:`JoinPlan.exact`, a :meth:`JoinPlan.partitions` with the index's own seed
                and lists (of packed bits a :meth:`JoinPlan.ivf`), or an earlier result's ``plan``.
                Takes the place of ``recall``.
            num_threads: threads to use; all cores if None. Results do not depend on it.
            progress: as for :meth:`build`.

        Returns:
            ``distances``, float32, and ``indices``, which are ids, both (n, k), nearest first,
            ties by id. An id may be -1 too: where there is no neighbour, the distance is inf. The
            attributes ``plan`` and ``report`` tell what was done, and what came of it.

        Raises:
            TypeError, ValueError: as :func:`lshjoin.knn_join`; ValueError when a file is damaged,
                which it names.
        """
        k = to_k(k)
        rows = self._rows(queries, "queries")
        plan = self._plan(recall, plan, len(rows))
        known = None if exclude is None else excluded_ids(exclude, len(rows))
        columns = min(k, max(len(self), 1))
        text = plan.to_json()
        with reporter(progress, "Index.knn") as on_progress:
            distances, indices, report = self._native.knn(
                rows, columns, text, num_threads=num_threads, on_progress=on_progress
            )
        if known is not None:

            def find(some: NDArray[np.int64], k: int) -> Nearest:
                return self._native.knn(rows[some], k, text, num_threads=num_threads)[:2]

            distances, indices = nearest_but(known, (distances, indices), len(self), find)
        return Neighbors._of(distances, indices, report, k, plan)

    def radius(
        self,
        queries: ArrayLike,
        radius: Radius,
        *,
        max_neighbors: SupportsIndex | None = None,
        exclude: ArrayLike | Edges | None = None,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> RadiusNeighbors:
        """For every row of ``queries``, all items nearer than ``radius`` (strictly). Exact.

        Args:
            queries: (n, d) array-like, rounded to float32.
            radius: in the units of the metric, which must not be "inner_product"; a number, or one
                for each query, as for :func:`lshjoin.radius_join`.
            max_neighbors: of those within the radius the nearest so many of each query, at least 1,
                nearest first, ties by id; all of them if None.
            exclude: pairs to be left out, as for :meth:`knn`.
            num_threads: threads to use; all cores if None.
            progress: as for :meth:`build`.

        Returns:
            ``lims``, ``distances`` and ``indices``, which are ids, as :func:`lshjoin.radius_join`.

        Raises:
            TypeError, ValueError: as :func:`lshjoin.radius_join`; ValueError when a file is
                damaged, which it names.

        Examples:
            >>> from lshjoin import Index
            >>> index = Index.build([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], ids=[7, 8, 9])
            >>> index.radius([[0.0, 0.0]], radius=2).indices
            array([7, 9])
            >>> index.radius([[0.0, 0.0]], radius=2, exclude=[(0, 7)]).indices
            array([9])
        """
        rows = self._rows(queries, "queries")
        radii = Radii(radius, len(rows))
        if max_neighbors is not None:
            if self.metric == "inner_product":
                raise ValueError("metric must be a distance, which inner_product is not: use knn")
            options: Any = {"num_threads": num_threads, "progress": progress}
            k = min(to_k(max_neighbors, "max_neighbors"), max(len(self), 1))
            nearest = self.knn(rows, k, exclude=exclude, plan=JoinPlan.exact(), **options)
            return within_radii(nearest, radii)
        known = None if exclude is None else excluded_ids(exclude, len(rows))
        with reporter(progress, "Index.radius") as on_progress:
            found = RadiusNeighbors(
                *self._native.radius(
                    rows, radii.largest, num_threads=num_threads, on_progress=on_progress
                )
            )
        if radii.of_query is not None:
            found = found._only(radii.have(found._of_queries(), found.distances))
        if known is not None:
            found = found._only(~known.has(found._of_queries(), found.indices))
        return found

    def _kept_apart(self, queries: NDArray[np.uint32] | None, items: NDArray[np.uint32]) -> Index:
        """The same for queries of these keys, or none, that are not to find items of equal ones.

        Ids have to be row numbers, by which items have their keys; the largest number is no key.
        """
        of_queries = None if queries is None else np.ascontiguousarray(queries)
        return Index(self._native.kept_apart((of_queries, items)))

    def add(self, items: ArrayLike, ids: ArrayLike) -> None:
        """Adds items, which the next search finds: a few in full, thousands by their lists.

        Args:
            items: (n, d) array-like, rounded to float32.
            ids: (n,) integers of 64 bits, none of them in the index.

        Raises:
            TypeError, ValueError: as :meth:`build`, and for an id that is there already, which it
                names. Nothing is added then.
        """
        self._native.add(self._rows(items, "items"), integer_ids(ids))

    @overload
    def join_new(
        self,
        items: ArrayLike,
        ids: ArrayLike,
        k: SupportsIndex = 10,
        *,
        exclude: ArrayLike | Edges | None = None,
        recall: float | None = None,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Neighbors: ...
    @overload
    def join_new(
        self,
        items: ArrayLike,
        ids: ArrayLike,
        *,
        radius: float,
        exclude: ArrayLike | Edges | None = None,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> RadiusNeighbors: ...
    def join_new(
        self,
        items: ArrayLike,
        ids: ArrayLike,
        k: SupportsIndex | None = None,
        *,
        radius: float | None = None,
        exclude: ArrayLike | Edges | None = None,
        recall: float | None = None,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Neighbors | RadiusNeighbors:
        """Joins new items with all that are there and with each other, then adds them.

        For what comes in batches, once a day say. A call that fails adds nothing. What other
        threads add while it runs is not joined with.

        Args:
            items: (n, d) array-like, rounded to float32.
            ids: (n,) integers of 64 bits, each once, none of them in the index.
            k: the nearest so many of each, itself left out; 10 without a radius.
            radius: in the place of ``k``, all others that are nearer (strictly).
            exclude: pairs that are known and are to be left out, of the id of a new item and that
                of another, (p, 2) array-like or :class:`Edges`; of two new ones both ways. The next
                nearest take their places.
            recall: the share of the true neighbours to find, as for :meth:`knn`. A radius finds
                all.
            num_threads: threads to use; all cores if None. Results do not depend on it.
            progress: as for :meth:`build`.

        Returns:
            As :meth:`knn`, with the plan and the report of the join with the items that were there;
            or as :meth:`radius`, nearest first. Ties are by id.

        Raises:
            TypeError, ValueError: as :meth:`knn`, :meth:`radius` and :meth:`add`; TypeError for
                both ``k`` and ``radius``.

        Examples:
            >>> from lshjoin import Index
            >>> index = Index.build([[0.0], [5.0]], ids=[7, 8])
            >>> index.join_new([[1.0], [4.5], [1.5]], ids=[20, 21, 22], k=1).indices.ravel()
            array([22,  8, 20])
            >>> index.join_new([[1.2]], ids=[30], radius=1.0).indices
            array([20, 22])
            >>> len(index)
            6
            >>> index.join_new([[1.2]], ids=[40], k=1, exclude=[(40, 30)]).indices
            array([[20]])
        """
        if k is not None and radius is not None:
            raise TypeError("pass either k or radius: the nearest so many, or all that are nearer")
        if radius is not None and recall is not None:
            raise TypeError("recall is for k: within a radius all neighbours are found")
        rows, numbers = self._rows(items, "items"), integer_ids(ids)
        new_ids = Ids(numbers, "ids", len(rows))  # refuses what add would, before the join
        common: Any = {"num_threads": num_threads, "progress": progress}
        of_new: Any = common | {"metric": self.metric}
        of_old: Any = dict(common)
        if exclude is not None:
            of_old["exclude"], of_new["exclude"] = excluded_of_new(exclude, new_ids)
        found: Neighbors | RadiusNeighbors
        if radius is None:
            k = 10 if k is None else k
            order = np.argsort(numbers)  # ties by row are ties by id then
            new = knn_join(rows[order], k=k, ids=numbers[order], recall=recall, **of_new)
            back = np.argsort(order)
            old = self.knn(rows, k, recall=recall, **of_old)
            nearest = nearest_of_both(old, (new.distances[back], new.indices[back]))
            found = Neighbors(*nearest, old.plan, old.report)
        else:
            among_new = radius_join(rows, radius=radius, ids=numbers, **of_new)
            found = within_of_both(self.radius(rows, radius, **of_old), among_new)
        self._native.add(rows, numbers)
        return found

    def remove(self, ids: ArrayLike) -> None:
        """Removes the items of these ids.

        Raises:
            TypeError, ValueError: for ids that are no integers, come twice, or are not in the
                index; the message names the id. Nothing is removed then.
        """
        self._native.remove(integer_ids(ids))

    def __len__(self) -> int:
        return len(self._native)

    @property
    def dim(self) -> int:
        """Values of an item, of packed bits eight a byte."""
        return self._width() * (8 if are_bits(self.metric) else 1)

    @property
    def metric(self) -> str:
        """What "near" means."""
        return str(self._native.info()["metric"])

    @property
    def plan(self) -> JoinPlan:
        """Its seed, axes and lists: what a plan for :meth:`knn` has to have too.

        Of packed bits :meth:`JoinPlan.exact`.
        """
        return JoinPlan.from_json(self._native.info()["plan"])

    @property
    def info(self) -> dict[str, Any]:
        """Counts of ``items`` saved by list, of those ``removed`` and ``added`` since; and more."""
        return {**self._native.info(), "dim": self.dim, "plan": self.plan}

    def __repr__(self) -> str:
        return f"<lshjoin.Index: {len(self)} items, {self.dim} dimensions, {self.metric}>"

    def __reduce__(self) -> tuple[Callable[[dict[str, bytes]], Index], tuple[dict[str, bytes]]]:
        with tempfile.TemporaryDirectory() as directory:
            self.save(directory, progress=False)
            return _unpickle, (
                {file.name: file.read_bytes() for file in Path(directory).iterdir()},
            )

    # Joins of all items with themselves, larger than memory: chunk by chunk.

    def fixed_plan(
        self,
        k: SupportsIndex = 10,
        *,
        queries: ArrayLike | None = None,
        count: SupportsIndex | None = None,
        recall: float | None = None,
        plan: JoinPlan | None = None,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> JoinPlan:
        """The plan with its numbers fixed: with it, results do not depend on how queries are cut.

        A plan for a recall leaves open how many lists are probed, which held-out queries tell;
        the fixed one has the number. Of packed bits, of which each search learns lists anew, it is
        the exact one unless another is given.

        Args:
            k: neighbours a query, at least 1.
            queries: a sample of the queries, at equal steps; None for the items themselves, each
                joined with the others.
            count: how many queries there are in all; as many as the sample if None.
            recall: as for :meth:`knn`.
            plan: as for :meth:`knn`.
            num_threads: threads to use; all cores if None.
            progress: as for :meth:`build`.

        Examples:
            >>> import numpy as np
            >>> from lshjoin import Index, JoinPlan
            >>> plan = JoinPlan.partitions(lists=50, probes=1, until_recall=0.9)
            >>> index = Index.build(np.random.default_rng(0).random((5000, 2)), plan=plan)
            >>> index.fixed_plan(recall=1.0)
            JoinPlan.exact()
            >>> index.fixed_plan(plan=plan)
            JoinPlan.partitions(seed=0, lists=50, probes=1.01, until_recall=None)
        """
        k = to_k(k)
        if are_bits(self.metric):
            return self._plan(recall, plan, 0)
        rows = None if queries is None else _float32(queries, "queries", self.dim)
        asked = len(self) if rows is None else len(rows)
        number = asked if count is None else to_natural("count", count)
        plan = self._plan(recall, plan, number)
        with reporter(progress, "Index.fixed_plan") as on_progress:
            return JoinPlan.from_json(
                self._native.fixed_plan(
                    rows,
                    number,
                    k,
                    plan.to_json(),
                    num_threads=num_threads,
                    on_progress=on_progress,
                )
            )

    def chunks(
        self, k: SupportsIndex = 10, *, memory_limit: int | str | None = "1GiB"
    ) -> list[range]:
        """All items in chunks that :meth:`knn_of_chunk` can take, each in that much memory.

        Examples:
            >>> from lshjoin import Index
            >>> Index.build([[0.0], [1.0], [5.0]]).chunks(1)
            [range(0, 3)]
        """
        items = int(self._native.info()["items"])
        join = engine.FileJoin(None, items, self.dim, k=to_k(k) + 1)  # itself among them
        rows = join.chunk(to_bytes(memory_limit))
        return [range(start, min(start + rows, items)) for start in range(0, items, rows)]

    def knn_of_chunk(
        self,
        chunk: range,
        k: SupportsIndex = 10,
        *,
        plan: JoinPlan,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> tuple[NDArray[np.int64], Neighbors]:
        """Some of the items, and the ``k`` nearest others of each.

        All chunks together are the join of the items with themselves, as
        :func:`lshjoin.knn_join` makes it of one array with the same plan.

        Args:
            chunk: one of :meth:`chunks`, in the order in which items are kept, by list.
            k: neighbours an item, at least 1.
            plan: a :meth:`fixed_plan`.
            num_threads: threads to use; all cores if None.
            progress: as for :meth:`build`.

        Returns:
            The ids of the items, (n,), and ``distances`` and ids of their neighbours, (n, k).

        Raises:
            ValueError: for a plan that is not fixed, after a change of the index that
                was not saved, and as :meth:`knn`.

        Examples:
            >>> from lshjoin import Index, JoinPlan
            >>> index = Index.build([[0.0], [1.0], [5.0]], ids=[7, 8, 9])
            >>> for chunk in index.chunks(1):
            ...     ids, near = index.knn_of_chunk(chunk, 1, plan=JoinPlan.exact())
            >>> sorted(zip(ids.tolist(), near.indices[:, 0].tolist()))
            [(7, 8), (8, 7), (9, 8)]
        """
        k = to_k(k)
        columns = min(k, max(len(self), 1))
        with reporter(progress, "Index.knn_of_chunk") as on_progress:
            ids, found = self._native.knn_of_chunk(
                *_limits(chunk),
                columns,
                plan.to_json(),
                num_threads=num_threads,
                on_progress=on_progress,
            )
        return ids, Neighbors._of(*found, k, plan)

    def radius_of_chunk(
        self,
        chunk: range,
        radius: float,
        *,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> tuple[NDArray[np.int64], RadiusNeighbors]:
        """Some of the items, and all others nearer than ``radius`` (strictly) to each. Exact.

        Args:
            chunk: a range of items in the order in which they are kept.
            radius: in the units of the metric, which must not be "inner_product".
            num_threads: threads to use; all cores if None.
            progress: as for :meth:`build`.

        Returns:
            The ids of the items, (n,), and their neighbours as of :meth:`radius`.

        Examples:
            >>> from lshjoin import Index
            >>> index = Index.build([[0.0], [1.0], [5.0]], ids=[7, 8, 9])
            >>> ids, near = index.radius_of_chunk(range(3), 2)
            >>> ids[near.lims[1:] > near.lims[:-1]], near.indices  # no others are near 9
            (array([7, 8]), array([8, 7]))
        """
        with reporter(progress, "Index.radius_of_chunk") as on_progress:
            ids, found = self._native.radius_of_chunk(
                *_limits(chunk),
                to_radius(radius),
                num_threads=num_threads,
                on_progress=on_progress,
            )
        return ids, RadiusNeighbors(*found)

    def _width(self) -> int:
        """Values of an item, or bytes of packed bits."""
        return int(self._native.info()["dim"])

    def _rows(self, array: ArrayLike, name: str) -> NDArray[np.float32] | Bits:
        """Items or queries as the index has its own."""
        width = self._width()
        if not are_bits(self.metric):
            return _float32(array, name, width)
        bits = packed_bits(array, name, width)
        if bits.shape[1] != width:
            raise ValueError(
                f"{name} have {bits.shape[1]} bytes a row, but the index has {width} "
                f"({self.dim} bits)"
            )
        return bits

    def _plan(self, recall: float | None, plan: JoinPlan | None, queries: int) -> JoinPlan:
        if plan is None:
            recall = 0.95 if recall is None else to_float(recall)
            return JoinPlan.from_json(self._native.plan(recall, queries))
        if not isinstance(plan, JoinPlan):
            raise TypeError(f"plan must be a JoinPlan, not {type(plan).__name__}")
        if recall is not None:
            raise TypeError("pass either a plan or a recall: a plan has its own")
        return plan


def _builder(
    count: int,
    dim: int,
    metric: str,
    plan: JoinPlan | None,
    seed: SupportsIndex,
    path: str | None,
    resume: bool = False,
) -> engine.IndexBuilder:
    text = None if plan is None else plan.to_json()
    seed = to_natural("seed", seed)
    return engine.IndexBuilder(
        count, dim, metric=metric, plan=text, seed=seed, path=path, resume=resume
    )


def _unpickle(files: dict[str, bytes]) -> Index:
    with tempfile.TemporaryDirectory() as directory:
        for name, contents in files.items():
            (Path(directory) / Path(name).name).write_bytes(contents)
        return Index.load(directory, mmap=False)


def _limits(chunk: range) -> tuple[int, int]:
    if chunk.step != 1:
        raise ValueError(f"a chunk must be a range without gaps, not {chunk!r}")
    return to_natural("chunk.start", chunk.start), to_natural("chunk.stop", chunk.stop)


def _float32(array: ArrayLike, name: str, dim: int | None = None) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # infinity is refused by row
        return array_matrix(array, name, dim).astype(np.float32, copy=False)
