"""The processes of the endpoint on Ray Serve: replicas of stages, and the gateway that calls them.

In: tables over handles. Out: Answers. A new bundle comes as `user_config`: a replica loads it beside the one in use and
changes over between two batches; requests under way end with the bundle they began with.
"""

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Awaitable
from typing import Any

import numpy as np

from ray_app.engine.own_thread import OwnThread
from ray_app.errors import UserError, first_line

ATTEMPTS = 5  # calls of a replica that dies on the way
INFO_SECONDS = 5.0
REFUSE_SECONDS = 0.1  # after a replica refused, without asking it: its queue is seconds deep
EXPLAINING = 8  # explanations that may wait in a replica
log = logging.getLogger("ray.serve")


class Replica:
    """Stages of the newest bundle, and of the one before while requests that began with it are under way."""

    def __init__(self, ways: dict[str, Any], keep_seconds: float) -> None:
        from ray_app.serving.replica_engine import ReplicaOptions

        self.ways, self.keep_seconds = ReplicaOptions(**ways), keep_seconds
        self.thread = OwnThread()
        self.engines: dict[str, Any] = {}  # by bundle id, the newest last
        self.gatherers: dict[str, Any] = {}
        self.explaining = self.changes = 0
        self.used: dict[str, int] = {}  # by bundle id, the change that made it the newest
        self.failed_update = ""

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Loads a bundle beside the one in use. One that cannot be loaded leaves that one in use."""
        from ray_app.serving.replica_engine import ReplicaEngine

        try:
            engine = await asyncio.to_thread(ReplicaEngine, user_config["bundle"], self.ways)
            await self._alone(engine.probe)
        except Exception as error:
            if not self.engines:
                raise
            self.failed_update = f"{user_config['bundle']}: {first_line(error)}"
            log.error("the bundle was not changed: %s", self.failed_update)
            return
        self.failed_update = ""
        self.changes += 1
        for old in [key for key in self.engines if key != engine.id]:
            asyncio.get_running_loop().call_later(self.keep_seconds, self._forget, old, self.changes)
        if engine.id not in self.engines:
            self.gatherers[engine.id] = engine.gatherer(self.thread.executor)
        self.engines[engine.id] = self.engines.pop(engine.id, engine)
        self.used[engine.id] = self.changes

    def _forget(self, key: str, change: int) -> None:
        """Unless it was in use again since: then a later change forgets it."""
        if key != self.newest and self.used.get(key, change) < change:
            self.engines.pop(key, None)
            self.gatherers.pop(key, None)
            self.used.pop(key, None)

    @property
    def newest(self) -> str:
        return next(reversed(self.engines))

    async def analyze(self, table: Any, deadline: float, bundle: str = "") -> tuple[Any, str]:
        """An Answer, and the id of the bundle it comes from: that of `bundle`, or the newest."""
        from ray_app.serving.batcher import BatchResult

        key = bundle or self.newest
        if key not in self.gatherers:
            return BatchResult(refused="moved"), ""
        return await self.gatherers[key](table, deadline), key

    async def explain(self, text: str) -> Any:
        from ray_app.serving.batcher import BatchResult

        if self.explaining >= EXPLAINING:
            return BatchResult(refused="overloaded", retry_after=1)
        self.explaining += 1
        try:
            return await self._alone(self.engines[self.newest].explain, text)
        except UserError:
            return BatchResult(refused="unable")
        finally:
            self.explaining -= 1

    async def _alone(self, work: Any, *arguments: Any) -> Any:
        """In the one thread that runs models."""
        return await self.thread.awaited(work, *arguments)

    async def check_health(self) -> None:
        """Serve replaces a replica that raises: one whose last batch failed and that cannot analyse a plain review."""
        newest = self.newest if self.engines else ""
        if newest and self.gatherers[newest].failing:
            await self._alone(self.engines[newest].probe)

    async def info(self) -> dict[str, Any]:
        info: dict[str, Any] = self.engines[self.newest].info()
        return {**info, "version": {**info["version"], "update": "failed" if self.failed_update else "done"}}


class SingleProcessReplica(Replica):
    """Gateway and stages in one process: no call from one to the other, and none that could be made again."""

    def __init__(self, ways: dict[str, Any], limits: dict[str, Any], token_hash: str, start: str) -> None:
        # Replicas of this start on a machine count together; it must be known before the counters' module is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.path.join(tempfile.gettempdir(), f"nunchi-metrics-{start}")
        from ray_app.serving.http_app import Limits

        self.limits, self.token_hash = Limits(**limits), token_hash
        super().__init__(ways, self.limits.deadline_seconds)

    def __serve_build_asgi_app__(self) -> Any:
        from ray_app.serving import http_app

        return http_app.build_app(InProcessService(self), self.limits, self.token_hash)


class InProcessService:
    """gateway.Service over a replica in the same process."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    async def analyze(self, table: Any, deadline: float) -> Any:
        answer = await _in_time(self.replica.analyze(table, deadline), deadline)
        return answer[0] if isinstance(answer, tuple) else answer

    async def explain(self, text: str, deadline: float) -> Any:
        return await _in_time(self.replica.explain(text), deadline)

    async def info(self) -> dict[str, Any]:
        return await self.replica.info()


