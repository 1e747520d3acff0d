"""Language models on real Ray Train workers: the same losses on two, of which one is killed.

A killed driver resumes by the same code as the classifiers': see tests/training/test_train_ray.
"""

import threading
from pathlib import Path
from typing import Any

import pytest

from ray_app.lm import causal_lm, train_lm
from tests.support.training_folder import kill_a_worker, metric_rows

pytestmark = pytest.mark.ray

SMALL: dict[str, Any] = {"task": "interview", "layers": 1, "hidden": 64, "vocabulary": 400, "max_length": 128}
OPTIONS: dict[str, Any] = {**SMALL, "limit": 101, "batch_size": 16, "learning_rate": 1e-3, "device": "cpu"}


def losses(output: Path) -> dict[int, list[float]]:
    """By epoch: an epoch that was trained twice counts as it was last."""
    rows = metric_rows(Path(f"{output}.training/metrics.jsonl"))
    return {row["epoch"]: [row["loss"], row["validation_loss"]] for row in rows}


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_of_which_one_is_killed_see_the_losses_of_one(tmp_path: Path) -> None:
    """101 rows: an odd number, so that shares are uneven; answers of all lengths, so that tokens are too."""
    common = {**OPTIONS, "epochs": 4, "patience": 0, "cpus_per_worker": 1.0}
    train_lm.run(train_lm.Config(base_model="scratch", output=str(tmp_path / "calm"), workers=0, **common))
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "hit.training" / "metrics.jsonl",))
    killer.start()
    train_lm.run(train_lm.Config(base_model="scratch", output=str(tmp_path / "hit"), workers=2, **common))
    killer.join()
    calm, hit = losses(tmp_path / "calm"), losses(tmp_path / "hit")
    assert sorted(hit) == sorted(calm) == [1, 2, 3, 4]
    for epoch, pair in calm.items():
        assert hit[epoch] == pytest.approx(pair, abs=1e-4)
    meta = causal_lm.read_meta(str(tmp_path / "hit"))
    assert meta is not None
    assert meta.metrics["validation_loss"] == pytest.approx(min(pair[1] for pair in calm.values()), abs=1e-4)
