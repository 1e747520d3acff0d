"""Which rows of a catalog go into a batch: the best of each stratum by each criterion, kept while it streams by.

In: arrays of a few thousand rows at a time. Out: candidates, then the chosen ones. State is bounded by the budget, not
by the catalog. No tables and no files here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ray_app.active_learning.quotas import allocate, mixed
from ray_app.arrays import Floats, Hashes, Ints
from ray_app.data.near_duplicates import NearDuplicateFilter

PENDING = 65_536  # rows that wait before they are sorted in
SLACK = 8  # candidates of a stratum beyond twice its quota, as some turn out to be near-duplicates


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """n rows: stratum, the hash that decides ties, where the row lies, and its values [n, criteria]."""

    stratum: Ints
    tie: Hashes
    place: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.place)

    def take(self, at: NDArray[np.generic]) -> "Candidates":
        return Candidates(stratum=self.stratum[at], tie=self.tie[at], place=self.place[at], values=self.values[at])


def joined(parts: Sequence[Candidates]) -> Candidates:
    return Candidates(
        stratum=np.concatenate([part.stratum for part in parts]),
        tie=np.concatenate([part.tie for part in parts]),
        place=np.concatenate([part.place for part in parts]),
        values=np.concatenate([part.values for part in parts]),
    )


def room(quotas: Ints) -> Ints:
    """[strata] how many candidates each keeps."""
    return quotas * 2 + SLACK


class TopPerGroup:
    """The best `room[g]` rows of every group g by one value, out of batches in any order; of equals, the lower tie.

    Rows of one group with the same `content` count once: thousands of reviews that say `좋아요` share one value, and
    must not fill a group.
    """

    def __init__(self, room: Ints, criteria: int, pending: int = PENDING) -> None:
        self.room, self.bar = room, np.where(room > 0, -np.inf, np.inf).astype(np.float32)
        self.pending = max(int(room.sum()), pending)
        ints, hashes = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        none = Candidates(stratum=ints, tie=hashes, place=ints, values=np.zeros((0, criteria), np.float32))
        self.parts = [(ints, np.zeros(0, np.float32), hashes, none)]
        self.waiting = 0

    def add(self, group: Ints, value: Floats, content: Hashes, rows: Candidates) -> None:
        """[n] rows with the group, value and content of each; a value of NaN is none."""
        at = np.flatnonzero(value >= self.bar[group])
        if len(at):
            self.parts.append((group[at], value[at], content[at], rows.take(at)))
            self.waiting += len(at)
        if self.waiting > self.pending:
            self._sort()

    def kept(self) -> Candidates:
        """The rows that are kept: by group, the best first."""
        self._sort()
        return self.parts[0][3]

    def _sort(self) -> None:
        group, value, content = (np.concatenate([part[i] for part in self.parts]) for i in range(3))
        rows = joined([part[3] for part in self.parts])
        order = np.lexsort((rows.place, rows.tie, -value, group))
        same = content[order] ^ (group[order].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        order = order[np.sort(np.unique(same, return_index=True)[1])]
        rank = np.arange(len(order)) - np.searchsorted(group[order], group[order])
        last = rank == self.room[group[order]] - 1
        self.bar[group[order][last]] = value[order][last]
        order = order[rank < self.room[group[order]]]
        self.parts, self.waiting = [(group[order], value[order], content[order], rows.take(order))], 0


def union(parts: Sequence[Candidates]) -> Candidates:
    """Every row once, in an order that does not depend on the parts."""
    rows = joined(parts)
    rows = rows.take(np.unique(rows.place, return_index=True)[1])
    return rows.take(np.lexsort((rows.place, rows.tie)))


@dataclass(frozen=True)
class Selection:
    """Positions among the candidates in the order of choice, what chose each, near-duplicates passed over."""

    rows: Ints
    by: list[str]
    duplicates: int


def choose(
    budget: int,
    candidates: Candidates,
    texts: Sequence[str],
    shares: dict[int, tuple[str, float]],
    sizes: Ints,
    floors: Sequence[tuple[str, Sequence[int], int]],
    seen: NearDuplicateFilter,
) -> Selection:
    """A batch of `budget` rows, or as many as there are different candidates.

    Args:
        shares: column of `values` -> name and share of the criterion that chooses by it.
        sizes: [strata] rows of each in the catalog, which the batch follows.
        floors: name, candidates in order of preference, and how many of them the batch has at least; chosen first.
        seen: texts that are not to be chosen again, labelled ones for example.
    """
    draw = _Draw(candidates, texts, seen)
    for name, members, least in floors:
        have = len(draw.taken.intersection(members))
        draw.take(iter(members), max(0, least - have), name)
    names, parts = zip(*shares.values(), strict=True)
    queues = [draw.queues(column, len(sizes)) for column in shares]
    given = np.zeros(len(parts), np.int64)
    most = np.bincount(candidates.stratum, minlength=len(sizes))
    while True:
        taken = draw.count(len(sizes))
        wanted = allocate(budget, sizes, taken, most) - taken
        if not wanted.any():
            return Selection(np.array(draw.order, np.int64), draw.by, draw.duplicates)
        counts = mixed(wanted, np.array(parts), given)
        for s in np.flatnonzero(wanted):
            for c, name in enumerate(names):
                given[c] += draw.take(queues[c][s], int(counts[s, c]), name)
        short = draw.count(len(sizes)) - taken < wanted
        most = np.where(short, draw.count(len(sizes)), most)  # has no more: the others share what it leaves


class _Draw:
    """Candidates taken so far. A candidate that is a near-duplicate is never looked at again."""

    def __init__(self, candidates: Candidates, texts: Sequence[str], seen: NearDuplicateFilter) -> None:
        self.candidates, self.texts, self.seen = candidates, texts, seen
        self.order: list[int] = []
        self.by: list[str] = []
        self.taken: set[int] = set()
        self.refused: set[int] = set()

    @property
    def duplicates(self) -> int:
        return len(self.refused)

    def queues(self, column: int, strata: int) -> list[Iterator[int]]:
        """Each stratum's candidates, the best by a column of values first."""
        rows = self.candidates
        order = np.lexsort((rows.tie, -rows.values[:, column], rows.stratum))
        bounds = np.searchsorted(rows.stratum[order], np.arange(strata + 1))
        return [iter(order[a:b].tolist()) for a, b in pairwise(bounds)]

    def take(self, queue: Iterator[int], count: int, name: str) -> int:
        """The next `count` of a queue that are new; says how many there were."""
        before = len(self.order)
        while len(self.order) - before < count and (row := next(queue, None)) is not None:
            if row in self.taken or row in self.refused:
                continue
            if self.seen.add(self.texts[row]):
                self.taken.add(row)
                self.order.append(row)
                self.by.append(name)
            else:
                self.refused.add(row)
        return len(self.order) - before

    def count(self, strata: int) -> Ints:
        """[strata] rows taken."""
        return np.bincount(self.candidates.stratum[self.order], minlength=strata).astype(np.int64)
