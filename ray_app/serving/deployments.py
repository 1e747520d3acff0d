"""The processes of the endpoint on Ray Serve: replicas that run stages, and the gateway that calls them.

In: tables, over handles. Out: BatchResults. A new bundle comes as `user_config`: a replica loads it beside the current
one and switches between two batches; requests under way finish with the bundle they began with.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ray_app.errors import check, closest, first_line
from ray_app.inference.own_thread import OwnThread
from ray_app.serving.batcher import BatchResult

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.serve.handle import DeploymentHandle
    from starlette.types import ASGIApp

    from ray_app.serving.batcher import DynamicBatcher
    from ray_app.serving.http_app import Limits
    from ray_app.serving.replica_engine import ReplicaEngine, ReplicaOptions

T = TypeVar("T")
ATTEMPTS = 5  # calls, while replicas die during them
INFO_SECONDS = 5.0
REFUSE_SECONDS = 0.1  # after a refusal, until a replica is asked again: its queue is seconds deep
USER_CONFIG = ("bundle", "thresholds")
log = logging.getLogger("ray.serve")  # Serve's own log: what a replica prints is not shown to the driver


class Replica:
    """Runs stages of the newest bundle, and of earlier ones for requests that began with them.

    Args:
        keep_seconds: how long a replaced bundle is kept for these requests.
    """

    def __init__(self, options: ReplicaOptions, keep_seconds: float) -> None:
        self.options, self.keep_seconds = options, keep_seconds
        self.thread = OwnThread()
        self.engines: dict[str, ReplicaEngine] = {}  # by bundle id, the newest last
        self.batchers: dict[str, DynamicBatcher] = {}
        self.changes = 0
        self.activated: dict[str, int] = {}  # by bundle id, the number of the change that made it the newest
        self.wanted = ""  # the bundle that was asked for last, as its name was written
        self.failed_update = ""

    async def reconfigure(self, user_config: Mapping[str, str]) -> None:
        """Loads `user_config["bundle"]`, with its `thresholds` in place of the options' where it names any, beside the
        current one, which stays in use if the new one cannot be loaded.

        Raises what loading raised where no bundle was loaded before.
        """
        from ray_app.serving.replica_engine import ReplicaEngine  # torch: the gateway does without

        self.wanted = str(user_config.get("bundle", ""))
        try:
            for name in user_config:
                check(name in USER_CONFIG, f"user_config: unknown {name!r}{closest(name, USER_CONFIG)}")
            check(self.wanted, "user_config: names no bundle")
            thresholds = user_config.get("thresholds", self.options.thresholds)
            engine = await asyncio.to_thread(ReplicaEngine, self.wanted, self.options, thresholds)
            await self.thread.awaited(engine.probe)
            speed = await self.thread.awaited(engine.measure)
        except Exception as error:
            if not self.engines:
                raise
            self.failed_update = f"{self.wanted}: {first_line(error)}"
            log.error("the bundle was not changed: %s", self.failed_update)
            return
        self.failed_update = ""
        self.changes += 1
        for old in [bundle_id for bundle_id in self.engines if bundle_id != engine.id]:
            asyncio.get_running_loop().call_later(self.keep_seconds, self.forget, old, self.changes)
        if engine.id not in self.engines:
            self.batchers[engine.id] = engine.batcher(self.thread.executor)
            self.batchers[engine.id].learn(*speed)
        self.engines[engine.id] = self.engines.pop(engine.id, engine)
        self.activated[engine.id] = self.changes

    def forget(self, bundle_id: str, change: int) -> None:
        """Drops the bundle that was replaced by `change`, unless it was in use again since: a later call drops it."""
        if bundle_id != self.newest and self.activated.get(bundle_id, change) < change:
            self.engines.pop(bundle_id, None)
            self.batchers.pop(bundle_id, None)
            self.activated.pop(bundle_id, None)

    @property
    def newest(self) -> str:
        """The id of the bundle that new requests get."""
        return next(reversed(self.engines))

    async def analyze(self, table: pa.Table, deadline: float, bundle_id: str = "") -> tuple[BatchResult, str]:
        """The result and the id of the bundle it is from: `bundle_id`, or the newest. `deadline`: epoch seconds."""
        bundle_id = bundle_id or self.newest
        if bundle_id not in self.batchers:
            return BatchResult(refused="moved"), ""
        return await self.batchers[bundle_id](table, deadline), bundle_id

    async def explain(self, text: str, deadline: float) -> Mapping[str, object] | BatchResult:
        """What `Occlusion.explain` returns, from the newest bundle; or a refusal.

        It takes its turns among the analyses, in steps of a batch's size.
        """
        engine = self.engines[self.newest]
        batcher, left = self.batchers[engine.id], engine.explain_cost(text)
        step = batcher.budget
        steps, unable = engine.explaining(text, step), BatchResult(refused="unable")
        found: Mapping[str, object] | BatchResult | None = None
        while found is None:
            found = await batcher.alone(lambda: next(steps, unable), min(left, step), deadline, left)
            left = max(1, left - step)
        return found

    async def check_health(self) -> None:
        """Called by Serve, which replaces a replica that raises: one that failed on a whole batch and on a probe."""
        newest = self.newest if self.engines else ""
        if newest and self.batchers[newest].failing:
            await self.thread.awaited(self.engines[newest].probe)

    async def info(self) -> dict[str, dict[str, object]]:
        """`version` and `taxonomy`, as their routes answer them. Where another bundle was asked for than the one in
        use, `update` says failed, `wanted` which."""
        info = self.engines[self.newest].info()
        update = "failed" if self.failed_update else "done"
        return {**info, "version": {**info["version"], "update": update, "wanted": self.wanted}}


class SingleProcessReplica(Replica):
    """Gateway and stages in one process: no calls between them, so none to repeat where a replica dies.

    Args:
        token_hash: `http_app.hashed(token)`; "" for open routes.
        start_id: of this start of the endpoint: its replicas on one machine count together.
        sockets: folder of this machine in which it listens, once its models are loaded; "" for Serve's proxy alone.
    """

    def __init__(
        self, options: ReplicaOptions, limits: Limits, token_hash: str, start_id: str, sockets: str = ""
    ) -> None:
        from ray_app.serving.prometheus import share_counters

        share_counters(os.path.join(tempfile.gettempdir(), f"nunchi-metrics-{start_id}"))
        from ray_app.serving import http_app

        super().__init__(options, limits.deadline_seconds)
        self.answering = http_app.build_app(InProcessService(self), limits, token_hash)
        self.sockets = sockets
        self.listening: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve, for what answers HTTP."""
        return self.answering

    async def reconfigure(self, user_config: Mapping[str, str]) -> None:
        """Loads the bundle, then listens."""
        from ray_app.serving.door.upstreams import listen

        await super().reconfigure(user_config)
        if self.sockets and self.listening is None:
            self.listening = await listen(self.answering, self.sockets)


