"""A training's config, its epochs and what came of it, in a tracker: wandb, mlflow, trackio or tensorboard.

In: the options and `metrics.jsonl`, as rank 0 writes it, wherever that runs. Out: one run in the tracker, from the
process that started the training: only it sees the training from its beginning to the bundle's id, also where a worker
dies and starts again. A thread of its own, so that a tracker that is slow or hangs does not hold up the training; one
that fails is told once, and the training goes on without it. Without credentials everything stays on this machine.
"""

import json
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray_app import storage
from ray_app.errors import UserError, first_line, no_package
from ray_app.training.tracking import trackers

if TYPE_CHECKING:
    from ray_app.training.loop import EpochRow
    from ray_app.training.tracking.trackers import TrackedRun

SECONDS = 2.0  # between two looks at metrics.jsonl
PATIENCE = 120.0  # seconds that a training waits for its tracker at the end; mlflow makes a new database in a minute
SECRET = re.compile(r"//[^/@\s]+@")  # in a server's address
log = logging.getLogger(__name__)


def check_tracker(tracker: str) -> None:
    """Raises UserError where the tracker's package is not installed: called before a training claims its folder."""
    if tracker != "off":
        try:
            trackers.check_installed(tracker)
        except ModuleNotFoundError as error:
            raise UserError(f"--track {tracker}: {no_package(error)}") from None


@contextmanager
def tracked(tracker: str, output: str, folder: str, options: Mapping[str, object]) -> Iterator["Tracking"]:
    """Tracks the training within the block in one of TRACKERS; leaving by an error marks the run as failed.

    Args:
        output, folder: the bundle that is made, and the training's folder, with its metrics.jsonl.
        options: what the training was told.

    Raises UserError where the tracker's package is not installed.
    """
    check_tracker(tracker)
    tracking = Tracking(tracker, output, folder, options)
    try:
        yield tracking
    except BaseException as error:
        tracking.end(first_line(error))
        raise
    tracking.end()


class Tracking:
    """Follows `metrics.jsonl` of a training folder into a tracker until `end`."""

    def __init__(self, tracker: str, output: str, folder: str, options: Mapping[str, object]) -> None:
        self.tracker, self.output, self.folder, self.options = tracker, output, folder, options
        self.report: dict[str, object] = {}
        self.failed, self.shown = False, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        if tracker != "off":
            self.thread.start()

    def note(self, bundle: str, best: Mapping[str, "EpochRow"], seconds: float) -> None:
        """The final report: the bundle's id, each model's best epoch, and how long all took."""
        figures = {f"best/{model}/{name}": value for model, row in best.items() for name, value in row.items()}
        numbers = {name: value for name, value in figures.items() if isinstance(value, float)}
        self.report = {"bundle": bundle, "output": self.output, "seconds": seconds, **numbers}

    def end(self, error: str = "") -> None:
        """Ends the run in the tracker with its final report, or as failed, with what went wrong."""
        self.failed = bool(error)
        if error:
            self.report["error"] = error
        self.over.set()
        if self.thread.ident is not None:
            self.thread.join(PATIENCE)
            if self.thread.is_alive():
                log.warning("--track %s: no end after %.0f s; going on without it", self.tracker, PATIENCE)

    def _follow(self) -> None:
        try:
            run = trackers.begin(self.tracker, self.output, self.options, self.folder)
            last = False
            while not last:
                last = self.over.wait(SECONDS)
                self._show(run)
            run.finish(self.report, self.failed)
        except (Exception, SystemExit) as error:  # a tracker's own, of any kind
            reason = SECRET.sub("//…@", f"{type(error).__name__}: {first_line(error)}")
            log.warning("--track %s failed, and the training goes on without it (%s)", self.tracker, reason)

    def _show(self, run: "TrackedRun") -> None:
        """Logs the epochs that were written since."""
        uri = storage.join(self.folder, "metrics.jsonl")
        content = storage.read_bytes(uri) if storage.exists(uri) else b""
        lines = content.decode().splitlines()
        for line in lines[self.shown :]:
            row = json.loads(line)
            figures = {f"{row['model']}/{name}": value for name, value in row.items() if isinstance(value, float)}
            run.log(figures, int(row["epoch"]))
        self.shown = len(lines)
