"""The training folder: checkpoints and metrics of a run without Ray, and which run the folder belongs to.

In: a run's options, its epochs. Out: `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/`.
"""

import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from ray_app import storage
from ray_app.errors import check
from ray_app.options import as_dict, earlier_values, former_names
from ray_app.training.loop import EpochRow, Reporter
from ray_app.training.tracking import trackers

PROGRESS, CHECKPOINTS = "progress.log", "checkpoints"
PARTS = ("config.json", "ray", CHECKPOINTS, PROGRESS)  # of every training folder, until its run is finished
FREE = ("workers", "max_failures", "device", "track")  # options that change between a run and its resumption
INPUTS = "inputs"  # in config.json, beside the options: hashes of what they name
WHOLE = "history.json"  # written last into a checkpoint: what has it is whole
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
    """Checkpoints of a run without Ray: per model the folder of its last epoch, which counts when it is whole."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def say(self, line: str) -> None:
        """See `Checkpoints`."""
        log.info(line)

    def resume(self, name: str) -> Path | None:
        """See `Checkpoints`."""
        last = self._last(name)
        if last is None or "://" not in last:
            return Path(last) if last else None
        scratch = Path(tempfile.mkdtemp(prefix="nunchi-resume-"))
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        storage.download(last, scratch)
        return scratch

    def reporter(self, name: str) -> Reporter:
        """See `Checkpoints`."""
        metrics_log = MetricsLog(self.folder, name, self.say)

        def report(metrics: EpochRow, write: Callable[[Path], None]) -> None:
            before = self._last(name)
            _write_whole(storage.join(self._own(name), f"{metrics['epoch']:06d}"), write)
            if before:
                storage.remove(before)
            metrics_log(metrics)

        return report

    def _own(self, name: str) -> str:
        return storage.join(self.folder, CHECKPOINTS, name)

    def _last(self, name: str) -> str | None:
        """The folder of the last whole checkpoint, None where there is none."""
        own = self._own(name)
        if not storage.exists(own):
            return None
        if storage.exists(storage.join(own, WHOLE)):
            _adopt(Path(own))
        folders = [place.split("/") for place, _ in storage.walk(own)]
        whole = [folder for folder, *files in folders if files == [WHOLE] and folder.isdigit()]
        return storage.join(own, max(whole)) if whole else None


def _adopt(own: Path) -> None:
    """Brings a checkpoint of an earlier release, whose files lie in the model's folder itself, to its place; a kill in
    between leaves one of both."""
    files = [file for file in own.iterdir() if file.is_file()]
    place = own / f"{len(json.loads((own / WHOLE).read_text(encoding='utf-8'))):06d}"

    def copy(fresh: Path) -> None:
        for file in files:
            shutil.copy(file, fresh)

    if not place.exists():
        _write_whole(str(place), copy)
    for file in sorted(files, key=lambda file: file.name == WHOLE):
        file.unlink()


def _write_whole(place: str, write: Callable[[Path], None]) -> None:
    """Calls `write` with a folder that appears at `place` when it is whole."""
    if "://" in place:
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch))
            storage.upload(scratch, place, last=WHOLE)
        return
    fresh = Path(f"{place}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    fresh.rename(place)


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


class Resumable(Protocol):
    """Options of a job that is resumed with `--resume`; `storage` is its training folder."""

    @property
    def resume(self) -> bool:
        """Whether an interrupted run goes on."""

    @property
    def storage(self) -> str:
        """The training folder."""


def claim_folder(
    config: Resumable,
    leftovers: Sequence[str],
    free: Collection[str] = FREE,
    inputs: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Makes the training folder this run's: a new one, without an earlier run's `leftovers`, or with `--resume` that of
    an interrupted run with the same config. Raises UserError naming the options that differ, except those in `free`.

    An earlier release may have saved an option under another name, or not have had it.

    Args:
        inputs: by flag, what tells apart what a run reads: the same name may hold something else by now. "" for what
            cannot be told.
    """
    folder = config.storage
    saved = storage.join(folder, "config.json")
    same = {k: v for k, v in as_dict(config).items() if k != "resume" and k not in free}
    if config.resume and storage.exists(saved):
        former = former_names(type(config))
        before = {former.get(name, name): value for name, value in storage.read_json(saved).items()}
        absent = earlier_values(type(config))
        changed = [key for key, value in same.items() if before.get(key, absent[key]) != value]
        check(not changed, f"--resume: {', '.join(changed)} differ from the interrupted run in {folder}")
        later = sorted(before.keys() - same.keys() - {"resume", INPUTS, *free})
        check(
            not later,
            f"--resume: the run in {folder} was begun by a release with options that this one does not know "
            f"({', '.join(later)}); finish it there, or remove the folder",
        )
        _check_inputs(folder, before.get(INPUTS, {}), inputs)
        return
    check(not storage.exists(saved), f"{folder}: it holds an interrupted run; add --resume, or remove the folder")
    clear_parts(folder, (*PARTS, *leftovers))  # a run that was killed while it cleared them left some
    storage.write_json(saved, {**same, INPUTS: dict(inputs)})


def _check_inputs(folder: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises UserError naming the flags behind which the interrupted run found something else."""
    changed = [flag for flag, read in now.items() if read and before.get(flag, "") not in ("", read)]
    named = ", ".join(changed)
    check(
        not changed,
        f"--resume: what {named} name{'s' if len(changed) == 1 else ''} changed since the run in {folder} was "
        f"interrupted; put back what was there, or remove {folder} and train anew",
    )


def clear_parts(folder: str, names: Sequence[str]) -> None:
    """Removes files and folders of the training folder that a finished run no longer needs or an earlier one left."""
    for name in names:
        storage.remove(storage.join(folder, name))
