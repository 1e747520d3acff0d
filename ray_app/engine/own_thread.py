"""One thread that owns a model.

OpenMP keeps a pool of threads for each thread that calls it, and Ray calls an actor from another thread than it
constructs it in: two pools on the same cores wait for each other, which costs a small encoder a third of its speed.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class OwnThread:
    """Runs one call after the other in a thread of its own."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1)

    def run(self, work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Waits for the result."""
        future: Future[R] = self.executor.submit(work, *arguments, **options)
        return future.result()

    async def awaited(self, work: Callable[..., R], *arguments: object) -> R:
        """The same for an event loop, which goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, work, *arguments)
