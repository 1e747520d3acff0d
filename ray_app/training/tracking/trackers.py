"""One shape for four trackers: a run begins with its config, takes figures by epoch, and finishes with a report.

In: what `tracking.py` gives. Out: a run in the tracker that `--track` names. What each needs (servers, keys) it takes
from its own environment variables; without them a run is kept on this machine, and nothing asks for a login.
"""

import importlib
import io
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from ray_app import storage

PACKAGES = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "tensorboard": ("tensorboardX",)}  # others: their names
PROJECT = "nunchi"
LONGEST = 500  # characters of a value that mlflow's oldest servers take
Figures = Mapping[str, float]


class TrackedRun(Protocol):
    """One training in a tracker."""

    def log(self, figures: Figures, epoch: int) -> None:
        """Figures of an epoch of one model, by `model/name`."""

    def finish(self, report: Mapping[str, object], failed: bool) -> None:
        """Writes the final report and ends the run."""


def check_installed(tracker: str) -> None:
    """Raises ModuleNotFoundError where a tracker's package is missing."""
    for name in PACKAGES.get(tracker, (tracker,)):
        importlib.import_module(name)


def begin(tracker: str, output: str, config: Mapping[str, object], folder: str) -> TrackedRun:
    """A run of one of TRACKERS, but off. `output`: the bundle that is made; `folder`: the training's own."""
    name, parent = output.rstrip("/").rpartition("/")[2], _parent(output)
    if tracker == "wandb":
        return Wandb(name, config, parent)
    if tracker == "mlflow":
        return Mlflow(name, config, parent)
    if tracker == "trackio":
        return Trackio(name, config)
    return Tensorboard(config, folder)


class Wandb:
    """Offline where no key is known, below the folder that the bundle is in; `wandb sync` sends such a run later."""

    def __init__(self, name: str, config: Mapping[str, object], parent: str) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            config=dict(config),
            dir=os.environ.get("WANDB_DIR", parent),
            mode=None if _has_wandb_key() else "offline",
            settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )

    def log(self, figures: Figures, epoch: int) -> None:
        """See TrackedRun."""
        self.run.log({**figures, "epoch": epoch})

    def finish(self, report: Mapping[str, object], failed: bool) -> None:
        """See TrackedRun."""
        self.run.summary.update(dict(report))
        self.run.finish(exit_code=int(failed))


class Trackio:
    """In its own folder (TRACKIO_DIR), as its own dashboard finds it."""

    def __init__(self, name: str, config: Mapping[str, object]) -> None:
        import trackio

        with redirect_stdout(io.StringIO()):  # results of ours go there
            project = os.environ.get("TRACKIO_PROJECT", PROJECT)
            self.run = trackio.init(
                project=project, name=name, config=dict(config), embed=False, auto_log_gpu=False, auto_log_cpu=False
            )

    def log(self, figures: Figures, epoch: int) -> None:
        """See TrackedRun."""
        self.run.log({**figures, "epoch": epoch})

    def finish(self, report: Mapping[str, object], failed: bool) -> None:
        """See TrackedRun."""
        with redirect_stdout(io.StringIO()):
            self.run.log({**report, "failed": failed})
            self.run.finish()


class Mlflow:
    """On the server of MLFLOW_TRACKING_URI, else in `mlflow.db` beside the bundle."""

    def __init__(self, name: str, config: Mapping[str, object], parent: str) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{parent}/mlflow.db"
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        self.client = MlflowClient(uri)
        found = self.client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self.client.create_experiment(experiment)
        self.id = self.client.create_run(number, run_name=name).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in config.items()]
        self.client.log_batch(self.id, params=params)

    def log(self, figures: Figures, epoch: int) -> None:
        """See TrackedRun."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, epoch) for name, value in figures.items()])

    def finish(self, report: Mapping[str, object], failed: bool) -> None:
        """See TrackedRun."""
        self.log({name: value for name, value in report.items() if isinstance(value, float)}, 0)
        for name, value in report.items():
            if not isinstance(value, float):
                self.client.set_tag(self.id, name, str(value)[:LONGEST])
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


class Tensorboard:
    """`tensorboard/run` in the training folder, beside the curves of each model, which are written there always."""

    def __init__(self, config: Mapping[str, object], folder: str) -> None:
        self.uri, self.written = storage.join(folder, "tensorboard", "run"), 0
        write_events(self.uri, "config", {}, 0, {"config": _as_list(config)})

    def log(self, figures: Figures, epoch: int) -> None:
        """See TrackedRun."""
        self.written += 1
        write_events(self.uri, str(self.written), figures, epoch)

    def finish(self, report: Mapping[str, object], failed: bool) -> None:
        """See TrackedRun."""
        write_events(self.uri, "report", {}, 0, {"report": _as_list({**report, "failed": failed})})


def write_events(
    uri: str, name: str, figures: Figures, step: int, texts: Mapping[str, str] = MappingProxyType({})
) -> None:
    """An event file of its own in a folder that TensorBoard reads, complete when this returns: `SummaryWriter.flush`
    does not wait for its thread, only closing does. No two files of a folder have the same `name`."""
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory(prefix="nunchi-board-") as scratch:
        writer = SummaryWriter(scratch, filename_suffix=f".{name}")
        for key, value in figures.items():
            writer.add_scalar(key, value, step)
        for key, text in texts.items():
            writer.add_text(key, text)
        writer.close()
        storage.upload(scratch, uri)


def _as_list(values: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())


def _parent(output: str) -> str:
    """The local folder that the bundle is in; of one on S3, the working folder."""
    return os.path.abspath(".") if "://" in output else str(Path(output).expanduser().absolute().parent)


def _has_wandb_key() -> bool:
    from requests.utils import get_netrc_auth

    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return bool(os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") or get_netrc_auth(server))
