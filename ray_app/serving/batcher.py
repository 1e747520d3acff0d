"""Gathers the reviews of many requests into batches of bounded cost. No HTTP and no Ray here.

In: tables of accepted rows, each with a deadline. Out: one BatchResult per table. Rows that arrive while a batch runs
wait; the next batch takes from them until its budget is full, so that an idle engine answers at once and a busy one
runs full batches. A large request is queued row by row, as if its rows had arrived one after the other at the engine's
speed, so it cannot hold up small ones. The queue is bounded in rows and in the seconds it would take.
"""

import asyncio
import heapq
import itertools
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags, Ints
from ray_app.data.halving import Run, isolate

REMEMBER = 0.8  # weight of earlier batches in the moving average of the speed
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """How large a batch and the queue may grow."""

    batch_tokens: int = 4_096  # per batch, masked variants included
    batch_seconds: float = 0.0  # a batch may hold more tokens than that if the engine runs them in this time
    queue_seconds: float = 5.0  # of waiting work; beyond it requests are refused
    queue_rows: int = 10_000


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """The result for one table: its rows without the `failed` ones, or why it was refused."""

    table: pa.Table | None = None
    failed: tuple[int, ...] = ()  # positions of rows
    refused: str = ""  # overloaded, late, moved (another bundle is loaded), unable (the bundle cannot explain)
    retry_after: int = 0  # seconds
    stats: dict[str, float] = field(default_factory=dict)  # of the batch and the queue, see EndpointMetrics.batch


@dataclass(eq=False, kw_only=True)
class _Request:
    table: pa.Table
    tokens: Ints
    deadline: float
    future: "asyncio.Future[BatchResult]"
    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    remaining: int = 0  # rows without a result
    results: list[pa.Table] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)


