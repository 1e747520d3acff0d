"""Counts of what was committed, by this run and those it resumes, and the progress lines that show them."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray_app.engine.flops import WorkCounters, summary


class Progress:
    """Counts what was committed, by this run and by those it goes on from, and says how it goes."""

    def __init__(self, total: int, every: float) -> None:
        self.work, self.peak_mb = WorkCounters(), 0.0
        self.total, self.every = total, 2.0 if sys.stderr.isatty() else every
        self.counts = {"rows_in": 0, "analysed": 0, "rejected": 0, "findings": 0}
        self.unreadable: dict[str, str] = {}
        self.before = 0
        self.began = self.told = self.heard = time.monotonic()
        self.first = 0.0

    def recall(self, record: dict[str, Any]) -> None:
        """A unit that was committed before this run."""
        self._count(record)
        self.before = self.counts["rows_in"]
        self.began = self.told = time.monotonic()

    def add(self, record: dict[str, Any]) -> None:
        self._count(record)
        self.heard = now = time.monotonic()
        if not self.first:
            self.first, self.first_rows = now - self.began, self.rows
        if now - self.told >= self.every:
            self._tell(now)

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Says how it goes where no unit was committed for a while, as when a cluster has yet to grow."""
        over = threading.Event()
        self.heard = time.monotonic()

        def beat() -> None:
            while not over.wait(self.every):
                silent = time.monotonic() - self.heard
                if silent >= self.every:
                    counts = f"{self.counts['rows_in']:,}/{self.total:,} rows"
                    print(f"{counts}; no unit was committed for {silent:.0f} s", flush=True)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()

    @property
    def rows(self) -> int:
        """Rows that this run committed."""
        return self.counts["rows_in"] - self.before

    def summary(self) -> dict[str, Any]:
        """Counts are the output's, speeds this run's."""
        seconds = time.monotonic() - self.began
        steady = (self.rows - self.first_rows) / max(1e-9, seconds - self.first) if self.first else 0.0
        return {
            **self.counts,
            "rows_of_this_run": self.rows,
            "seconds": round(seconds, 1),
            "rows_per_second": round(self.rows / seconds, 1),
            "seconds_to_first_unit": round(self.first, 1),
            "steady_rows_per_second": round(steady, 1),
            "peak_worker_mb": round(self.peak_mb),
            "unreadable": self.unreadable,
            "engine": summary(self.work),
        }

    def _tell(self, now: float) -> None:
        self.told = now
        speed = self.rows / (now - self.began)
        left = (self.total - self.counts["rows_in"]) / max(1e-9, speed)
        print(
            f"{self.counts['rows_in']:,}/{self.total:,} rows, {speed:.0f} rows/s, {left:.0f} s left, "
            f"{self.counts['rejected']:,} rejected",
            flush=True,
        )

    def _count(self, record: dict[str, Any]) -> None:
        for key in self.counts:
            self.counts[key] += record[key]
        if "unreadable" in record:
            self.unreadable[record["file"]] = record["unreadable"]
        work = dict(record["work"])
        self.peak_mb = max(self.peak_mb, work.pop("peak_mb", 0.0))
        self.work.add(**work)
