"""Stopping a run without losing what it has begun: a file in the output that workers look for before each unit."""

import signal
import threading

from ray_app import storage


def stopped(out: str) -> bool:
    """True once a run was told to finish what it has begun."""
    return storage.exists(_uri(out))


def clear(out: str) -> None:
    """Forgets that an earlier run was stopped."""
    storage.remove(_uri(out))


class GracefulStop:
    """SIGINT and SIGTERM: the first lets what is in flight finish and be committed, the second interrupts at once."""

    def __init__(self, out: str) -> None:
        self.out, self.seen = out, 0

    def __enter__(self) -> "GracefulStop":
        here = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if here else ()
        self.before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: object) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = number
        print("finishing the units in flight; once more stops at once, and loses none of what is committed", flush=True)
        threading.Thread(target=self._stop, daemon=True).start()  # not here: the handler interrupts any other call

    def _stop(self) -> None:
        storage.write_bytes(_uri(self.out), b"")


def _uri(out: str) -> str:
    return storage.join(out, "_stop")
