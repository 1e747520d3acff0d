"""Threads that own a model, or share one.

OpenMP keeps a pool of threads per calling thread, and Ray calls an actor from another thread than the one that
constructed it: two pools on the same cores wait for each other, which costs a small encoder a third of its speed.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


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


class Pool(Generic[T]):
    """Things of which each is held by one caller at a time; callers wait for one to be free."""

    def __init__(self, things: Sequence[T]) -> None:
        self.size, self.free = len(things), SimpleQueue[T]()
        self.gathering = threading.Lock()  # two callers that each gathered half would wait for each other forever
        for thing in things:
            self.free.put(thing)

    @contextmanager
    def held(self, alone: bool = False) -> Iterator[T]:
        """One of them; with `alone` no other caller holds any at the same time."""
        held: list[T] = []
        try:
            if alone:
                with self.gathering:
                    held += [self.free.get() for _ in range(self.size)]
            else:
                held.append(self.free.get())
            yield held[0]
        finally:
            for thing in held:
                self.free.put(thing)
