"""Ragged token sequences as two arrays, so that numpy handles a whole block at once. In, out: integer arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ray_app.arrays import Hashes, Ints


@dataclass(frozen=True)
class Sequences:
    """n sequences: `ids` [tokens] end to end, `offsets` [n + 1] where each begins."""

    ids: Ints
    offsets: Ints

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Sequences":
        """From lists of token ids."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
        return cls(ids, offsets_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """[n] tokens of each sequence."""
        return np.diff(self.offsets)

    def row(self, i: int) -> Ints:
        """The ids of one sequence."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def take(self, rows: Ints) -> "Sequences":
        """The named rows, in that order; a row may be named many times."""
        lengths = self.lengths[rows]
        return Sequences(self.ids[expand_ranges(self.offsets[:-1][rows], lengths)], offsets_of(lengths))

    def unique(self) -> tuple["Sequences", Ints]:
        """Each distinct sequence once, and for every row its position among them.

        Rows are told apart by length and two independent 64-bit polynomial hashes (collision odds ~ n^2 / 2^128).
        """
        if not len(self):
            return self, np.zeros(0, np.int64)
        keys = (self._hash(0x9E3779B97F4A7C15), self._hash(0xC2B2AE3D27D4EB4F), self.lengths)
        order = np.argsort(keys[0])  # rows that are alike in one hash alone are rare: then one may be kept twice
        new = np.zeros(len(self), bool)
        new[0] = True
        for key in keys:
            new[1:] |= key[order][1:] != key[order][:-1]
        position = np.empty(len(self), np.int64)
        position[order] = np.cumsum(new) - 1
        return self.take(order[new]), position

    def _hash(self, salt: int) -> Hashes:
        """[n] sum over tokens of mix(token, position, salt), modulo 2^64."""
        lengths = self.lengths
        position = (np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], lengths)).astype(np.uint64)
        with np.errstate(over="ignore"):
            mixed = (self.ids.astype(np.uint64) + np.uint64(1)) * np.uint64(salt) + (position << np.uint64(32))
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64's finalizer
                mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
            sums = np.concatenate(
                [np.zeros(1, np.uint64), np.cumsum(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)]
            )
            return np.asarray(sums[self.offsets[1:]] - sums[self.offsets[:-1]])


def offsets_of(lengths: Ints) -> Ints:
    """[n] lengths -> [n + 1] offsets."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def expand_ranges(starts: Ints, lengths: Ints) -> Ints:
    """The indices starts[0] .. starts[0]+lengths[0]-1, starts[1] .., end to end."""
    begin = offsets_of(lengths)[:-1]
    return np.arange(int(lengths.sum())) + np.repeat(starts - begin, lengths)


def split_by_budget(cost: Ints, budget: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive rows whose costs sum to at most `budget`; a row that costs more stands alone."""
    ends, start = np.cumsum(cost), 0
    while start < len(cost):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + budget, "right")))
        yield start, stop
        start = stop


def concatenate(parts: Sequence[Sequences]) -> Sequences:
    """All rows of all parts, in order."""
    return Sequences(
        np.concatenate([part.ids for part in parts]), offsets_of(np.concatenate([p.lengths for p in parts]))
    )
