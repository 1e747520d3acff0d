"""One thread that owns a model.

OpenMP keeps a pool of threads per calling thread, and Ray calls an actor from another thread than the one that
constructed it: two pools on the same cores wait for each other, which costs a small encoder a third of its speed.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class OwnThread:
    """Runs calls one after the other, always in the same thread."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1)

    def run(self, work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Runs `work` in the thread and waits for its result."""
        future: Future[R] = self.executor.submit(work, *arguments, **options)
        return future.result()

    async def awaited(self, work: Callable[..., R], *arguments: object) -> R:
        """The same without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, work, *arguments)
