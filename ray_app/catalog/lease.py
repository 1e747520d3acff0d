"""One driver an output: a numbered lease that its holder keeps beating; a dead holder's is followed by the next number.

    OUT/_lease/000000.json    {"host", "space", "pid", "started", "beat"}; the highest number holds

A number is created once, so of two that want it one wins. No clock of one machine is compared with another's: a lease
is dead when its beat does not change while we watch.
"""

import json
import math
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from ray_app import storage
from ray_app.errors import UserError, check

BEAT_SECONDS, WATCH_SECONDS = 5.0, 20.0


class Lease:
    """Held from entering to leaving the block. Raises UserError where another run holds the output."""

    def __init__(self, out: str, beat: float = BEAT_SECONDS, watch: float = WATCH_SECONDS) -> None:
        self.out, self.folder = out, storage.join(out, "_lease")
        self.every, self.watch = beat, watch
        self.number, self.beats = -1, 0
        self.over, self.lost = threading.Event(), False
        self.asked = -math.inf

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
            storage.write_bytes(self._uri(self.number), self._content(released=True))

    def check(self) -> None:
        """Raises UserError where a later run took the output over, as it may after a long standstill of this one. Cheap
        enough for every unit: storage is asked once a beat."""
        if time.monotonic() - self.asked >= self.every:
            self.asked = time.monotonic()
            self.lost = self.lost or self._last() != self.number
        check(not self.lost, f"{self.out}: another run took it over; this one stops")

    def _last(self) -> int:
        if not storage.exists(self.folder):
            return -1
        names = [file.uri.rsplit("/", 1)[-1] for file in storage.list_files(self.folder)]
        return max((int(name[:-5]) for name in names if name.endswith(".json")), default=-1)

    def _outlive(self, number: int) -> None:
        """Returns once that lease is released or dead; raises UserError where it lives."""
        held = self._read(number)
        if held.get("released") or (held.get("space") == _space() and not _alive(held)):
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
        who = {"host": socket.gethostname(), "space": _space(), "pid": os.getpid(), "started": _started(os.getpid())}
        return json.dumps({**who, "beat": self.beats, "released": released}).encode()

    def _read(self, number: int) -> dict[str, Any]:
        uri = self._uri(number)
        found: dict[str, Any] = storage.read_json(uri) if storage.exists(uri) else {"released": True}
        return found

    def _remove_before(self, number: int) -> None:
        for file in storage.list_files(self.folder):
            if file.uri.endswith(".json") and int(file.uri.rsplit("/", 1)[-1][:-5]) < number:
                storage.remove(file.uri)

    def _uri(self, number: int) -> str:
        return storage.join(self.folder, f"{number:06d}.json")


def _space() -> str:
    """Where process numbers mean the same: this machine since it booted and, in a container, the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _alive(held: dict[str, Any]) -> bool:
    """True where the holder's process, not a later one under its number, runs on this machine."""
    return bool(held.get("pid")) and _started(int(held["pid"])) == held.get("started")


def _started(pid: int) -> str:
    """When a process of this machine began, in whatever unit the system counts; empty where there is none."""
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""