class DynamicBatcher:
    """Gathers tables into batches and runs them: `await batcher(table, deadline)`.

    Args:
        run: rows in, the same rows with more columns out; called in `executor`, one batch at a time.
        cost: table -> [rows] tokens each row will cost, masked variants included.
    """

    def __init__(self, run: Run, cost: Callable[[pa.Table], Ints], limits: BatchLimits, executor: Executor) -> None:
        self.run, self.cost, self.limits, self.executor = run, cost, limits, executor
        self.heap: list[tuple[float, int, _Request, int]] = []  # turn, tie-breaker, request, row in it
        self.counter = itertools.count()
        self.waiting_tokens = self.running_tokens = 0
        self.measured_seconds = self.measured_tokens = 0.0  # of the latest batches, older ones weighing less
        self.failing = False  # whether every row of the latest batch failed
        self.worker: asyncio.Task[None] | None = None

    async def __call__(self, table: pa.Table, deadline: float) -> BatchResult:
        """The rows of `table` after `run`. `deadline`: seconds since the epoch; it may come from another machine."""
        if not len(table):
            return BatchResult(table=table)
        seconds = self.seconds()
        full = seconds > self.limits.queue_seconds or len(self.heap) + len(table) > self.limits.queue_rows
        if self.heap and full:
            return BatchResult(refused="overloaded", retry_after=max(1, math.ceil(seconds)), stats=self._stats())
        future = asyncio.get_running_loop().create_future()
        request = _Request(table=table, tokens=self.cost(table), deadline=deadline, future=future, remaining=len(table))
        self._enqueue(request)
        if self.worker is None or self.worker.done():
            self.worker = asyncio.create_task(self._work())
        return await request.future

    @property
    def seconds_per_token(self) -> float:
        """Average of the latest batches, weighted by tokens: a slow first batch or a small one counts for little."""
        return self.measured_seconds / max(1.0, self.measured_tokens)

    @property
    def budget(self) -> int:
        """Tokens of the next batch: what runs in `batch_seconds` once the speed is known, at least `batch_tokens`."""
        speed = self.measured_tokens / self.measured_seconds if self.measured_seconds else 0.0
        return max(self.limits.batch_tokens, int(self.limits.batch_seconds * speed))

    def seconds(self) -> float:
        """How long the waiting and the running rows will take."""
        return (self.waiting_tokens + self.running_tokens) * self.seconds_per_token

    def _enqueue(self, request: _Request) -> None:
        before = np.cumsum(request.tokens) - request.tokens
        turns = request.arrived + before * self.seconds_per_token
        for row, turn in enumerate(turns.tolist()):
            heapq.heappush(self.heap, (turn, next(self.counter), request, row))
        self.waiting_tokens += int(request.tokens.sum())

    async def _work(self) -> None:
        """Runs batches until nothing waits; an idle batcher has no task that would keep it alive."""
        while batch := self._gather():
            try:
                await self._run_batch(batch)
            except Exception as error:  # a bug must not leave requests waiting forever
                log.exception("a batch failed")
                for request in batch:
                    if not request.future.done():
                        request.future.set_exception(error)

    def _gather(self) -> dict[_Request, list[int]]:
        """The next rows by turn, until the budget is full; rows of late or cancelled requests are dropped."""
        batch: dict[_Request, list[int]] = {}
        tokens, now, budget = 0, time.time(), self.budget
        while self.heap and tokens < budget:
            _, _, request, row = heapq.heappop(self.heap)
            cost = int(request.tokens[row])
            self.waiting_tokens -= cost
            if now > request.deadline and not request.future.done():
                request.future.set_result(BatchResult(refused="late", stats=self._stats()))
            if not request.future.done():  # it is done where the client disconnected
                batch.setdefault(request, []).append(row)
                tokens += cost
        self.running_tokens = tokens
        return batch

    async def _run_batch(self, batch: dict[_Request, list[int]]) -> None:
        """Runs the batch and delivers its rows. A request's rows in one batch are consecutive: they were queued so."""
        began = time.monotonic()
        table = pa.concat_tables(request.table.slice(rows[0], len(rows)) for request, rows in batch.items())
        loop = asyncio.get_running_loop()
        result, good = await loop.run_in_executor(self.executor, survivors, self.run, table)
        self.failing = not good.any()
        seconds = time.monotonic() - began
        self.measured_seconds = REMEMBER * self.measured_seconds + seconds
        self.measured_tokens = REMEMBER * self.measured_tokens + self.running_tokens
        stats = {"batch_rows": len(table), "batch_tokens": self.running_tokens, "batch_seconds": seconds}
        self.running_tokens = 0
        self._deliver(batch, result, good, began, stats)

    def _deliver(
        self,
        batch: dict[_Request, list[int]],
        result: pa.Table | None,
        good: Flags,
        began: float,
        stats: dict[str, float],
    ) -> None:
        """Hands each request its rows of the batch, and its result where these were its last ones.

        Args:
            result: the rows of the batch that did not fail.
            good: [rows of the batch] which these are.
        """
        batch_row = result_row = 0
        for request, rows in batch.items():
            own = good[batch_row : batch_row + len(rows)]
            batch_row += len(rows)
            if result is not None:
                request.results.append(result.slice(result_row, int(own.sum())))
            result_row += int(own.sum())
            request.failed += [row for row, ok in zip(rows, own, strict=True) if not ok]
            request.started = request.started or began
            request.remaining -= len(rows)
            if not request.remaining and not request.future.done():
                request.future.set_result(self._result(request, stats))

    def _result(self, request: _Request, stats: dict[str, float]) -> BatchResult:
        own = {"waited_seconds": request.started - request.arrived, "tokens": float(request.tokens.sum())}
        table = pa.concat_tables(request.results) if request.results else None
        return BatchResult(table=table, failed=tuple(request.failed), stats={**stats, **own, **self._stats()})

    def _stats(self) -> dict[str, float]:
        return {"queue_rows": len(self.heap), "queue_seconds": self.waiting_tokens * self.seconds_per_token}


def survivors(run: Run, table: pa.Table) -> tuple[pa.Table | None, Flags]:
    """`run` over the rows that do not make it fail (None where all do), and [rows] which these are.

    Failing rows are found by halving, which also gets a batch through that is too large for the memory.
    """
    pieces, lost = isolate(run, table, _log_failure)
    good = np.ones(len(table), bool)
    good[list(lost)] = False
    return pa.concat_tables(pieces) if pieces else None, good


def _log_failure(_: pa.Table, error: BaseException) -> str:
    log.error("a review could not be analyzed: %s", type(error).__name__)  # its text stays out of the log
    return type(error).__name__
