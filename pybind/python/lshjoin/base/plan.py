"""Plans: what a join of arrays does."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, SupportsIndex

from lshjoin import engine
from lshjoin.base import html
from lshjoin.base.checks import to_float, to_natural, to_number
from lshjoin.base.report import Estimate

_LSH = """\
tables  {tables} of {functions} sign bits each
axes    {axes} leading principal ones, in which directions are drawn from seed {seed}
probes  {probes} buckets of each table for each query
rounds  {rounds} of comparing neighbours of neighbours"""
_LSH_UNTIL = """
until   recall {until_recall} on held-out rows: fewer rounds, or more of both, as that needs"""
_IVF = """\
lists   {lists} around centroids learnt from a sample, from seed {seed}
probes  {probes:g} lists for each row, on average
rounds  {rounds} of comparing neighbours of neighbours"""
_LISTS_UNTIL = """
until   recall {until_recall} on held-out rows: more probes, as that needs"""
_PARTITIONS = """\
lists   {lists} of an index, around centroids learnt from a sample, from seed {seed}
probes  {probes:g} lists for each row, on average"""
_TEXTS = {
    "lsh": (_LSH, _LSH_UNTIL),
    "ivf": (_IVF, _LISTS_UNTIL),
    "partitions": (_PARTITIONS, _LISTS_UNTIL),
}


@dataclass(frozen=True)
class Prediction:
    """What the planner expects of a plan, on the machine that it ran on."""

    recall: Estimate  #: measured on sampled rows that were not used to choose the plan
    share: float  #: of the pairs of a query and an item, how many are compared
    seconds: float  #: that the join takes
    bytes: int  #: peak memory beside the rows themselves
    #: How many times as far as its k-th neighbour a random item is, by the medians of sampled rows:
    #: near 1, no index can tell near from far. None where no sample was looked at.
    contrast: float | None
    why: str  #: this plan and no other

    @classmethod
    def _parse(cls, text: str) -> Prediction:
        numbers = json.loads(text)
        return cls(**{**numbers, "recall": Estimate(**numbers["recall"])})

    def _to_json(self) -> dict[str, Any]:
        return {**asdict(self), "recall": self.recall._asdict()}

    def __str__(self) -> str:
        """A line for each number."""
        seconds = f"{self.seconds:.1f}" if self.seconds >= 0.05 else "under 0.1"
        memory = f"{self.bytes / 1e6:.0f}" if self.bytes >= 1e6 else "under 1"
        return (
            f"recall  {self.recall}\n"
            f"pairs   {100 * self.share:.3g} % of all\n"
            f"time    {seconds} s\n"
            f"memory  {memory} MB beside the rows\n"
            f"why     {self.why}"
        )


@dataclass(frozen=True, repr=False)
class JoinPlan:
    """What :func:`lshjoin.knn_join` does: a value to look at, to compare, to save and to pass back.

    The same plan gives the same result, bit for bit, on any machine with any number of threads.
    Made by :func:`lshjoin.plan_knn_join`, :meth:`exact`, :meth:`lsh`, :meth:`ivf`,
    :meth:`partitions` or :meth:`from_json`. Plans are equal when they do the same, whatever is
    predicted of them.

    Examples:
        >>> from lshjoin import JoinPlan
        >>> plan = JoinPlan.lsh(axes=48, functions=7, tables=2, probes=4, rounds=1)
        >>> print(plan)
        tables  2 of 7 sign bits each
        axes    48 leading principal ones, in which directions are drawn from seed 0
        probes  4 buckets of each table for each query
        rounds  1 of comparing neighbours of neighbours
        >>> plan == JoinPlan.from_json(plan.to_json()) == eval(repr(plan))
        True
    """

    _json: str  # in the engine's own words, which are the same for equal plans
    #: What the planner expects; None for a plan that it has not looked at.
    predicted: Prediction | None = field(default=None, compare=False)

    @classmethod
    def exact(cls) -> JoinPlan:
        """All pairs are compared."""
        return cls.from_json('{"plan": "exact"}')

    @classmethod
    def lsh(
        cls,
        *,
        seed: SupportsIndex = 0,
        axes: SupportsIndex,
        functions: SupportsIndex,
        tables: SupportsIndex,
        probes: SupportsIndex,
        rounds: SupportsIndex,
        until_recall: float | None = None,
    ) -> JoinPlan:
        """Rows are compared that share a bucket of a table, or neighbours.

        Args:
            seed: where the random directions start, 0 to 2**64 - 1.
            axes: leading principal axes that directions are drawn in, at least 1.
            functions: sign bits of a table, 1 to 64.
            tables: how many, 1 to 1024; one after the other, so that they cost time alone. Where a
                query would find more items in buckets than there are, all pairs are compared.
            probes: buckets of each table that a query probes, its own the first; 1 to 1024.
            rounds: of comparing neighbours of neighbours, after the tables; up to 64.
            until_recall: if given, rounds end early when held-out rows, whose exact neighbours are
                computed first, reach this recall, and further tables and rounds follow until they
                do; above 0, at most 1.

        Raises:
            TypeError, ValueError: for a number of the wrong type or out of its range.
        """
        return cls(
            engine.lsh_plan(
                seed=to_natural("seed", seed),
                axes=to_natural("axes", axes),
                functions=to_natural("functions", functions),
                tables=to_natural("tables", tables),
                probes=to_natural("probes", probes),
                rounds=to_natural("rounds", rounds),
                until_recall=None if until_recall is None else to_float(until_recall),
            )
        )

    @classmethod
    def ivf(
        cls,
        *,
        seed: SupportsIndex = 0,
        lists: SupportsIndex,
        probes: float,
        rounds: SupportsIndex = 0,
        until_recall: float | None = None,
    ) -> JoinPlan:
        """Rows are compared with those of the inverted lists whose centroids are nearest to them.

        The source is Paulevé, Jégou and Amsaleg, "Locality sensitive hashing: a comparison of hash
        function types and querying mechanisms", 2010.

        Args:
            seed: which rows the centroids start from, 0 to 2**64 - 1.
            lists: one around each centroid, 1 to 1048576; one for each 100 to 400 items do well.
                There may be a few more or fewer.
            probes: lists that a row probes, its own the first, at least 1; on average, since
                a row with many centroids about as near as its own probes more. Those whose
                rows fill its list to begin with count among them. Where items are joined with
                themselves, two rows are compared when either probes the other's list.
            rounds: of comparing neighbours of neighbours, after that; up to 64.
            until_recall: if given, held-out rows, whose exact neighbours are computed first, tell
                how many more probes this recall needs; above 0, at most 1. Where that comes to
                most of all pairs, all are compared.

        Raises:
            TypeError, ValueError: for a number of the wrong type or out of its range.
        """
        return cls(
            engine.ivf_plan(
                seed=to_natural("seed", seed),
                lists=to_natural("lists", lists),
                probes=to_number(probes, "probes"),
                rounds=to_natural("rounds", rounds),
                until_recall=None if until_recall is None else to_float(until_recall),
            )
        )

    @classmethod
    def partitions(
        cls,
        *,
        seed: SupportsIndex = 0,
        lists: SupportsIndex,
        probes: float,
        until_recall: float | None = None,
    ) -> JoinPlan:
        """Rows are compared with those of the lists of an index that are nearest to them.

        What a :class:`lshjoin.Index` and joins out of core do: of vectors of 32 bits at most, and
        with the same pairs wherever the vectors lie. In memory, :meth:`ivf` is quicker.

        Args:
            seed: which rows the centroids start from, 0 to 2**64 - 1.
            lists: as for :meth:`ivf`.
            probes: lists that an item probes on average, its own the first, at least 1. A query
                probes those that are no further from it, beyond the nearest, than these are from
                an item.
            until_recall: as for :meth:`ivf`.

        Raises:
            TypeError, ValueError: for a number of the wrong type or out of its range.

        Examples:
            >>> import numpy as np
            >>> from lshjoin import JoinPlan, knn_join
            >>> items = np.random.default_rng(0).random((5000, 2), np.float32)
            >>> plan = JoinPlan.partitions(lists=50, probes=3)
            >>> knn_join(items, k=3, plan=plan).indices.shape
            (5000, 3)
        """
        return cls(
            engine.partition_plan(
                seed=to_natural("seed", seed),
                lists=to_natural("lists", lists),
                probes=to_number(probes, "probes"),
                until_recall=None if until_recall is None else to_float(until_recall),
            )
        )

    @classmethod
    def from_json(cls, text: str) -> JoinPlan:
        """The plan of a :meth:`to_json`; ValueError if ``text`` is none."""
        plan, predicted = engine.check_plan(text)
        return cls(plan, None if predicted is None else Prediction._parse(predicted))

    def to_json(self) -> str:
        """The plan as a JSON object: ``"plan"``, its kind, its numbers and what is predicted."""
        if self.predicted is None:
            return self._json
        return json.dumps({**json.loads(self._json), "predicted": self.predicted._to_json()})

    def __repr__(self) -> str:
        kind, numbers = self._parts()
        arguments = ", ".join(f"{name}={number!r}" for name, number in numbers.items())
        return f"JoinPlan.{kind}({arguments})"

    def __str__(self) -> str:
        """What it does and, if predicted, what comes of it."""
        predicted = "" if self.predicted is None else f"\n{self.predicted}"
        kind, numbers = self._parts()
        if kind == "exact":
            return "exact   all pairs are compared" + predicted
        text, until = _TEXTS[kind]
        until = "" if numbers["until_recall"] is None else until
        return (text + until).format(**numbers) + predicted

    def _repr_html_(self) -> str:
        """What notebooks show: what ``str`` says, and the shares that are predicted."""
        picture = ""
        if self.predicted is not None:
            shares = {"recall": self.predicted.recall.value, "pairs": self.predicted.share}
            picture = html.bars("Predicted recall, and share of the pairs compared", shares, 1.0)
        return html.table(f"JoinPlan.{self.kind}", html.of_text(str(self)), picture)

    @property
    def kind(self) -> str:
        """The name of the method that makes plans like it."""
        return self._parts()[0]

    def _parts(self) -> tuple[str, dict[str, Any]]:
        numbers = json.loads(self._json)
        return numbers.pop("plan"), numbers
