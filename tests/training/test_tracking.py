"""--track: config, epochs and the final report arrive in the tracker; one that fails or hangs never ends a training."""

import json
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ray_app import storage
from ray_app.compression import shrink
from ray_app.compression.distil_options import DistilConfig
from ray_app.errors import UserError
from ray_app.lm import train_lm
from ray_app.options import as_dict
from ray_app.training.checkpoints import MetricsLog, claim_folder
from ray_app.training.tracking import follower
from ray_app.training.train import Config, run
from ray_app.training.unlabeled.aspects import AspectsConfig, train_aspects

ROW: Any = {"model": "joint", "epoch": 1, "epochs": 2, "loss": 0.5, "rows_per_second": 9.0, "select": 0.25}


class Fake:
    """What wandb and trackio look like from here; keeps what it was given."""

    def __init__(self, **given: Any) -> None:
        self.given, self.logged, self.summary, self.ended = given, [], {}, []  # type: ignore[var-annotated]

    def log(self, figures: dict[str, Any]) -> None:
        self.logged.append(figures)

    def finish(self, **given: Any) -> None:
        self.ended.append(given)


class FakeClient:
    """What mlflow looks like from here."""

    runs: list["FakeClient"] = []  # noqa: RUF012

    def __init__(self, uri: str) -> None:
        self.uri, self.batches, self.tags, self.status = uri, [], {}, ""  # type: ignore[var-annotated]
        self.runs.append(self)

    def get_experiment_by_name(self, _: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return name

    def create_run(self, experiment: str, run_name: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment}/{run_name}"))

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        self.batches.append([*metrics, *params])

    def set_tag(self, run: str, name: str, value: str) -> None:
        self.tags[name] = value

    def set_terminated(self, run: str, status: str) -> None:
        self.status = status


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """wandb, trackio and mlflow in place of what may be installed."""
    made: dict[str, list[Any]] = {"wandb": [], "trackio": [], "mlflow": FakeClient.runs}
    FakeClient.runs.clear()
    for name in ("wandb", "trackio"):
        module: Any = ModuleType(name)
        module.init = began(made[name])
        module.Settings = lambda **given: given
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("mlflow", "mlflow.entities", "mlflow.tracking", "sqlalchemy", "alembic"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    entities: Any = sys.modules["mlflow.entities"]
    entities.Metric = entities.Param = lambda *values: values
    tracked: Any = sys.modules["mlflow.tracking"]
    tracked.MlflowClient = FakeClient
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")
    return made


def began(runs: list[Any]) -> Callable[..., Fake]:
    def init(**given: Any) -> Fake:
        runs.append(Fake(**given))
        return runs[-1]  # type: ignore[no-any-return]

    return init


def train(folder: Path, tracker: str, problem: Exception | None = None) -> None:
    """An epoch of a training that is nothing but its metrics."""
    config = Config(output=str(folder / "bundle"), track=tracker, workers=0)
    epoch = MetricsLog(config.storage, "joint", lambda _: None)
    with follower.tracked(config.track, config.output, config.storage, as_dict(config)) as tracked:
        epoch(ROW)
        if problem:
            raise problem
        tracked.note("abc", {"joint": ROW}, 1.5)


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_what_a_run_is_told(fakes: dict[str, list[Any]], tmp_path: Path, tracker: str) -> None:
    train(tmp_path, tracker)
    (run,) = fakes[tracker]
    assert (run.given["project"], run.given["name"]) == ("nunchi", "bundle")
    assert run.given["config"]["base_model"] == "klue/roberta-base"
    assert run.logged[0] == {"joint/loss": 0.5, "joint/rows_per_second": 9.0, "joint/select": 0.25, "epoch": 1}
    told = {**run.summary, **run.logged[-1]}
    assert (told["bundle"], told["best/joint/select"], told["seconds"]) == ("abc", 0.25, 1.5)
    assert len(run.ended) == 1
    if tracker == "wandb":
        assert (run.given["mode"], run.given["dir"]) == ("offline", str(tmp_path))
        assert run.ended == [{"exit_code": 0}]


def test_wandb_goes_online_where_a_key_is_known(
    fakes: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x")
    train(tmp_path, "wandb")
    assert fakes["wandb"][0].given["mode"] is None


def test_mlflow_keeps_runs_beside_the_bundle(fakes: dict[str, list[Any]], tmp_path: Path) -> None:
    train(tmp_path, "mlflow")
    (run,) = fakes["mlflow"]
    assert run.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert ("epochs", "5") in run.batches[0]
    name, value, _, step = run.batches[1][0]
    assert (name, value, step) == ("joint/loss", 0.5, 1)
    assert (run.tags["bundle"], run.status) == ("abc", "FINISHED")


def test_tensorboard_has_the_config_and_the_report_too(tmp_path: Path) -> None:
    train(tmp_path, "tensorboard")
    files = [file.uri for file in storage.list_files(str(tmp_path / "bundle.training" / "tensorboard" / "run"))]
    content = b"".join(storage.read_bytes(uri) for uri in files)
    for text in (b"klue/roberta-base", b"joint/select", b"bundle: abc"):
        assert text in content


def test_a_training_that_fails_is_marked_so(fakes: dict[str, list[Any]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"):
        train(tmp_path, "mlflow", ValueError("broken"))
    (run,) = fakes["mlflow"]
    assert (run.tags["error"], run.status) == ("broken", "FAILED")


@pytest.mark.parametrize("where", ["init", "log", "finish"])
@pytest.mark.parametrize("problem", [RuntimeError("no https://me:secret@server"), SystemExit(1)])
def test_a_failing_tracker_is_told_once_and_ends_nothing(
    fakes: dict[str, list[Any]],
    tmp_path: Path,
    where: str,
    problem: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(sys.modules["wandb"] if where == "init" else Fake, where, fail)
    with caplog.at_level(logging.WARNING):
        train(tmp_path, "wandb")
    warnings = [record for record in caplog.records if record.name == follower.__name__]
    assert len(warnings) == 1
    assert "--track wandb failed, and the training goes on without it" in warnings[0].getMessage()
    assert "secret" not in caplog.text


def test_a_tracker_that_hangs_is_left_behind(
    fakes: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()
    monkeypatch.setattr(Fake, "finish", lambda *_, **__: over.wait(30))
    monkeypatch.setattr(follower, "PATIENCE", 0.2)
    train(tmp_path, "wandb")
    assert "no end after" in caplog.text
    over.set()


def test_a_missing_package_is_told_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, extra in (("wandb", "wandb"), ("trackio", "trackio"), ("alembic", "mlflow")):
        monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
        monkeypatch.setitem(sys.modules, "sqlalchemy", ModuleType("sqlalchemy"))
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=rf"--track {extra}: this needs {name}: .*pip install -e '\.\[{extra}\]'"):
            train(tmp_path, extra)


def test_a_missing_package_leaves_no_interrupted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(Config, "resolved", lambda _: pytest.fail("something was begun"))
    with pytest.raises(UserError, match="--track wandb: this needs wandb"):
        run(Config(output=str(tmp_path / "bundle"), track="wandb", workers=0))


def test_another_tracker_does_not_keep_a_run_from_being_resumed(tmp_path: Path) -> None:
    given: dict[str, Any] = {"output": str(tmp_path / "bundle"), "workers": 0}
    claim_folder(Config(**given), ())
    claim_folder(Config(**given, track="mlflow", resume=True), ())
    assert "track" not in json.loads((tmp_path / "bundle.training" / "config.json").read_text(encoding="utf-8"))


def test_every_job_that_trains_in_epochs_has_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    output: dict[str, Any] = {"output": str(tmp_path / "out"), "track": "wandb"}
    jobs: list[Callable[[], object]] = [
        lambda: train_lm.run(train_lm.Config(base_model="scratch", **output)),
        lambda: shrink.distil(DistilConfig(**output)),
        lambda: shrink.chain(shrink.ChainConfig(**output)),
        lambda: train_aspects(AspectsConfig(**output)),
    ]
    for job in jobs:
        with pytest.raises(UserError, match="--track wandb: this needs wandb"):
            job()
    assert not list(tmp_path.iterdir())


def test_a_language_model_is_tracked(fakes: dict[str, list[Any]], tmp_path: Path) -> None:
    given: dict[str, Any] = {"limit": 8, "epochs": 2, "layers": 1, "hidden": 64, "vocabulary": 300, "workers": 0}
    given |= {"task": "interview", "max_length": 32, "device": "cpu", "output": str(tmp_path / "lm")}
    metrics = train_lm.run(train_lm.Config(base_model="scratch", track="wandb", **given))
    (run,) = fakes["wandb"]
    assert (run.given["name"], run.given["config"]["task"]) == ("lm", "interview")
    assert [logged["epoch"] for logged in run.logged] == [1, 2]
    assert run.summary["best/interview/validation_loss"] == metrics["validation_loss"]
    assert run.ended == [{"exit_code": 0}]
