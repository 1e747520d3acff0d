"""Gathers the reviews of many requests into batches of bounded cost. No HTTP and no Ray here.

In: tables of accepted rows, each with a deadline. Out: one BatchResult per table. Rows that arrive while a batch runs
wait; the next batch takes from them until its budget is full, so that an idle engine answers at once and a busy one
runs full batches. A large request is queued row by row, as if its rows had arrived one after the other at the engine's
speed, and slower where others of its size wait: it cannot hold up small ones. What no deadline allows is refused before
it is queued; the queue is bounded in rows, and in the seconds of work before a request's turn.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags, Ints
from ray_app.data.halving import Run
from ray_app.errors import DeviceError
from ray_app.serving.survivors import survivors
from ray_app.serving.turn_queue import TurnQueue

T = TypeVar("T")
REMEMBER = 0.8  # weight of earlier batches in the moving average of the speed
FORGET = 0.95  # of a speed by which a request was refused while nothing ran
INLINE_BYTES = 16_000  # of a table whose cost is told within a millisecond; a larger one would hold up the event loop
LONG_SHARE = 0.5  # of its deadline that one review may take, for which everything else waits
LARGE_SHARE = 2  # rows of large requests come at one part in this of the engine's speed, together
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """How large a batch and the queue may grow."""

    batch_tokens: int = 4_096  # per batch, masked variants included
    batch_seconds: float = 0.0  # a batch may hold more tokens than that if the engine runs them in this time
    queue_seconds: float = 5.0  # of work before a request's turn; beyond it requests are refused
    queue_rows: int = 10_000


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """The result for one table: its rows without the `failed` ones, or why it was refused."""

    table: pa.Table | None = None
    failed: tuple[int, ...] = ()  # positions of rows
    # overloaded, crowded (for a request of its size), large (for its deadline), long (a review that would hold up all),
    # late, moved (another bundle is loaded), unable (the bundle cannot explain)
    refused: str = ""
    retry_after: int = 0  # seconds
    share: float = 1.0  # of the large request, or of the long review, that would be taken
    stats: dict[str, float] = field(default_factory=dict)  # of the batch and the queue, see EndpointMetrics.batch


@dataclass(eq=False, kw_only=True)
class _Request:
    table: pa.Table
    tokens: Ints
    deadline: float
    future: "asyncio.Future[Any]"
    work: Callable[[], object] | None = None  # what is run instead of the table, in a batch of its own
    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    large: bool = False
    remaining: int = 0  # rows without a result
    results: list[pa.Table] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """Tokens of all its rows."""
        return int(self.tokens.sum())


class DynamicBatcher:
    """Gathers tables into batches and runs them: `await batcher(table, deadline)`.

    Args:
        run: rows in, the same rows with more columns out; called in `executor`, one batch at a time.
        cost: table -> [rows] tokens each row will cost, masked variants included.
    """

    def __init__(self, run: Run, cost: Callable[[pa.Table], Ints], limits: BatchLimits, executor: Executor) -> None:
        self.run, self.cost, self.limits, self.executor = run, cost, limits, executor
        self.queue: TurnQueue[_Request] = TurnQueue()
        self.running_tokens = self.large_requests = 0
        self.measured_seconds = self.measured_tokens = 0.0  # of the latest batches, older ones weighing less
        self.failing = False  # whether every row of the latest batch failed
        self.worker: asyncio.Task[None] | None = None

    async def __call__(self, table: pa.Table, deadline: float) -> BatchResult:
        """The rows of `table` after `run`. `deadline`: seconds since the epoch; it may come from another machine."""
        if not len(table):
            return BatchResult(table=table)
        if refusal := self._full(len(table), deadline):
            return refusal
        if table.nbytes > INLINE_BYTES:
            tokens = await asyncio.get_running_loop().run_in_executor(None, self.cost, table)
        else:
            tokens = self.cost(table)
        result = await self._queued(table, tokens, deadline, None)
        assert isinstance(result, BatchResult)
        return result

    async def alone(self, work: Callable[[], T], tokens: int, deadline: float, more: int = 0) -> T | BatchResult:
        """What `work`, which costs about `tokens`, returns when its turn has come; or a refusal.

        `more`: tokens that it and the work to come will cost, where it is the first of several steps.
        """
        own = max(tokens, more) * self.seconds_per_token
        left = deadline - time.time()
        if 0 < left < own:
            return self._large(left / own)
        if refusal := self._full(1, deadline):
            return refusal
        result = await self._queued(pa.table({}), np.array([tokens], np.int64), deadline, work)
        return cast("T | BatchResult", result)

    async def _queued(
        self, table: pa.Table, tokens: Ints, deadline: float, work: Callable[[], object] | None
    ) -> object:
        future = asyncio.get_running_loop().create_future()
        request = _Request(
            table=table, tokens=tokens, deadline=deadline, future=future, work=work, remaining=len(tokens)
        )
        turns = self._turns(request)
        if refusal := self._beyond(request, turns[-1]):
            return refusal
        self.large_requests += request.large
        for row, (turn, cost) in enumerate(zip(turns, tokens.tolist(), strict=True)):
            self.queue.push(turn, cost, request, row)
        if self.worker is None or self.worker.done():
            self.worker = asyncio.create_task(self._work())
        try:
            return await future
        finally:
            self.large_requests -= request.large

    def learn(self, tokens: int, seconds: float) -> None:
        """Takes over a measured speed, which later batches refine."""
        self.measured_tokens, self.measured_seconds = float(tokens), seconds

    @property
    def seconds_per_token(self) -> float:
        """Average of the latest batches, weighted by tokens: a slow first batch or a small one counts for little."""
        return self.measured_seconds / max(1.0, self.measured_tokens)

    @property
    def budget(self) -> int:
        """Tokens of the next batch: what runs in `batch_seconds` once the speed is known, at least `batch_tokens`."""
        speed = self.measured_tokens / self.measured_seconds if self.measured_seconds else 0.0
        return max(self.limits.batch_tokens, int(self.limits.batch_seconds * speed))

    def seconds(self, turn: float = math.inf) -> float:
        """How long the running rows and those waiting will take whose turn is at `turn` or before."""
        return (self.queue.ahead(turn) + self.running_tokens) * self.seconds_per_token

    def _full(self, rows: int, deadline: float) -> BatchResult | None:
        """A refusal where more waits than may, whatever the request costs: so its texts are not read."""
        if not len(self.queue):
            return None
        before = self.seconds(time.monotonic())
        if len(self.queue) + rows > self.limits.queue_rows:
            return self._refusal("overloaded", self.seconds(), deadline)
        return self._refusal("overloaded", before, deadline) if before > self.limits.queue_seconds else None

    def _turns(self, request: _Request) -> list[float]:
        """When each of its rows would arrive: a large request's one after the other, at a share of the speed."""
        request.large = len(request.tokens) > 1 and request.cost > self.budget
        spread = LARGE_SHARE * (self.large_requests + 1) if request.large else 1
        before = np.cumsum(request.tokens) - request.tokens
        turns: list[float] = (request.arrived + before * self.seconds_per_token * spread).tolist()
        return turns

    def _beyond(self, request: _Request, last_turn: float) -> BatchResult | None:
        """A refusal where the request cannot be done in time, alone or with what comes before its last row."""
        left, own = request.deadline - time.time(), request.cost * self.seconds_per_token
        if 0 < left < own:
            return self._large(left / own)
        longest, most = int(request.tokens.argmax()), max(self.limits.queue_seconds, LONG_SHARE * left)
        alone = float(request.tokens[longest]) * self.seconds_per_token  # nothing else runs meanwhile
        if alone > most:
            return BatchResult(refused="long", share=most / alone, failed=(longest,), stats=self._stats())
        done = self.seconds(last_turn) + own
        if request.large and len(self.queue) and 0 < left < done:
            return self._refusal("crowded", done - left, request.deadline)
        return None

    def _large(self, share: float) -> BatchResult:
        """A refusal; where nothing runs that would tell the speed anew, what is thought of it gets better with each."""
        if not len(self.queue) and not self.running_tokens:
            self.measured_seconds *= FORGET
        return BatchResult(refused="large", share=share, stats=self._stats())

    def _refusal(self, reason: str, seconds: float, deadline: float) -> BatchResult:
        """`seconds` until a try may succeed; nobody is told to wait for longer than a request may take."""
        wait = max(1, math.ceil(min(seconds, max(1.0, deadline - time.time()))))
        return BatchResult(refused=reason, retry_after=wait, stats=self._stats())

    async def _work(self) -> None:
        """Runs batches until nothing waits; an idle batcher has no task that would keep it alive."""
        while batch := self._gather():
            try:
                await self._run_batch(batch)
            except DeviceError as error:  # the health check has the replica replaced; others may answer meanwhile
                log.error("%s", error)
                self.failing = True
                for request in batch:
                    if not request.future.done():
                        request.future.set_result(BatchResult(refused="overloaded", retry_after=1))
            except Exception as error:  # a bug must not leave requests waiting forever
                log.exception("a batch failed")
                for request in batch:
                    if not request.future.done():
                        request.future.set_exception(error)

    def _gather(self) -> dict[_Request, list[int]]:
        """The next rows by turn, until the budget is full; rows of late or cancelled requests are dropped."""
        batch: dict[_Request, list[int]] = {}
        tokens = popped = 0
        now, budget = time.time(), self.budget
        for (request, row), cost in zip(self.queue.rows, self.queue.costs, strict=True):
            if tokens >= budget or (request.work and batch):
                break
            popped += 1
            if now > request.deadline and not request.future.done():
                request.future.set_result(BatchResult(refused="late", stats=self._stats()))
            if not request.future.done():  # it is done where the client disconnected
                batch.setdefault(request, []).append(row)
                tokens += cost if not request.work else max(cost, budget)  # nothing beside it
        self.queue.pop(popped)
        self.running_tokens = sum(int(request.tokens[rows].sum()) for request, rows in batch.items())
        return batch

    async def _run_batch(self, batch: dict[_Request, list[int]]) -> None:
        """Runs the batch and delivers its rows. A request's rows in one batch are consecutive: they were queued so."""
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        first = next(iter(batch))
        if first.work:
            result = await loop.run_in_executor(self.executor, first.work)
            if not first.future.done():
                first.future.set_result(result)
            self._measure(began)
            return
        table = pa.concat_tables(request.table.slice(rows[0], len(rows)) for request, rows in batch.items())
        result, good = await loop.run_in_executor(self.executor, survivors, self.run, table)
        self.failing = not good.any()
        stats = {"batch_rows": len(table), "batch_tokens": self.running_tokens, "batch_seconds": self._measure(began)}
        self._deliver(batch, result, good, began, stats)

    def _measure(self, began: float) -> float:
        """Notes the speed of the batch that ran since `began`; its seconds."""
        seconds = time.monotonic() - began
        self.measured_seconds = REMEMBER * self.measured_seconds + seconds
        self.measured_tokens = REMEMBER * self.measured_tokens + self.running_tokens
        self.running_tokens = 0
        return seconds

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
        own = {"waited_seconds": request.started - request.arrived, "tokens": float(request.cost)}
        table = pa.concat_tables(request.results) if request.results else None
        return BatchResult(table=table, failed=tuple(request.failed), stats={**stats, **own, **self._stats()})

    def _stats(self) -> dict[str, float]:
        return {"queue_rows": len(self.queue), "queue_seconds": self.queue.total * self.seconds_per_token}
