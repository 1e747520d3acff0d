"""Training on real Ray Train workers: the same losses on one and two, and resuming after a kill."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray_app import sample
from ray_app.inference import bundle
from ray_app.training import train
from tests.support.bundles import encoder, hf_tokenizer
from tests.support.paths import ROOT
from tests.support.training_folder import kill_a_worker, metric_rows

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A two-layer base model and 101 labeled reviews: an odd number, so that shares are uneven."""
    folder = tmp_path_factory.mktemp("training")
    encoder("bert").save_pretrained(folder / "base")
    hf_tokenizer("bert").save_pretrained(folder / "base")
    rows = [row for row in sample.written_reviews() if row["split"] == "train"][:101]
    lines = [json.dumps({k: row[k] for k in ("review_id", "text", "labels")}, ensure_ascii=False) for row in rows]
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {"labels": str(folder / "labels.jsonl"), "base_model": str(folder / "base")}


def config(inputs: dict[str, str], output: Path, **changes: Any) -> train.Config:
    settings: dict[str, Any] = {
        **inputs,
        "output": str(output),
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "dropout": 0.0,
        "encoder_dropout": 0.0,
        "device": "cpu",
        "cpus_per_worker": 1.0,
    }
    return train.Config(**{**settings, **changes})


def losses(output: Path) -> list[float]:
    lines = (Path(f"{output}.training") / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.usefixtures("ray_cluster")
def test_one_and_two_workers_see_the_same_losses(inputs: dict[str, str], tmp_path: Path) -> None:
    for name, workers in (("here", 0), ("one", 1), ("two", 2)):
        train.run(config(inputs, tmp_path / name, workers=workers))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "here"), abs=1e-5)
    assert bundle.load(str(tmp_path / "two")).meta.support["만족도"] > 80
    assert list((tmp_path / "two.training" / "tensorboard" / "joint").iterdir())


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_resumes_from_the_last_checkpoint(inputs: dict[str, str], tmp_path: Path) -> None:
    train.run(config(inputs, tmp_path / "calm", workers=0, epochs=4))
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "hit.training" / "metrics.jsonl",))
    killer.start()
    train.run(config(inputs, tmp_path / "hit", workers=1, epochs=4))
    killer.join()
    seen = {
        (row["model"], row["epoch"]): row["loss"] for row in metric_rows(tmp_path / "hit.training" / "metrics.jsonl")
    }
    calm = {
        (row["model"], row["epoch"]): row["loss"] for row in metric_rows(tmp_path / "calm.training" / "metrics.jsonl")
    }
    assert seen.keys() == calm.keys()
    assert list(seen.values()) == pytest.approx(list(calm.values()), abs=1e-5)


def test_a_killed_driver_resumes(inputs: dict[str, str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "jobs.train",
        "--labels",
        inputs["labels"],
        "--base-model",
        inputs["base_model"],
        "--output",
        str(tmp_path / "b"),
        "--epochs",
        "12",
        "--patience",
        "0",
        "--workers",
        "1",
        "--cpus-per-worker",
        "0.5",
        "--device",
        "cpu",
    ]
    log = tmp_path / "b.training" / "metrics.jsonl"
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for_a_checkpoint(tmp_path / "b.training" / "ray")
    for process in [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]:
        process.send_signal(signal.SIGKILL)
    driver.wait()
    before = len(metric_rows(log))
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "add --resume" in again.stderr
    resumed = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    epochs = [row["epoch"] for row in metric_rows(log) if row["model"] == "joint"]
    assert epochs[0] == 1
    assert sorted(set(epochs)) == list(range(1, 13))
    assert len(epochs) < 12 + before  # it resumed from a checkpoint, not from the start
    bundle.load(str(tmp_path / "b"))


def _wait_for_a_checkpoint(folder: Path) -> None:
    """Until Ray's controller has noted one: it polls its workers, so that is a while after the epoch."""
    deadline = time.monotonic() + 300
    while not any("checkpoint_dir_name" in p.read_text() for p in folder.rglob("checkpoint_manager_snapshot.json")):
        assert time.monotonic() < deadline, f"no checkpoint was noted under {folder}"
        time.sleep(0.05)
