"""Reviews of many requests at a time, gathered into batches by what they cost. No HTTP and no Ray in here.

In: tables of accepted rows, each with a deadline. Out: an Answer each. While a batch runs, what arrives waits; the next
batch takes from it until the budget is full, so that an idle engine answers at once and a busy one works on full
batches. A large request takes its turn row by row, as if its rows had come one after the other at the engine's speed:
it cannot hold up the small ones. The queue is bounded by the seconds it would take and by rows.
"""

import asyncio
import heapq
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.arrays import Ints

Run = Callable[[pa.Table], pa.Table]
REMEMBER = 0.8  # how much of what was measured before counts beside the latest batch
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """What may be gathered and what may wait."""

    batch_tokens: int = 4_096  # a batch ends when it has so many, masked variants included,
    batch_seconds: float = 0.0  # or when it would take so long, if that is more
    queue_seconds: float = 5.0  # of work that waits; beyond it requests are refused
    queue_rows: int = 10_000


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of one table: its rows but for the `failed` ones, or why it was refused."""

    table: pa.Table | None = None
    failed: tuple[int, ...] = ()
    refused: str = ""  # overloaded, late, moved (to another bundle), unable (to explain)
    retry_after: int = 0  # seconds
    stats: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False, kw_only=True)
class _Request:
    table: pa.Table
    tokens: Ints
    deadline: float
    future: "asyncio.Future[BatchResult]"
    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    left: int = 0
    pieces: list[pa.Table] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)


class DynamicBatcher:
    """Await it with a table and a deadline (seconds since the epoch, as it may come from another machine).

    Args:
        run: rows in, the same rows with more columns out; called in `executor`, one batch at a time.
        cost: tokens each row of a table will cost, masked variants included.
    """

    def __init__(self, run: Run, cost: Callable[[pa.Table], Ints], bounds: BatchLimits, executor: Executor) -> None:
        self.run, self.cost, self.bounds, self.executor = run, cost, bounds, executor
        self.heap: list[tuple[float, int, _Request, int]] = []  # when a row's turn comes, its number, whose, which row
        self.numbers = itertools.count()
        self.waiting_tokens = self.running_tokens = 0
        self.seen_seconds = self.seen_tokens = 0.0
        self.failing = False  # whether all of the latest batch failed
        self.worker: asyncio.Task[None] | None = None

    async def __call__(self, table: pa.Table, deadline: float) -> BatchResult:
        if not len(table):
            return BatchResult(table=table)
        seconds = self.seconds()
        full = seconds > self.bounds.queue_seconds or len(self.heap) + len(table) > self.bounds.queue_rows
        if self.heap and full:
            return BatchResult(refused="overloaded", retry_after=max(1, math.ceil(seconds)), stats=self._stats())
        future = asyncio.get_running_loop().create_future()
        request = _Request(table=table, tokens=self.cost(table), deadline=deadline, future=future, left=len(table))
        self._enqueue(request)
        if self.worker is None or self.worker.done():
            self.worker = asyncio.create_task(self._work())
        return await request.future

    @property
    def seconds_per_token(self) -> float:
        """Over the latest batches by their tokens: a slow first one, or small ones, say little of full ones."""
        return self.seen_seconds / max(1.0, self.seen_tokens)

    @property
    def budget(self) -> int:
        """Tokens of the next batch: as soon as the speed is known, what takes `batch_seconds`."""
        speed = self.seen_tokens / self.seen_seconds if self.seen_seconds else 0.0
        return max(self.bounds.batch_tokens, int(self.bounds.batch_seconds * speed))

    def seconds(self) -> float:
        """How long what waits and what runs would take."""
        return (self.waiting_tokens + self.running_tokens) * self.seconds_per_token

    def _enqueue(self, request: _Request) -> None:
        before = np.cumsum(request.tokens) - request.tokens
        turns = request.arrived + before * self.seconds_per_token
        for row, turn in enumerate(turns.tolist()):
            heapq.heappush(self.heap, (turn, next(self.numbers), request, row))
        self.waiting_tokens += int(request.tokens.sum())

    async def _work(self) -> None:
        """Until nothing waits: an idle gatherer leaves nothing behind that would keep it alive."""
        while batch := self._gather():
            try:
                await self._run_batch(batch)
            except Exception as error:  # a bug must not leave requests waiting for ever
                log.exception("a batch failed")
                for request in batch:
                    if not request.future.done():
                        request.future.set_exception(error)

    def _gather(self) -> dict[_Request, list[int]]:
        """Rows whose turn it is, at least one, until the budget is full. Those that nobody waits for go unread."""
        batch: dict[_Request, list[int]] = {}
        tokens, now, budget = 0, time.time(), self.budget
        while self.heap and tokens < budget:
            _, _, request, row = heapq.heappop(self.heap)
            cost = int(request.tokens[row])
            self.waiting_tokens -= cost
            if now > request.deadline and not request.future.done():
                request.future.set_result(BatchResult(refused="late", stats=self._stats()))
            if not request.future.done():  # a client that went away has cancelled it
                batch.setdefault(request, []).append(row)
                tokens += cost
        self.running_tokens = tokens
        return batch

    async def _run_batch(self, batch: dict[_Request, list[int]]) -> None:
        """A request's rows are taken in order, so that those in one batch follow one another."""
        began = time.monotonic()
        table = pa.concat_tables(request.table.slice(rows[0], len(rows)) for request, rows in batch.items())
        loop = asyncio.get_running_loop()
        result, good = await loop.run_in_executor(self.executor, survivors, self.run, table)
        self.failing = not good.any()
        seconds = time.monotonic() - began
        self.seen_seconds = REMEMBER * self.seen_seconds + seconds
        self.seen_tokens = REMEMBER * self.seen_tokens + self.running_tokens
        stats = {"batch_rows": len(table), "batch_tokens": self.running_tokens, "batch_seconds": seconds}
        self.running_tokens = 0
        self._deliver(batch, result, good, began, stats)

    def _deliver(
        self,
        batch: dict[_Request, list[int]],
        result: pa.Table | None,
        good: NDArray[np.bool_],
        began: float,
        stats: dict[str, float],
    ) -> None:
        start = at = 0
        for request, rows in batch.items():
            own = good[start : start + len(rows)]
            start += len(rows)
            if result is not None:
                request.pieces.append(result.slice(at, int(own.sum())))
            at += int(own.sum())
            request.failed += [row for row, ok in zip(rows, own, strict=True) if not ok]
            request.started = request.started or began
            request.left -= len(rows)
            if not request.left and not request.future.done():
                request.future.set_result(self._answer(request, stats))

    def _answer(self, request: _Request, stats: dict[str, float]) -> BatchResult:
        waited = {"waited_seconds": request.started - request.arrived, "tokens": float(request.tokens.sum())}
        table = pa.concat_tables(request.pieces) if request.pieces else None
        return BatchResult(table=table, failed=tuple(request.failed), stats={**stats, **waited, **self._stats()})

    def _stats(self) -> dict[str, float]:
        return {"queue_rows": len(self.heap), "queue_seconds": self.waiting_tokens * self.seconds_per_token}


def survivors(run: Run, table: pa.Table) -> tuple[pa.Table | None, NDArray[np.bool_]]:
    """`run` over the rows that do not make it fail, found by halving, and which rows those are.

    Halving also gets a batch through that is too large for the memory there is.
    """
    try:
        return run(table), np.ones(len(table), bool)
    except BaseException as error:  # a panic in Rust is no Exception; an interrupt never comes to this thread
        if len(table) == 1:
            log.error("a review could not be analysed: %s", type(error).__name__)  # its text stays out of the log
            return None, np.zeros(1, bool)
    half = len(table) // 2
    parts = [survivors(run, part) for part in (table.slice(0, half), table.slice(half))]
    return _joined(result for result, _ in parts), np.concatenate([good for _, good in parts])


def _joined(tables: Iterable[pa.Table | None]) -> pa.Table | None:
    found = [table for table in tables if table is not None]
    return pa.concat_tables(found) if found else None
