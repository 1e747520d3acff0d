"""The training folder: checkpoints and metrics of a run without Ray, and which run the folder belongs to.

In: a run's options, its epochs. Out: `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/`.
"""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ray_app import storage
from ray_app.errors import check
from ray_app.options import as_dict, earlier_values, former_names
from ray_app.training.loop import EpochRow, Reporter
from ray_app.training.options import TrainingOptions
from ray_app.training.tracking import trackers

PROGRESS = "progress.log"
NOT_THE_RUN = ("resume", "workers", "max_failures", "device", "track")  # may differ when a run is resumed
log = logging.getLogger(__name__)


class Checkpoints(Protocol):
    """Where a run's checkpoints, metrics and lines of progress go."""

    def resume(self, name: str) -> Path | None:
        """The folder of a model's last checkpoint, None where it has none."""

    def reporter(self, name: str) -> Reporter:
        """Takes the epochs of one model."""

    def say(self, line: str) -> None:
        """Shows a line of progress to the user."""


class LocalCheckpoints:
    """Checkpoints of a run without Ray: one folder per model, replaced as a whole after each epoch."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def say(self, line: str) -> None:
        """See `Checkpoints`."""
        log.info(line)

    def resume(self, name: str) -> Path | None:
        """See `Checkpoints`."""
        path = Path(self.folder) / "checkpoints" / name
        return path if path.is_dir() else None

    def reporter(self, name: str) -> Reporter:
        """See `Checkpoints`."""
        metrics_log = MetricsLog(self.folder, name, self.say)

        def report(metrics: EpochRow, write: Callable[[Path], None]) -> None:
            target = Path(self.folder) / "checkpoints" / name
            fresh, old = target.with_suffix(".new"), target.with_suffix(".old")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            write(fresh)
            if target.is_dir():
                target.rename(old)
            fresh.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            metrics_log(metrics)

        return report


class MetricsLog:
    """Writes an epoch's metrics to the user, to `metrics.jsonl` and to TensorBoard in the training folder."""

    def __init__(self, folder: str, name: str, say: Callable[[str], None]) -> None:
        self.folder, self.name, self.say = folder, name, say

    def __call__(self, metrics: EpochRow) -> None:
        figures = {key: value for key, value in metrics.items() if isinstance(value, float)}
        shown = " ".join(f"{key} {value:.4g}" for key, value in figures.items())
        self.say(f"{self.name} epoch {metrics['epoch']}/{metrics['epochs']}: {shown}")
        uri = storage.join(self.folder, "metrics.jsonl")
        before = storage.read_bytes(uri) if storage.exists(uri) else b""
        storage.write_bytes(uri, before + (json.dumps(metrics, ensure_ascii=False) + "\n").encode())
        board = storage.join(self.folder, "tensorboard", self.name)
        trackers.write_events(board, str(metrics["epoch"]), figures, metrics["epoch"])


def claim_folder(config: TrainingOptions, leftovers: Sequence[str]) -> None:
    """Makes the training folder this run's: a new one, without an earlier run's `leftovers`, or with `--resume` that of
    an interrupted run with the same config. Raises UserError naming the options that differ.

    An earlier release may have saved an option under another name, or not have had it.
    """
    folder = config.storage
    saved = storage.join(folder, "config.json")
    same = {k: v for k, v in as_dict(config).items() if k not in NOT_THE_RUN}
    if config.resume and storage.exists(saved):
        former = former_names(type(config))
        before = {former.get(name, name): value for name, value in storage.read_json(saved).items()}
        absent = earlier_values(type(config))
        changed = [key for key, value in same.items() if before.get(key, absent[key]) != value]
        check(not changed, f"--resume: {', '.join(changed)} differ from the interrupted run in {folder}")
        return
    check(not storage.exists(saved), f"{folder}: it holds an interrupted run; add --resume, or remove the folder")
    clear_parts(folder, leftovers)
    storage.write_json(saved, same)


def clear_parts(folder: str, names: Sequence[str]) -> None:
    """Removes files and folders of the training folder that a finished run no longer needs or an earlier one left."""
    for name in names:
        storage.remove(storage.join(folder, name))
