"""A replica's bundles, and the gateway's calls of the stages, without Ray."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_app.errors import UserError
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.bundle import load
from ray_app.serving import protocol
from ray_app.serving.batcher import BatchResult
from ray_app.serving.deployments import HandleService, InProcessService, Replica
from ray_app.serving.protocol import AnalyzeRequest
from ray_app.serving.replica_engine import ReplicaOptions, stage_groups
from tests.support.bundles import make_bundle, sample_texts

TEXTS = sample_texts(12)
FUSED = stage_groups("exact", fused=True)[0]


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("other") / "bundle"
    make_bundle(folder, kind="roberta", pooling="mean")
    return str(folder)


def replica(stages: tuple[str, ...] = FUSED, keep_seconds: float = 60.0) -> Replica:
    options = ReplicaOptions(stages=stages, last="highlights" in stages, device="cpu", threads=1)
    return Replica(options, keep_seconds)


def rows(texts: list[str]) -> pa.Table:
    return protocol.parse_request(AnalyzeRequest(reviews=list(texts))).table


def findings(answer: BatchResult) -> list[Any]:
    assert answer.table is not None
    return [row["findings"] for row in answer.table.to_pylist()]


def in_process(bundle: str) -> list[Any]:
    return [row["findings"] for row in Analyzer(bundle, threads=1)(TEXTS)]


def soon() -> float:
    return time.time() + 60


def test_a_new_bundle_answers_new_requests_and_the_old_one_those_that_began_with_it(
    bundle_folder: str, other_bundle: str
) -> None:
    async def work() -> None:
        served = replica()
        await served.reconfigure({"bundle": bundle_folder})
        first, old = await served.analyze(rows(TEXTS), soon())
        await served.reconfigure({"bundle": other_bundle})
        second, new = await served.analyze(rows(TEXTS), soon())
        again, same = await served.analyze(rows(TEXTS), soon(), old)
        assert (findings(first), findings(second)) == (in_process(bundle_folder), in_process(other_bundle))
        assert (findings(again), same) == (findings(first), old)
        assert new == (await served.info())["version"]["bundle"] != old

    asyncio.run(work())


def test_an_old_bundle_is_forgotten_when_no_request_can_need_it(bundle_folder: str, other_bundle: str) -> None:
    async def work() -> None:
        served = replica(keep_seconds=0.0)
        await served.reconfigure({"bundle": bundle_folder})
        old = served.newest
        await served.reconfigure({"bundle": other_bundle})
        await asyncio.sleep(0.05)
        assert list(served.engines) == list(served.batchers) == [served.newest] != [old]
        assert (await served.analyze(rows(TEXTS), soon(), old))[0].refused == "moved"

    asyncio.run(work())


def test_going_back_to_a_bundle_keeps_it(bundle_folder: str, other_bundle: str) -> None:
    async def work() -> None:
        served = replica(keep_seconds=0.05)
        for bundle in (bundle_folder, other_bundle, bundle_folder):
            await served.reconfigure({"bundle": bundle})
        await asyncio.sleep(0.2)
        assert list(served.engines) == [Analyzer(bundle_folder, threads=1).runtime.bundle.id]
        assert findings((await served.analyze(rows(TEXTS), soon()))[0]) == in_process(bundle_folder)

    asyncio.run(work())


def test_a_bundle_that_cannot_be_loaded_leaves_the_old_one_in_use(bundle_folder: str, tmp_path: Path) -> None:
    async def work() -> None:
        served = replica()
        with pytest.raises(UserError, match="no bundle"):
            await served.reconfigure({"bundle": str(tmp_path)})
        await served.reconfigure({"bundle": bundle_folder})
        await served.reconfigure({"bundle": str(tmp_path)})
        version = (await served.info())["version"]
        assert (version["update"], version["wanted"]) == ("failed", str(tmp_path))
        assert findings((await served.analyze(rows(TEXTS), soon()))[0]) == in_process(bundle_folder)
        await served.reconfigure({"bundle": bundle_folder})
        assert (await served.info())["version"]["update"] == "done"

    asyncio.run(work())


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ({"bundel": "x"}, "unknown 'bundel'; did you mean 'bundle'"),
        ({"thresholds": "{}"}, "names no bundle"),
        ({}, "names no bundle"),
    ],
)
def test_a_user_config_that_says_nothing_clear_leaves_the_old_bundle_in_use(
    bundle_folder: str, written: dict[str, str], line: str
) -> None:
    async def work() -> None:
        served = replica()
        with pytest.raises(UserError, match=line):
            await served.reconfigure(written)
        await served.reconfigure({"bundle": bundle_folder})
        await served.reconfigure(written)
        assert line in served.failed_update
        assert (await served.info())["version"]["update"] == "failed"

    asyncio.run(work())


def test_thresholds_of_the_options_hold_where_the_user_config_names_none(bundle_folder: str) -> None:
    """A file that names a bundle of its own replaces all that `app` said of it."""

    async def work() -> None:
        served = replica()
        served.options = replace(served.options, thresholds='{"만족도": 1}')
        await served.reconfigure({"bundle": bundle_folder})
        assert max((await served.info())["version"]["thresholds"]) == 1  # type: ignore[call-overload]

    asyncio.run(work())


class Handle:
    """A deployment's handle: `handle.method.remote(…)`."""

    def __init__(self, served: Any) -> None:
        self.served = served

    def __getattr__(self, name: str) -> Any:
        handle = self

        class Method:
            def remote(self, *arguments: Any) -> Any:
                return getattr(handle.served, name)(*arguments)

        return Method()


