"""Language models on real Ray Train workers: the same losses on two, a killed worker and a killed driver go on."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray_app import causal, train_lm
from tests.test_train_ray import _kill_a_worker, _rows, _wait_for_a_checkpoint

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[1]
SMALL: dict[str, Any] = {"task": "interview", "layers": 1, "hidden": 64, "vocabulary": 400, "max_length": 128}
OPTIONS: dict[str, Any] = {**SMALL, "limit": 101, "batch_size": 16, "learning_rate": 1e-3, "device": "cpu"}


def losses(output: Path) -> dict[int, list[float]]:
    """By epoch: an epoch that was trained twice counts as it was last."""
    rows = _rows(Path(f"{output}.training/metrics.jsonl"))
    return {row["epoch"]: [row["loss"], row["validation_loss"]] for row in rows}


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_of_which_one_is_killed_see_the_losses_of_one(tmp_path: Path) -> None:
    """101 rows: an odd number, so that shares are uneven; answers of all lengths, so that tokens are too."""
    common = {**OPTIONS, "epochs": 4, "patience": 0, "cpus_per_worker": 1.0}
    train_lm.run(train_lm.Config("scratch", output=str(tmp_path / "calm"), workers=0, **common))
    killer = threading.Thread(target=_kill_a_worker, args=(tmp_path / "hit.training" / "metrics.jsonl",))
    killer.start()
    train_lm.run(train_lm.Config("scratch", output=str(tmp_path / "hit"), workers=2, **common))
    killer.join()
    calm, hit = losses(tmp_path / "calm"), losses(tmp_path / "hit")
    assert sorted(hit) == sorted(calm) == [1, 2, 3, 4]
    for epoch, pair in calm.items():
        assert hit[epoch] == pytest.approx(pair, abs=1e-4)
    meta = causal.read_meta(str(tmp_path / "hit"))
    assert meta is not None
    assert meta.metrics["validation_loss"] == pytest.approx(min(pair[1] for pair in calm.values()), abs=1e-4)


def test_a_killed_driver_goes_on_with_resume(tmp_path: Path) -> None:
    options = {**OPTIONS, "base_model": "scratch", "output": tmp_path / "lm", "epochs": 12, "patience": 0}
    options |= {"workers": 1, "cpus_per_worker": 0.5}
    flags = [part for name, value in options.items() for part in ("--" + name.replace("_", "-"), str(value))]
    command = [sys.executable, "-m", "jobs.train_lm", *flags]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for_a_checkpoint(tmp_path / "lm.training" / "ray")
    for process in [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]:
        process.send_signal(signal.SIGKILL)
    driver.wait()
    log = tmp_path / "lm.training" / "metrics.jsonl"
    before = len(_rows(log))
    resumed = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    epochs = [row["epoch"] for row in _rows(log)]
    assert sorted(set(epochs)) == list(range(1, 13))
    assert len(epochs) < 12 + before  # it went on from a checkpoint, not from the start
    content = json.loads((tmp_path / "lm" / causal.META).read_text(encoding="utf-8"))
    assert content["metrics"]["unigram_loss"] > 0
