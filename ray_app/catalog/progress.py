"""Counts what was committed, by this run and those it resumes, and logs how the run gets on.

In: the record of every committed unit. Out: lines for the log, and the figures of `_run.json`.
"""

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

from ray_app.catalog.commit import CommitRecord
from ray_app.catalog.output import reject_reasons
from ray_app.catalog.output.reject_reasons import Reason
from ray_app.catalog.pipeline import COMPUTED
from ray_app.engine.flops import WorkCounters, summary
from ray_app.progress import Pace

log = logging.getLogger(__name__)
TERMINAL_SECONDS = 2.0  # between progress lines where somebody watches


class RowCounts(TypedDict):
    """Rows of committed units: all, analyzed, rejected; and the findings in them."""

    rows_in: int
    analysed: int
    rejected: int
    findings: int


class RunFigures(RowCounts):
    """What `_run.json` says of a run: counts are the output's, speeds this run's; see `Progress.summary`."""

    rows_of_this_run: int
    seconds: float
    rows_per_second: float
    seconds_to_first_unit: float
    steady_rows_per_second: float
    peak_worker_mb: int
    unreadable: dict[str, str]
    reasons: dict[str, Reason]
    repaired: dict[str, int]
    shortened: dict[str, str]
    repeated_ids: int
    engine: dict[str, float]
    computed_on: dict[str, int]


class Progress:
    """Counts committed rows of this run and earlier ones, and logs progress.

    Args:
        total: rows of the plan.
        every: seconds between progress lines where stderr is no terminal.
    """

    def __init__(self, total: int, every: float) -> None:
        self.work, self.peak_mb = WorkCounters(), 0.0
        self.total = total
        self.pace = Pace(TERMINAL_SECONDS if sys.stderr.isatty() else every)
        self.counts: RowCounts = {"rows_in": 0, "analysed": 0, "rejected": 0, "findings": 0}
        self.unreadable: dict[str, str] = {}  # file -> reason
        self.reasons: dict[str, Reason] = {}
        self.repaired: Counter[str] = Counter()
        self.shortened: dict[str, str] = {}
        self.rows_before = 0  # committed by earlier runs
        self.last_commit = time.monotonic()
        self.first_seconds, self.first_rows = 0.0, 0  # when this run's first unit came, and its rows

    def recall(self, record: CommitRecord) -> None:
        """Counts a unit that an earlier run committed; this run's clock starts anew."""
        self._count(record)
        self.rows_before = self.counts["rows_in"]
        self.pace = Pace(self.pace.every)

    def add(self, record: CommitRecord) -> None:
        """Counts a unit that this run committed; logs a line when one is due."""
        self._count(record)
        self.last_commit = time.monotonic()
        if not self.first_seconds:
            self.first_seconds, self.first_rows = self.pace.seconds, self.rows
        if self.pace.due():
            self._log_line()

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Within the block, logs a line when nothing was committed for a while, as when a cluster has yet to grow."""
        over = threading.Event()
        self.last_commit = time.monotonic()

        def beat() -> None:
            while not over.wait(self.pace.every):
                silent = time.monotonic() - self.last_commit
                if silent >= self.pace.every:
                    rows = f"{self.counts['rows_in']:,}/{self.total:,} rows"
                    log.info("%s; no unit was committed for %.0f s", rows, silent)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()

    @property
    def rows(self) -> int:
        """Rows that this run committed."""
        return self.counts["rows_in"] - self.rows_before

    @property
    def rows_left(self) -> int:
        """Rows of the plan that no run has committed."""
        return self.total - self.counts["rows_in"]

    def summary(self, repeated_ids: int = 0) -> RunFigures:
        """The figures so far. The steady speed leaves out this run's first unit, which waits for models to load."""
        seconds = self.pace.seconds
        first = self.first_seconds
        steady = (self.rows - self.first_rows) / max(1e-9, seconds - first) if first else 0.0
        return {
            **self.counts,
            "rows_of_this_run": self.rows,
            "seconds": round(seconds, 1),
            "rows_per_second": round(self.rows / seconds, 1),
            "seconds_to_first_unit": round(first, 1),
            "steady_rows_per_second": round(steady, 1),
            "peak_worker_mb": round(self.peak_mb),
            "unreadable": self.unreadable,
            "reasons": self.reasons,
            "repaired": dict(self.repaired),
            "shortened": self.shortened,
            "repeated_ids": repeated_ids,
            "engine": summary(self.work),
            "computed_on": {
                name.removeprefix(COMPUTED): int(units)
                for name, units in sorted(self.work.items())
                if name.startswith(COMPUTED)
            },
        }

    def _log_line(self) -> None:
        speed = self.rows / self.pace.seconds
        log.info(
            "%s/%s rows, %.0f rows/s, %.0f s left, %s rejected",
            f"{self.counts['rows_in']:,}",
            f"{self.total:,}",
            speed,
            self.rows_left / max(1e-9, speed),
            f"{self.counts['rejected']:,}",
        )

    def _count(self, record: CommitRecord) -> None:
        self.counts["rows_in"] += record["rows_in"]
        self.counts["analysed"] += record["analysed"]
        self.counts["rejected"] += record["rejected"]
        self.counts["findings"] += record["findings"]
        unreadable = record.get("unreadable", {})
        self.unreadable |= {record["file"]: unreadable} if isinstance(unreadable, str) else unreadable
        reject_reasons.merge(self.reasons, record.get("reasons", {}))
        self.repaired.update(record.get("repaired", {}))
        self.shortened |= record.get("shortened", {})
        work = dict(record["work"])
        self.peak_mb = max(self.peak_mb, work.pop("peak_mb", 0.0))
        self.work.add(**work)