class Gateway:
    """The HTTP side's process."""

    def __init__(self, pools: list[Any], limits: dict[str, Any], token_hash: str) -> None:
        from ray_app.serving.http_app import Limits

        self.pools, self.limits, self.token_hash = pools, Limits(**limits), token_hash

    def __serve_build_asgi_app__(self) -> Any:
        from ray_app.serving import http_app

        return http_app.build_app(HandleService(self.pools), self.limits, self.token_hash)


class HandleService:
    """gateway.Service over handles of deployments: the stages one after the other."""

    def __init__(self, pools: list[Any]) -> None:
        self.pools = pools
        self.refused: tuple[float, Any] = (0.0, None)  # when last, and how

    async def analyze(self, table: Any, deadline: float) -> Any:
        """Every stage sees the bundle the first one had: where a later one has not got it (yet, or any more), again."""
        from ray_app.serving.batcher import BatchResult

        at, refusal = self.refused
        if time.monotonic() - at < REFUSE_SECONDS:
            return refusal
        while time.time() < deadline:
            answer = await self._through(table, deadline)
            if answer.refused == "overloaded":
                self.refused = (time.monotonic(), answer)
            if answer.refused != "moved":
                return answer
            await asyncio.sleep(0.1)
        return BatchResult(refused="late")

    async def _through(self, table: Any, deadline: float) -> Any:
        from ray_app.serving.batcher import BatchResult

        rows, failed, bundle = np.arange(len(table)), np.zeros(0, int), ""
        stats: dict[str, float] = {}
        for pool in self.pools:
            found = await _call(pool.analyze, deadline, table, deadline, bundle)
            answer, bundle = found if isinstance(found, tuple) else (found, "")
            added = {name: stats.get(name, 0) + answer.stats.get(name, 0) for name in ("tokens", "waited_seconds")}
            stats |= answer.stats | added
            if answer.refused:
                return answer
            lost = np.asarray(answer.failed, int)
            failed, rows = np.concatenate([failed, rows[lost]]), np.delete(rows, lost)
            table = answer.table
            if table is None:
                break
        return BatchResult(table=table, failed=tuple(sorted(failed.tolist())), stats=stats)

    async def explain(self, text: str, deadline: float) -> Any:
        return await _call(self.pools[-1].explain, deadline, text)

    async def info(self) -> dict[str, Any]:
        from ray_app.serving.batcher import BatchResult

        found = await _call(self.pools[0].info, time.time() + INFO_SECONDS)
        if isinstance(found, BatchResult):
            raise TimeoutError
        answered: dict[str, Any] = found
        return answered


async def _in_time(answer: Awaitable[Any], deadline: float) -> Any:
    """What comes by the deadline (seconds since the epoch), or the Answer that it did not."""
    from ray_app.serving.batcher import BatchResult

    try:
        return await asyncio.wait_for(answer, max(0.0, deadline - time.time()))
    except TimeoutError:
        return BatchResult(refused="late")


async def _call(method: Any, deadline: float, *arguments: Any) -> Any:
    """A replica's answer, from another replica where one dies; what Serve itself refuses is an Answer too."""
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import BackPressureError

    from ray_app.serving.batcher import BatchResult

    for attempt in range(ATTEMPTS):
        try:
            return await _in_time(method.remote(*arguments), deadline)
        except BackPressureError:
            return BatchResult(refused="overloaded", retry_after=1)
        except RayActorError:
            await asyncio.sleep(0.1 * 2**attempt)
    return BatchResult(refused="overloaded", retry_after=2)
