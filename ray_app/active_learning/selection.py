"""Which reviews of a catalog go into a batch: the best of each stratum by each criterion, kept while it streams by.

In: arrays of a few thousand rows at a time. Out: candidates, then the selected ones. Memory is bounded by the budget,
not by the catalog.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_app.active_learning.quotas import allocate, split_by_criterion
from ray_app.arrays import Floats, Hashes, Ints
from ray_app.data.near_duplicates import NearDuplicateFilter

PENDING = 65_536  # rows that wait before they are sorted in
SLACK = 8  # candidates of a stratum beyond twice its quota, as some turn out to be near-duplicates


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """n rows: stratum, the hash that decides ties, position in the analyses, and values [n, criteria]."""

    stratum: Ints
    tie: Hashes
    position: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.position)

    def take(self, rows: NDArray[np.generic]) -> "Candidates":
        """These rows, by number or by flag."""
        return Candidates(
            stratum=self.stratum[rows], tie=self.tie[rows], position=self.position[rows], values=self.values[rows]
        )


class Criterion(NamedTuple):
    """A criterion: the column of `values` it selects by, and its share of the batch."""

    name: str
    column: int
    share: float


class Floor(NamedTuple):
    """At least `least` of these candidates (rows in order of preference) belong to the batch."""

    name: str
    candidates: Sequence[int]
    least: int


@dataclass(frozen=True)
class Selection:
    """Selected rows of the candidates in the order of selection, what selected each, skipped near-duplicates."""

    rows: Ints
    chosen_by: list[str]
    duplicates: int


def concatenated(tables: Sequence[Candidates]) -> Candidates:
    """The rows of all, in order."""
    return Candidates(
        stratum=np.concatenate([table.stratum for table in tables]),
        tie=np.concatenate([table.tie for table in tables]),
        position=np.concatenate([table.position for table in tables]),
        values=np.concatenate([table.values for table in tables]),
    )


def union(tables: Sequence[Candidates]) -> Candidates:
    """Every row once, in an order that does not depend on the order of `tables`."""
    rows = concatenated(tables)
    rows = rows.take(np.unique(rows.position, return_index=True)[1])
    return rows.take(np.lexsort((rows.position, rows.tie)))


def capacity(quotas: Ints) -> Ints:
    """[strata] how many candidates each stratum keeps."""
    return quotas * 2 + SLACK


class _Chunk(NamedTuple):
    """n rows with the group, value and content hash of each."""

    group: Ints
    value: Floats
    content: Hashes
    rows: Candidates


class TopPerGroup:
    """The best `capacity[g]` rows of every group g by one value, from batches in any order; of equals, the lower tie.

    Rows of one group with the same `content` count once: thousands of reviews that say `좋아요` share one value, and
    must not fill a group.
    """

    def __init__(self, capacity: Ints, criteria: int, pending: int = PENDING) -> None:
        self.capacity, self.bar = capacity, np.where(capacity > 0, -np.inf, np.inf).astype(np.float32)
        self.pending = max(int(capacity.sum()), pending)
        ints, hashes = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        none = Candidates(stratum=ints, tie=hashes, position=ints, values=np.zeros((0, criteria), np.float32))
        self.chunks = [_Chunk(ints, np.zeros(0, np.float32), hashes, none)]
        self.waiting = 0

    def add(self, group: Ints, value: Floats, content: Hashes, rows: Candidates) -> None:
        """Adds n rows with the group, value and content hash of each; a row whose value is NaN is left out."""
        passing = np.flatnonzero(value >= self.bar[group])
        if len(passing):
            self.chunks.append(_Chunk(group[passing], value[passing], content[passing], rows.take(passing)))
            self.waiting += len(passing)
        if self.waiting > self.pending:
            self._sort()

    def best(self) -> Candidates:
        """The rows kept, by group, the best first."""
        self._sort()
        return self.chunks[0].rows

    def _sort(self) -> None:
        """Merges the chunks into one of the best rows, and raises the bar of every full group to its last value."""
        group = np.concatenate([chunk.group for chunk in self.chunks])
        value = np.concatenate([chunk.value for chunk in self.chunks])
        content = np.concatenate([chunk.content for chunk in self.chunks])
        rows = concatenated([chunk.rows for chunk in self.chunks])
        order = np.lexsort((rows.position, rows.tie, -value, group))
        same = content[order] ^ (group[order].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        order = order[np.sort(np.unique(same, return_index=True)[1])]
        rank = np.arange(len(order)) - np.searchsorted(group[order], group[order])
        last = rank == self.capacity[group[order]] - 1
        self.bar[group[order][last]] = value[order][last]
        order = order[rank < self.capacity[group[order]]]
        self.chunks, self.waiting = [_Chunk(group[order], value[order], content[order], rows.take(order))], 0


def select(
    budget: int,
    candidates: Candidates,
    texts: Sequence[str],
    criteria: Sequence[Criterion],
    sizes: Ints,
    floors: Sequence[Floor],
    distinct: NearDuplicateFilter,
) -> Selection:
    """Selects a batch of `budget` rows, or as many as there are different candidates.

    Args:
        texts: the candidates' texts.
        sizes: [strata] rows of each in the catalog; the batch has the same proportions.
        floors: filled first, in this order.
        distinct: knows the texts that must not be selected again, such as labeled ones.
    """
    draw, strata = _Draw(candidates, texts, distinct), len(sizes)
    for floor in floors:
        have = len(draw.taken.intersection(floor.candidates))
        draw.take(iter(floor.candidates), max(0, floor.least - have), floor.name)
    queues = [draw.queues(criterion.column, strata) for criterion in criteria]
    shares = np.array([criterion.share for criterion in criteria])
    by_criterion = np.zeros(len(criteria), np.int64)
    most = np.bincount(candidates.stratum, minlength=strata)
    while True:
        taken = draw.count(strata)
        wanted = allocate(budget, sizes, taken, most) - taken
        if not wanted.any():
            return Selection(np.array(draw.order, np.int64), draw.chosen_by, len(draw.duplicates))
        counts = split_by_criterion(wanted, shares, by_criterion)
        for s in np.flatnonzero(wanted):
            for c, criterion in enumerate(criteria):
                by_criterion[c] += draw.take(queues[c][s], int(counts[s, c]), criterion.name)
        exhausted = draw.count(strata) - taken < wanted
        most = np.where(exhausted, draw.count(strata), most)  # the other strata share what an exhausted one leaves


class _Draw:
    """Candidates taken so far. A candidate that turned out to be a near-duplicate is not looked at again."""

    def __init__(self, candidates: Candidates, texts: Sequence[str], distinct: NearDuplicateFilter) -> None:
        self.candidates, self.texts, self.distinct = candidates, texts, distinct
        self.order: list[int] = []
        self.chosen_by: list[str] = []
        self.taken: set[int] = set()
        self.duplicates: set[int] = set()

    def queues(self, column: int, strata: int) -> list[Iterator[int]]:
        """Each stratum's candidates, the best by a column of values first."""
        rows = self.candidates
        order = np.lexsort((rows.tie, -rows.values[:, column], rows.stratum))
        bounds = np.searchsorted(rows.stratum[order], np.arange(strata + 1))
        return [iter(order[a:b].tolist()) for a, b in pairwise(bounds)]

    def take(self, queue: Iterator[int], count: int, name: str) -> int:
        """Takes the next `count` new candidates of a queue; returns how many there were."""
        before = len(self.order)
        while len(self.order) - before < count and (row := next(queue, None)) is not None:
            if row in self.taken or row in self.duplicates:
                continue
            if self.distinct.add(self.texts[row]):
                self.taken.add(row)
                self.order.append(row)
                self.chosen_by.append(name)
            else:
                self.duplicates.add(row)
        return len(self.order) - before

    def count(self, strata: int) -> Ints:
        """[strata] rows taken."""
        return np.bincount(self.candidates.stratum[self.order], minlength=strata).astype(np.int64)