@pytest.fixture
def pools(bundle_folder: str) -> list[Replica]:
    made = [replica(names) for names in stage_groups("exact", fused=False)]
    asyncio.run(_load(made, bundle_folder))
    return made


async def _load(served: list[Replica], bundle: str) -> None:
    for one in served:
        await one.reconfigure({"bundle": bundle})


def test_stages_apart_answer_as_in_process(pools: list[Replica], bundle_folder: str) -> None:
    answer = asyncio.run(HandleService([Handle(pool) for pool in pools]).analyze(rows(TEXTS), soon()))
    assert findings(answer) == in_process(bundle_folder)
    assert answer.failed == ()


def test_stages_wait_for_one_another_until_all_have_the_new_bundle(pools: list[Replica], other_bundle: str) -> None:
    async def work() -> BatchResult:
        await pools[0].reconfigure({"bundle": other_bundle})
        asking = asyncio.create_task(HandleService([Handle(pool) for pool in pools]).analyze(rows(TEXTS), soon()))
        await asyncio.sleep(0.2)
        assert not asking.done()
        await _load(pools[1:], other_bundle)
        answer: BatchResult = await asking
        return answer

    assert findings(asyncio.run(work())) == in_process(other_bundle)


class Losing:
    """A stage that loses the rows with these texts."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    async def analyze(self, table: pa.Table, deadline: float, bundle: str) -> tuple[BatchResult, str]:
        lost = [i for i, text in enumerate(table["text"].to_pylist()) if text in self.texts]
        kept = [i for i in range(len(table)) if i not in lost]
        return BatchResult(table=table.take(pa.array(kept, pa.int64())) if kept else None, failed=tuple(lost)), "b"


def test_rows_that_stages_lose_are_named_by_their_place_in_the_request() -> None:
    stages = [Handle(Losing("나", "바")), Handle(Losing("가")), Handle(Losing("마"))]
    answer = asyncio.run(HandleService(stages).analyze(rows(["가", "나", "다", "라", "마", "바"]), soon()))
    assert answer.failed == (0, 1, 4, 5)
    assert answer.table is not None
    assert answer.table["text"].to_pylist() == ["다", "라"]


def test_where_every_row_is_lost_no_later_stage_is_asked() -> None:
    answer = asyncio.run(HandleService([Handle(Losing("가")), Handle(None)]).analyze(rows(["가"]), soon()))
    assert (answer.table, answer.failed) == (None, (0,))


class Slow:
    async def analyze(self, *_: Any) -> Any:
        await asyncio.sleep(60)


def test_a_stage_that_does_not_answer_in_time_is_late() -> None:
    assert asyncio.run(HandleService([Handle(Slow())]).analyze(rows(["가"]), time.time() + 0.05)).refused == "late"


def test_explanations_cost_wait_and_are_refused_as_analyses_are(bundle_folder: str) -> None:
    async def work() -> list[Any]:
        served = replica()
        await served.reconfigure({"bundle": bundle_folder})
        batch = served.batchers[served.newest]
        found: list[Any] = [await served.explain(TEXTS[0], soon())]
        batch.learn(1, 1.0)
        tokens = served.engines[served.newest].explain_cost(TEXTS[0])
        found += [await served.explain(TEXTS[0], time.time() + tokens / 2)]
        batch.limits = replace(batch.limits, queue_seconds=1.5 * tokens)
        waiting = [asyncio.create_task(served.explain(TEXTS[0], time.time() + 9 * tokens)) for _ in range(6)]
        return [*found, *await asyncio.gather(*waiting)]

    found = asyncio.run(work())
    assert found[0] == Analyzer(bundle_folder, threads=1).explain(TEXTS[0])
    assert (found[1].refused, found[1].share) == ("large", pytest.approx(0.5, abs=0.01))
    refused = [one for one in found[2:] if isinstance(one, BatchResult)]
    assert {one.refused for one in refused} == {"overloaded"}
    assert 0 < len(refused) < 6


def test_a_bundle_that_cannot_mask_explains_nothing(tmp_path: Path) -> None:
    async def work() -> Any:
        make_bundle(tmp_path, mask_token=False)
        options = ReplicaOptions(stages=("keywords", "scores"), last=True, highlights="off", device="cpu", threads=1)
        served = Replica(options, 1.0)
        await served.reconfigure({"bundle": str(tmp_path)})
        return await served.explain(TEXTS[0], soon())

    assert asyncio.run(work()).refused == "unable"


def test_a_replica_that_cannot_analyze_any_more_fails_its_health_check(bundle_folder: str) -> None:
    async def work() -> None:
        served = replica()
        await served.reconfigure({"bundle": bundle_folder})
        await served.analyze(rows(TEXTS), soon())
        await served.check_health()
        served.engines[served.newest].stages[0] = _broken
        assert (await served.analyze(rows(TEXTS), soon()))[0].failed == tuple(range(len(TEXTS)))
        with pytest.raises(RuntimeError, match="out of order"):
            await served.check_health()

    asyncio.run(work())


def _broken(table: pa.Table) -> pa.Table:
    raise RuntimeError("out of order")


def test_a_review_that_fails_alone_leaves_the_replica_healthy(bundle_folder: str) -> None:
    async def work() -> None:
        served = replica()
        await served.reconfigure({"bundle": bundle_folder})
        engine = served.engines[served.newest]
        stage = engine.stages[0]
        engine.stages[0] = lambda table: _broken(table) if "독" in table["text"].to_pylist() else stage(table)
        assert (await served.analyze(rows(["독"]), soon()))[0].failed == (0,)
        await served.check_health()

    asyncio.run(work())


def test_a_bundle_that_is_in_use_again_is_not_forgotten_too_early(bundle_folder: str, other_bundle: str) -> None:
    async def work() -> None:
        served = replica(keep_seconds=0.6)
        for bundle in (bundle_folder, other_bundle, bundle_folder):
            await served.reconfigure({"bundle": bundle})
        first, change = served.newest, served.changes
        await served.reconfigure({"bundle": other_bundle})
        served.forget(first, change - 1)  # the timer of the first change to the other bundle
        assert first in served.engines
        served.forget(first, served.changes)
        assert first not in served.engines

    asyncio.run(work())


def test_tokens_and_waits_of_stages_apart_add_up(pools: list[Replica]) -> None:
    answer = asyncio.run(HandleService([Handle(pool) for pool in pools]).analyze(rows(TEXTS), soon()))
    alone = asyncio.run(HandleService([Handle(pools[0])]).analyze(rows(TEXTS), soon()))
    assert answer.stats["tokens"] > 2 * alone.stats["tokens"]


class Full:
    def __init__(self) -> None:
        self.asked = 0

    async def analyze(self, *_: Any) -> tuple[BatchResult, str]:
        self.asked += 1
        return BatchResult(refused="overloaded", retry_after=3), "b"


def test_a_replica_that_refuses_is_not_asked_again_at_once() -> None:
    async def work(behind: HandleService) -> list[BatchResult]:
        return [await behind.analyze(rows(["가"]), soon()) for _ in range(5)]

    full = Full()
    answers = asyncio.run(work(HandleService([Handle(full)])))
    assert {(answer.refused, answer.retry_after) for answer in answers} == {("overloaded", 3)}
    assert full.asked == 1
    asyncio.run(work(HandleService([Handle(full)], refuse_seconds=0.0)))
    assert full.asked == 6


class Gone:
    async def info(self) -> Any:
        from ray.exceptions import RayActorError

        raise RayActorError


def test_an_update_that_failed_in_any_stage_is_told(pools: list[Replica], tmp_path: Path) -> None:
    async def work() -> dict[str, Any]:
        await pools[-1].reconfigure({"bundle": str(tmp_path)})
        return (await HandleService([Handle(pool) for pool in pools]).info())["version"]

    version = asyncio.run(work())
    assert (version["bundle"], version["update"], version["wanted"]) == (pools[0].newest, "failed", str(tmp_path))


def test_a_replica_that_is_gone_is_not_ready() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(HandleService([Handle(Gone())], info_seconds=0.2).info())


def test_a_replica_that_answers_http_itself_gives_up_at_the_deadline_too() -> None:
    within = InProcessService(Slow())  # type: ignore[arg-type]
    assert asyncio.run(within.analyze(rows(["가"]), time.time() + 0.05)).refused == "late"


def test_thresholds_come_with_the_bundle_and_change_without_a_restart(bundle_folder: str) -> None:
    async def work() -> None:
        served = replica()
        await served.reconfigure({"bundle": bundle_folder})
        own, _ = await served.analyze(rows(TEXTS), soon())
        await served.reconfigure({"bundle": bundle_folder, "thresholds": '{"만족도": 1}'})
        moved, _ = await served.analyze(rows(TEXTS), soon())
        kept = [[one for one in found if one["keyword"] != "만족도"] for found in in_process(bundle_folder)]
        assert findings(moved) == kept != findings(own)
        version = (await served.info())["version"]
        thresholds: Any = version["thresholds"]
        assert max(thresholds) == 1
        assert version["bundle"] == load(bundle_folder).id
        await served.reconfigure({"bundle": bundle_folder, "thresholds": '{"nothing": 0}'})
        assert "unknown keyword" in served.failed_update
        assert findings((await served.analyze(rows(TEXTS), soon()))[0]) == findings(moved)

    asyncio.run(work())
