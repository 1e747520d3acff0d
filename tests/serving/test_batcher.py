"""Requests gathered into batches. The engine is a function over numbers that can be held up and made to fail."""

import asyncio
import threading
import time
import weakref
from collections.abc import Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app.arrays import Ints
from ray_app.serving.batcher import BatchLimits, BatchResult, DynamicBatcher

T = TypeVar("T")
POISON, PANIC = -1, -2
LATER = 1e12  # a deadline that never comes


class Panic(BaseException):
    """What a bug in a Rust library raises: not an Exception."""


class Engine:
    """Doubles numbers, records its batches, waits while it is held, fails on poison."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered, self.free = threading.Event(), threading.Event()
        self.free.set()
        self.most = 10**9  # rows it has memory for

    def __call__(self, table: pa.Table) -> pa.Table:
        values = table["value"].to_pylist()
        self.batches.append(values)
        self.entered.set()
        assert self.free.wait(30)
        if PANIC in values:
            raise Panic
        if POISON in values:
            raise ValueError(f"could not read {values}")
        if len(values) > self.most:
            raise MemoryError
        return table.append_column("double", pa.array([2 * value for value in values], pa.int64()))

    async def hold(self, batch: DynamicBatcher) -> "asyncio.Task[BatchResult]":
        """Keeps the engine busy with a first request, so that the next ones have to wait."""
        self.free.clear()
        first = asyncio.create_task(batch(rows(0), LATER))
        assert await asyncio.to_thread(self.entered.wait, 30)
        return first


@pytest.fixture(scope="module")
def thread() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def run(scenario: "Coroutine[Any, Any, T]") -> T:
    async def limited() -> T:
        async with asyncio.timeout(60):
            return await scenario

    return asyncio.run(limited())


def rows(*values: int, cost: int = 1) -> pa.Table:
    return pa.table({"value": pa.array(values, pa.int64()), "cost": pa.array([cost] * len(values), pa.int64())})


def cost(table: pa.Table) -> Ints:
    tokens: Ints = table["cost"].to_numpy()
    return tokens


def batcher(engine: Engine, thread: Executor, **limits: Any) -> DynamicBatcher:
    return DynamicBatcher(engine, cost, BatchLimits(**{"batch_tokens": 100, "queue_seconds": 1e9, **limits}), thread)


async def ask(batch: DynamicBatcher, *tables: pa.Table, deadline: float = LATER) -> "list[asyncio.Task[BatchResult]]":
    """Tasks whose requests all wait in the batcher, in this order."""
    tasks = []
    for table in tables:
        tasks.append(asyncio.create_task(batch(table, deadline)))
        await asyncio.sleep(0)
    return tasks


def doubles(answer: BatchResult) -> list[int]:
    return [] if answer.table is None else answer.table["double"].to_pylist()


def test_a_request_comes_back_in_order_with_what_it_cost(thread: Executor) -> None:
    answer = run(batcher(Engine(), thread)(rows(3, 1, 2, cost=5), LATER))
    assert doubles(answer) == [6, 2, 4]
    assert (answer.failed, answer.refused) == ((), "")
    assert (answer.stats["batch_rows"], answer.stats["batch_tokens"], answer.stats["tokens"]) == (3, 15, 15)
    assert answer.stats["waited_seconds"] >= 0
    assert answer.stats["batch_seconds"] > 0


def test_an_empty_table_is_answered_without_a_run(thread: Executor) -> None:
    engine = Engine()
    answer = run(batcher(engine, thread)(rows(), LATER))
    assert answer.table is not None
    assert len(answer.table) == 0
    assert not engine.batches


def test_what_waits_goes_into_one_batch(thread: Executor) -> None:
    async def scenario() -> list[BatchResult]:
        first = await engine.hold(batch)
        tasks = await ask(batch, rows(1), rows(2, 3), rows(4))
        engine.free.set()
        return await asyncio.gather(first, *tasks)

    engine = Engine()
    batch = batcher(engine, thread)
    assert [doubles(answer) for answer in run(scenario())] == [[0], [2], [4, 6], [8]]
    assert engine.batches == [[0], [1, 2, 3, 4]]


@pytest.mark.parametrize(("budget", "sizes"), [(10, [4, 4, 2]), (9, [3, 3, 3, 1]), (1, [1] * 10), (1_000, [10])])
def test_a_batch_is_over_its_budget_by_its_last_row_at_most(thread: Executor, budget: int, sizes: list[int]) -> None:
    engine = Engine()
    answer = run(batcher(engine, thread, batch_tokens=budget)(rows(*range(10), cost=3), LATER))
    assert [len(batch) for batch in engine.batches] == sizes
    assert doubles(answer) == [2 * i for i in range(10)]


def test_a_small_request_is_not_held_up_by_a_large_one_before_it(thread: Executor) -> None:
    async def scenario() -> None:
        batch.measured_seconds, batch.measured_tokens = 1e4, 100.0  # as measured on an engine of 100 s per token
        first = await engine.hold(batch)
        large, small = await ask(batch, rows(*range(1, 21)), rows(99))
        engine.free.set()
        assert doubles(await large) == [2 * i for i in range(1, 21)]
        assert doubles(await small) == [198]
        await first

    engine = Engine()
    batch = batcher(engine, thread, batch_tokens=1)
    run(scenario())
    assert engine.batches.index([99]) == 2  # after the large one's first row


def test_a_large_request_does_not_starve_beside_a_stream_of_small_ones(thread: Executor) -> None:
    async def stream(batch: DynamicBatcher, large: "asyncio.Task[BatchResult]") -> None:
        while not large.done():
            await batch(rows(7), LATER)

    async def scenario(batch: DynamicBatcher) -> BatchResult:
        (large,) = await ask(batch, rows(*range(100)))
        streams = [asyncio.create_task(stream(batch, large)) for _ in range(8)]
        answer = await asyncio.wait_for(large, 30)
        await asyncio.gather(*streams)
        return answer

    assert doubles(run(scenario(batcher(Engine(), thread, batch_tokens=2)))) == [2 * i for i in range(100)]


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [({"queue_rows": 3}, 4), ({"queue_seconds": 2.5}, 3)],  # the row whose turn comes later counts for rows alone
)
def test_beyond_the_queue_requests_are_refused_unread(thread: Executor, limits: dict[str, Any], seconds: int) -> None:
    async def scenario() -> None:
        batch.measured_seconds, batch.measured_tokens = 1.0, 1.0
        first = await engine.hold(batch)
        waiting = await ask(batch, rows(1), rows(2, 3))
        (full,) = await ask(batch, pa.table({"value": [4]}))  # has no cost column: would fail if it was read
        answer = await full
        assert (answer.refused, answer.table) == ("overloaded", None)
        assert answer.retry_after == seconds  # three wait and one runs, a second each
        assert answer.stats["queue_rows"] == 3
        engine.free.set()
        assert [doubles(answer) for answer in await asyncio.gather(first, *waiting)] == [[0], [2], [4, 6]]
        assert doubles(await batch(rows(5), LATER)) == [10]

    engine = Engine()
    batch = batcher(engine, thread, **limits)
    run(scenario())


def test_a_request_larger_than_the_queue_is_taken_where_nothing_waits(thread: Executor) -> None:
    answer = run(batcher(Engine(), thread, queue_rows=3)(rows(*range(9)), LATER))
    assert len(doubles(answer)) == 9


def test_a_slow_first_batch_is_soon_forgotten(thread: Executor) -> None:
    batch = batcher(Engine(), thread, batch_tokens=10_000)
    batch.measured_seconds, batch.measured_tokens = 60.0, 20.0  # a model that was loaded meanwhile
    run(batch(rows(*range(100), cost=100), LATER))
    assert batch.seconds_per_token < 0.03  # from 3


def test_a_request_past_its_deadline_is_dropped_before_it_is_run(thread: Executor) -> None:
    async def scenario() -> None:
        first = await engine.hold(batch)
        late = await ask(batch, rows(1, 2), deadline=time.time() - 1)
        punctual = await ask(batch, rows(3))
        engine.free.set()
        answers = await asyncio.gather(first, *late, *punctual)
        assert [answer.refused for answer in answers] == ["", "late", ""]
        assert answers[1].table is None

    engine = Engine()
    batch = batcher(engine, thread)
    run(scenario())
    assert engine.batches == [[0], [3]]


def test_rows_of_a_request_that_nobody_waits_for_are_not_run(thread: Executor) -> None:
    async def scenario() -> None:
        first = await engine.hold(batch)
        gone, kept = await ask(batch, rows(1, 2), rows(3))
        gone.cancel()
        engine.free.set()
        assert doubles(await kept) == [6]
        await first

    engine = Engine()
    batch = batcher(engine, thread)
    run(scenario())
    assert engine.batches == [[0], [3]]
    assert (len(batch.queue), batch.queue.total) == (0, 0)


@pytest.mark.parametrize("poison", [POISON, PANIC])
def test_a_poisonous_row_fails_alone(thread: Executor, poison: int) -> None:
    async def scenario() -> list[BatchResult]:
        first = await engine.hold(batch)
        tasks = await ask(batch, rows(*range(1, 20)), rows(31, poison, 33), rows(poison))
        engine.free.set()
        return await asyncio.gather(first, *tasks)

    engine = Engine()
    batch = batcher(engine, thread)
    _, healthy, mixed, lost = run(scenario())
    assert (doubles(healthy), healthy.failed) == ([2 * i for i in range(1, 20)], ())
    assert (doubles(mixed), mixed.failed) == ([62, 66], (1,))
    assert (doubles(lost), lost.failed, lost.refused) == ([], (0,), "")
    assert len(engine.batches) < 20  # found by halving


def test_a_batch_too_large_for_the_memory_is_run_in_halves(thread: Executor) -> None:
    engine = Engine()
    engine.most = 3
    answer = run(batcher(engine, thread)(rows(*range(11)), LATER))
    assert (doubles(answer), answer.failed) == ([2 * i for i in range(11)], ())


def test_the_text_of_a_review_that_fails_stays_out_of_the_log(
    thread: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    run(batcher(Engine(), thread)(rows(POISON), LATER))
    assert "ValueError" in caplog.text
    assert "could not read" not in caplog.text


def test_the_batcher_survives_what_cannot_be_costed_or_joined(thread: Executor) -> None:
    async def scenario() -> None:
        with pytest.raises(KeyError):
            await batch(pa.table({"value": [1]}), LATER)
        first = await engine.hold(batch)
        odd = await ask(batch, rows(1), rows(2).append_column("more", pa.array([1])))
        engine.free.set()
        found = await asyncio.gather(first, *odd, return_exceptions=True)
        assert isinstance(found[0], BatchResult)
        assert all(isinstance(one, pa.ArrowInvalid) for one in found[1:])
        assert doubles(await batch(rows(5), LATER)) == [10]

    engine = Engine()
    batch = batcher(engine, thread)
    run(scenario())


def test_nothing_is_left_behind_after_thousands_of_requests(thread: Executor) -> None:
    async def scenario() -> "weakref.ref[DynamicBatcher]":
        batch = batcher(Engine(), thread, batch_tokens=64)
        for _ in range(20):
            await asyncio.gather(*(batch(rows(i, i), LATER if i % 3 else 0.0) for i in range(100)))
        await asyncio.sleep(0)
        assert (len(batch.queue), batch.queue.total, batch.seconds(), batch.large_requests) == (0, 0, 0.0, 0)
        assert len(asyncio.all_tasks()) == 1
        return weakref.ref(batch)

    assert run(scenario())() is None


REQUEST = st.tuples(
    st.lists(st.tuples(st.integers(0, 9) | st.just(POISON), st.integers(1, 9)), max_size=12),
    st.sampled_from(["wait", "wait", "late", "cancel"]),
    st.integers(0, 3),  # turns of the loop before it comes
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(requests=st.lists(REQUEST, max_size=10), budget=st.integers(1, 40))
def test_every_request_gets_exactly_its_own_rows_in_order(
    thread: Executor, requests: list[tuple[list[tuple[int, int]], str, int]], budget: int
) -> None:
    async def one(batch: DynamicBatcher, number: int, values: list[tuple[int, int]], kind: str) -> None:
        codes = [value if value < 0 else 100 * number + value for value, _ in values]
        table = rows(*codes).set_column(1, "cost", pa.array([tokens for _, tokens in values], pa.int64()))
        answer = await batch(table, 0.0 if kind == "late" else LATER)
        assert answer.refused == ("late" if kind == "late" and values else "")
        if values and not answer.refused:
            assert doubles(answer) == [2 * code for code in codes if code != POISON]
            assert answer.failed == tuple(i for i, code in enumerate(codes) if code == POISON)

    async def scenario(batch: DynamicBatcher) -> None:
        tasks = []
        for number, (values, kind, turns) in enumerate(requests):
            tasks.append(asyncio.create_task(one(batch, number, values, kind)))
            for _ in range(turns):
                await asyncio.sleep(0)
            if kind == "cancel":
                tasks.pop().cancel()
        await asyncio.gather(*tasks)

    engine = Engine()
    run(scenario(batcher(engine, thread, batch_tokens=budget)))


def test_a_batch_takes_as_many_tokens_as_the_measured_speed_allows(thread: Executor) -> None:
    batch = batcher(Engine(), thread, batch_tokens=4, batch_seconds=0.5)
    assert batch.budget == 4, "nothing is known of its speed"
    batch.measured_seconds, batch.measured_tokens = 2.0, 80.0
    assert batch.budget == 20
    batch.measured_tokens = 8.0
    assert batch.budget == 4, "never less than batch_tokens"


def test_a_request_that_its_deadline_cannot_hold_is_refused_at_once_with_the_share_that_it_could(
    thread: Executor,
) -> None:
    async def scenario() -> list[BatchResult]:
        first = await engine.hold(batch)
        (answer,) = await ask(batch, rows(*range(40), cost=10), deadline=time.time() + 100)
        refused = await answer
        engine.free.set()
        return [refused, await first, await batch(rows(*range(9), cost=10), time.time() + 100)]

    engine = Engine()
    batch = batcher(engine, thread)
    batch.learn(1, 1.0)
    refused, first, fitting = run(scenario())
    assert (refused.refused, refused.table) == ("large", None)
    assert refused.share == pytest.approx(0.25, abs=0.01)
    assert (doubles(first), len(doubles(fitting))) == ([0], 9)
    assert sum(map(len, engine.batches)) == 10


def test_a_review_that_would_hold_up_all_others_is_refused_by_its_place(thread: Executor) -> None:
    batch = batcher(Engine(), thread, queue_seconds=5.0)
    batch.learn(1, 1.0)
    table = pa.table({"value": pa.array([1, 2, 3]), "cost": pa.array([1, 20, 2])})
    answer = run(batch(table, time.time() + 30))
    assert (answer.refused, answer.failed) == ("long", (1,))
    assert answer.share == pytest.approx(0.75, abs=0.01)
    for more, reason in ((0, "long"), (40, "large")):
        answer_alone = run(batch.alone(lambda: "done", 20, time.time() + 30, more))
        assert isinstance(answer_alone, BatchResult)
        assert answer_alone.refused == reason


def test_large_requests_fill_their_deadline_and_no_more_and_small_ones_pass_them(thread: Executor) -> None:
    async def scenario() -> None:
        first = await engine.hold(batch)
        larges = await ask(batch, *[rows(*range(100), cost=10)] * 3, deadline=time.time() + 30)  # 10 s of work each
        (small,) = await ask(batch, rows(7))
        await asyncio.sleep(0.05)
        assert [large.done() for large in larges] == [False, False, True]
        answer = larges[2].result()
        assert answer.refused == "crowded"
        assert 0 < answer.retry_after <= 30
        engine.free.set()
        assert doubles(await small) == [14]
        position = engine.batches.index(next(found for found in engine.batches if 7 in found and len(found) < 100))
        assert position <= 2, "after what ran, and one batch of the large ones"
        await asyncio.gather(first, *larges)

    engine = Engine()
    batch = batcher(engine, thread, queue_seconds=5.0)
    batch.learn(100, 1.0)
    run(scenario())


def test_nobody_is_told_to_wait_for_longer_than_a_request_may_take(thread: Executor) -> None:
    async def scenario() -> None:
        first = await engine.hold(batch)
        waiting = await ask(batch, *[rows(i) for i in range(100)])
        (answer,) = await ask(batch, rows(1), deadline=time.time() + 30)
        refused = await answer
        assert (refused.refused, refused.retry_after) == ("overloaded", 30)
        engine.free.set()
        await asyncio.gather(first, *waiting)

    engine = Engine()
    batch = batcher(engine, thread, queue_seconds=50.0)
    batch.learn(1, 1.0)
    run(scenario())


def test_the_cost_of_a_large_table_is_told_beside_the_event_loop(thread: Executor) -> None:
    costing: list[bool] = []

    def told(table: pa.Table) -> Ints:
        costing.append(threading.current_thread() is threading.main_thread())
        return cost(table)

    batch = DynamicBatcher(Engine(), told, BatchLimits(), thread)
    wide = rows(1).append_column("text", pa.array(["가" * 20_000]))
    assert doubles(run(batch(wide, LATER))) == [2]
    run(batch(rows(1), LATER))
    assert costing == [False, True]


def test_work_of_another_kind_takes_its_turn_alone(thread: Executor) -> None:
    async def scenario() -> None:
        first = await engine.hold(batch)
        before = await ask(batch, rows(1))
        other = asyncio.create_task(batch.alone(lambda: engine.batches.append([99]), 5, LATER))
        late = asyncio.create_task(batch.alone(lambda: engine.batches.append([98]), 5, time.time() - 1))
        broken = asyncio.create_task(batch.alone(lambda: 1 / 0, 5, LATER))
        await asyncio.sleep(0)
        after = await ask(batch, rows(2), rows(3))
        engine.free.set()
        await asyncio.gather(first, *before, other, *after)
        found = await late
        assert isinstance(found, BatchResult)
        assert found.refused == "late"
        with pytest.raises(ZeroDivisionError):
            await broken
        assert doubles(await batch(rows(4), LATER)) == [8]

    engine = Engine()
    batch = batcher(engine, thread)
    run(scenario())
    assert engine.batches == [[0], [1], [99], [2, 3], [4]]


def test_a_speed_that_was_measured_wrong_does_not_refuse_for_ever(thread: Executor) -> None:
    async def scenario() -> int:
        for tries in range(200):
            if not (await batch(rows(*range(10), cost=10), time.time() + 30)).refused:
                return tries
        return 200

    batch = batcher(Engine(), thread)
    batch.learn(1, 5.0)
    assert 0 < run(scenario()) < 100
    assert batch.seconds_per_token < 1
