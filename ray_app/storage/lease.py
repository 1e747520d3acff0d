"""One driver per output: a numbered lease that its holder renews; the lease of a dead holder gives way to the next.

    OUT/_lease/000000.json    {"host", "space", "pid", "started", "beat", "released"}; the highest number holds

A number is created once, so of two drivers that want it one wins. Clocks of two machines are never compared: a lease is
dead when its beat does not change while we watch.
"""

import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypedDict

from ray_app import storage
from ray_app.errors import UserError, check

BEAT_SECONDS, WATCH_SECONDS = 5.0, 20.0


class LeaseContent(TypedDict, total=False):
    """Who holds a lease: host, process, and `space`, within which process numbers mean the same; see `_pid_space`."""

    host: str
    space: str
    pid: int
    started: str
    beat: int
    released: bool


class Lease:
    """Held from entering to leaving the block. Entering raises UserError where another run holds the output.

    Args:
        beat: seconds between renewals.
        watch: seconds without a renewal after which another machine's lease is dead.
    """

    def __init__(self, out: str, beat: float = BEAT_SECONDS, watch: float = WATCH_SECONDS) -> None:
        self.out, self.folder = out, storage.join(out, "_lease")
        self.every, self.watch = beat, watch
        self.number, self.beats = -1, 0
        self.over, self.lost = threading.Event(), False
        self.checked = -math.inf

    def __enter__(self) -> "Lease":
        last = self._last()
        if last >= 0:
            self._outlive(last)
        self.number = last + 1
        check(storage.create(self._uri(self.number), self._content()), f"{self.out}: another run took it just now")
        self._remove_before(self.number)
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        if not self.lost:
            with suppress(UserError):  # it dies with this process, and what went wrong inside says more than this
                storage.write_bytes(self._uri(self.number), self._content(released=True))

    def remove(self) -> None:
        """Ends it and removes its folder, for an output that keeps nothing else there; a later run's stays."""
        self.over.set()
        self.thread.join()
        self.lost = self.lost or self._last() != self.number
        if not self.lost:
            storage.remove(self.folder)
        self.lost = True  # so that leaving the block does not write it again

    def check(self) -> None:
        """Raises UserError where a later run took the output over, as it may after this one hung for long.

        Cheap enough to call for every unit: it reads storage once per beat.
        """
        if time.monotonic() - self.checked >= self.every:
            self.checked = time.monotonic()
            self.lost = self.lost or self._last() != self.number
        check(not self.lost, f"{self.out}: another run took it over; this one stops")

    def _last(self) -> int:
        """The highest number, -1 where there is none."""
        if not storage.exists(self.folder):
            return -1
        names = [file.uri.rsplit("/", 1)[-1] for file in storage.list_files(self.folder)]
        return max((int(name[:-5]) for name in names if name.endswith(".json")), default=-1)

    def _outlive(self, number: int) -> None:
        """Returns once lease `number` is released or dead; raises UserError where its holder is alive."""
        held = self._read(number)
        if held.get("released") or (held.get("space") == _pid_space() and not _alive(held)):
            return
        end = time.monotonic() + self.watch
        while time.monotonic() < end:
            time.sleep(min(1.0, self.watch / 4))
            now = self._read(number)
            if now.get("released"):
                return
            check(
                now.get("beat") == held.get("beat"),
                f"{self.out}: another run is writing there (process {now.get('pid')} on {now.get('host')}); wait for "
                "it, or stop it",
            )

    def _beat(self) -> None:
        while not self.over.wait(self.every):
            self.beats += 1
            try:
                self.lost = self._last() != self.number
                if self.lost:
                    return
                storage.write_bytes(self._uri(self.number), self._content())
            except UserError:  # storage that does not answer now may answer at the next beat
                continue

    def _content(self, released: bool = False) -> bytes:
        content: LeaseContent = {
            "host": socket.gethostname(),
            "space": _pid_space(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "beat": self.beats,
            "released": released,
        }
        return json.dumps(content).encode()

    def _read(self, number: int) -> LeaseContent:
        """A lease that was removed counts as released."""
        uri = self._uri(number)
        content: LeaseContent = storage.read_json(uri) if storage.exists(uri) else {"released": True}
        return content

    def _remove_before(self, number: int) -> None:
        for file in storage.list_files(self.folder):
            if file.uri.endswith(".json") and int(file.uri.rsplit("/", 1)[-1][:-5]) < number:
                storage.remove(file.uri)

    def _uri(self, number: int) -> str:
        return storage.join(self.folder, f"{number:06d}.json")


@contextmanager
def sole_trainer(output: str) -> Iterator[Lease]:
    """Holds the lease of `OUTPUT.training`, for what trains without a folder of its own, and removes it when the run is
    over; a killed run's gives way to the next.

    Raises UserError where another run holds it, or took the output over before the block ended.
    """
    with Lease(output.rstrip("/") + ".training") as lease:
        try:
            yield lease
            lease.check()
        finally:
            lease.remove()


def _pid_space() -> str:
    """Where process numbers mean the same: this machine since it booted and, in a container, the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _alive(held: LeaseContent) -> bool:
    """True where the holder's process, not a later one under its number, runs on this machine."""
    return bool(held.get("pid")) and _started(int(held["pid"])) == held.get("started")


def _started(pid: int) -> str:
    """When a process of this machine began, in the system's own unit; empty where there is no such process."""
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""
