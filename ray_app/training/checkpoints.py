"""The training folder: checkpoints and metrics of a run without Ray, and whose folder it is."""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from ray_app import storage
from ray_app.errors import check
from ray_app.options import as_dict, former_names
from ray_app.training.loop import Reporter
from ray_app.training.options import TrainingOptions

PROGRESS = "progress.log"


class Checkpoints(Protocol):
    """Where a model's checkpoints go, and the last one of an interrupted run."""

    def resume(self, name: str) -> Path | None: ...

    def reporter(self, name: str) -> Reporter: ...

    def say(self, line: str) -> None: ...


class LocalCheckpoints:
    """Checkpoints of a run without Ray: one folder a classifier, replaced whole after each epoch."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def say(self, line: str) -> None:
        print(line, flush=True)

    def resume(self, name: str) -> Path | None:
        path = Path(self.folder) / "checkpoints" / name
        return path if path.is_dir() else None

    def reporter(self, name: str) -> Reporter:
        board = MetricsLog(self.folder, name, self.say)

        def report(metrics: dict[str, Any], write: Callable[[Path], None]) -> None:
            target = Path(self.folder) / "checkpoints" / name
            fresh, old = target.with_suffix(".new"), target.with_suffix(".old")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            write(fresh)
            if target.is_dir():
                target.rename(old)
            fresh.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            board(metrics)

        return report


class MetricsLog:
    """An epoch's metrics to the user, `metrics.jsonl` and TensorBoard, all under the training folder."""

    def __init__(self, folder: str, name: str, say: Callable[[str], None]) -> None:
        from tensorboardX import SummaryWriter

        self.folder, self.name, self.say = folder, name, say
        self.local = tempfile.mkdtemp(prefix="nunchi-board-")
        self.writer = SummaryWriter(self.local)

    def __call__(self, metrics: dict[str, Any]) -> None:
        shown = " ".join(f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, float))
        self.say(f"{self.name} epoch {metrics['epoch']}/{metrics['epochs']}: {shown}")
        log = storage.join(self.folder, "metrics.jsonl")
        before = storage.read_bytes(log) if storage.exists(log) else b""
        storage.write_bytes(log, before + (json.dumps(metrics, ensure_ascii=False) + "\n").encode())
        for key, value in metrics.items():
            if isinstance(value, float):
                self.writer.add_scalar(key, value, metrics["epoch"])
        self.writer.flush()
        storage.upload(self.local, storage.join(self.folder, "tensorboard", self.name))


def claim_folder(config: TrainingOptions, leftovers: Sequence[str]) -> None:
    """Makes the training folder this run's: new, without an earlier run's `leftovers`, or with `--resume` one of the
    same config. Raises UserError naming what differs.

    An earlier release may have saved an option under another name, or not have had it: then it had today's default.
    """
    folder = config.storage
    saved = storage.join(folder, "config.json")
    same = {k: v for k, v in as_dict(config).items() if k not in ("resume", "workers", "max_failures", "device")}
    if config.resume and storage.exists(saved):
        former = former_names(type(config))
        before = {former.get(name, name): value for name, value in storage.read_json(saved).items()}
        defaults = {field.name: field.default for field in fields(config)}
        changed = [key for key, value in same.items() if before.get(key, defaults[key]) != value]
        check(not changed, f"--resume: {', '.join(changed)} differ from the interrupted run in {folder}")
        return
    check(not storage.exists(saved), f"{folder}: an interrupted run is there; add --resume, or remove it")
    clear_parts(folder, leftovers)
    storage.write_json(saved, same)


def clear_parts(folder: str, parts: Sequence[str]) -> None:
    """Removes parts of the training folder: what a finished run needs no more, or what an earlier one left."""
    for part in parts:
        storage.remove(storage.join(folder, part))
