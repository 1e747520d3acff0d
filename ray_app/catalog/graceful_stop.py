"""Stops a run without losing the units in flight: a file in the output that workers look for before each unit."""

import logging
import signal
import threading

from ray_app import storage

log = logging.getLogger(__name__)


def stopped(out: str) -> bool:
    """True once the run was told to finish the units in flight."""
    return storage.is_file(_uri(out))


def clear(out: str) -> None:
    """Removes the stop of an earlier run."""
    storage.remove_files([_uri(out)])


class GracefulStop:
    """Handles SIGINT and SIGTERM: the first lets units in flight finish and commit, the second interrupts at once.

    `signal` is the number of the first one that came, 0 while none has.
    """

    def __init__(self, out: str) -> None:
        self.out, self.signal = out, 0

    def __enter__(self) -> "GracefulStop":
        main = threading.current_thread() is threading.main_thread()  # the only one that may set handlers
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        self.before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: object) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        log.info("finishing the units in flight; a second signal stops at once and loses nothing that is committed")
        threading.Thread(target=self._stop, daemon=True).start()  # not here: a handler may interrupt a storage call

    def _stop(self) -> None:
        storage.write_bytes(_uri(self.out), b"")


def _uri(out: str) -> str:
    return storage.join(out, "_stop")