class InProcessService:
    """`http_app.Service` over a replica in the same process."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    async def analyze(self, table: pa.Table, deadline: float) -> BatchResult:
        """See `http_app.Service`."""
        answer = await _in_time(self.replica.analyze(table, deadline), deadline)
        return answer if isinstance(answer, BatchResult) else answer[0]

    async def explain(self, text: str, deadline: float) -> Mapping[str, object] | BatchResult:
        """See `http_app.Service`."""
        return await _in_time(self.replica.explain(text, deadline), deadline)

    async def info(self) -> dict[str, dict[str, object]]:
        """See `http_app.Service`."""
        return await self.replica.info()


class Gateway:
    """The process that answers HTTP, in front of the deployments of the stages."""

    def __init__(self, stages: list[DeploymentHandle], limits: Limits, token_hash: str) -> None:
        self.stages, self.limits, self.token_hash = stages, limits, token_hash

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve, for what answers HTTP."""
        from ray_app.serving import http_app

        return http_app.build_app(HandleService(self.stages), self.limits, self.token_hash)


class HandleService:
    """`http_app.Service` over handles of deployments, called one after the other."""

    def __init__(
        self,
        stages: list[DeploymentHandle],
        refuse_seconds: float = REFUSE_SECONDS,
        info_seconds: float = INFO_SECONDS,
    ) -> None:
        self.stages, self.refuse_seconds, self.info_seconds = stages, refuse_seconds, info_seconds
        self.refused_at, self.refusal = 0.0, BatchResult()  # the latest "overloaded"

    async def analyze(self, table: pa.Table, deadline: float) -> BatchResult:
        """See `http_app.Service`. All stages use the bundle of the first one; where a later one lacks it, all are tried
        again."""
        if time.monotonic() - self.refused_at < self.refuse_seconds:
            return self.refusal
        while time.time() < deadline:
            result = await self._through_stages(table, deadline)
            if result.refused == "overloaded":
                self.refused_at, self.refusal = time.monotonic(), result
            if result.refused != "moved":
                return result
            await asyncio.sleep(0.1)
        return BatchResult(refused="late")

    async def _through_stages(self, table: pa.Table, deadline: float) -> BatchResult:
        """The result of the last stage, `failed` by the rows' positions in `table`; or the first refusal."""
        rows, failed, bundle_id = np.arange(len(table)), np.zeros(0, int), ""
        stats: dict[str, float] = {}
        for stage in self.stages:
            answer: tuple[BatchResult, str] | BatchResult
            answer = await _call(stage.analyze, deadline, table, deadline, bundle_id)
            result, bundle_id = (answer, "") if isinstance(answer, BatchResult) else answer
            sums = {name: stats.get(name, 0) + result.stats.get(name, 0) for name in ("tokens", "waited_seconds")}
            stats |= result.stats | sums
            if result.refused:
                return result
            lost = np.asarray(result.failed, int)
            failed, rows = np.concatenate([failed, rows[lost]]), np.delete(rows, lost)
            table = result.table
            if table is None:
                break
        return BatchResult(table=table, failed=tuple(sorted(failed.tolist())), stats=stats)

    async def explain(self, text: str, deadline: float) -> Mapping[str, object] | BatchResult:
        """See `http_app.Service`."""
        explanation: Mapping[str, object] | BatchResult = await _call(self.stages[-1].explain, deadline, text, deadline)
        return explanation

    async def info(self) -> dict[str, dict[str, object]]:
        """See `http_app.Service`: what the first stage uses, which the others follow; the update failed if it did so in
        any of them. Raises TimeoutError where one does not answer in time."""
        deadline = time.time() + self.info_seconds
        infos: list[dict[str, dict[str, object]] | BatchResult]
        infos = await asyncio.gather(*(_call(stage.info, deadline) for stage in self.stages))
        answered = [info for info in infos if not isinstance(info, BatchResult)]
        if len(answered) < len(infos):
            raise TimeoutError
        failed = [info for info in answered if info["version"]["update"] == "failed"]
        told = {name: (failed or answered)[0]["version"][name] for name in ("update", "wanted")}
        return {**answered[0], "version": {**answered[0]["version"], **told}}


async def _in_time(result: Awaitable[T], deadline: float) -> T | BatchResult:
    """The result, or a BatchResult refused as late if it is not there by the deadline (epoch seconds)."""
    try:
        return await asyncio.wait_for(result, max(0.0, deadline - time.time()))
    except TimeoutError:
        return BatchResult(refused="late")


async def _call(method: DeploymentHandle, deadline: float, *arguments: object) -> Any:
    """What a replica's method returns, called on another replica if one dies; a BatchResult where Serve refuses.

    The result is Any: handles have no types.
    """
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import BackPressureError

    for attempt in range(ATTEMPTS):
        try:
            return await _in_time(method.remote(*arguments), deadline)
        except BackPressureError:
            return BatchResult(refused="overloaded", retry_after=1)
        except RayActorError:
            await asyncio.sleep(0.1 * 2**attempt)
    return BatchResult(refused="overloaded", retry_after=2)
