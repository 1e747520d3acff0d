"""evaluate_lm on real Ray: a pool of actors gives one process's results, and a failure frees its CPUs."""

import gc
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from ray_app import storage
from ray_app.errors import UserError
from ray_app.lm import evaluate_lm
from ray_app.lm.evaluate_lm import Config
from tests.support.language_models import figures, make_lm

pytestmark = pytest.mark.ray


def all_cpus_are_free(seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while ray.available_resources().get("CPU", 0) < ray.cluster_resources()["CPU"]:
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def test_a_pool_of_actors_reports_what_one_process_does(ray_cluster: Any, tmp_path: Path) -> None:
    model = make_lm(tmp_path / "model")
    common: dict[str, Any] = {"limit": 30, "max_new_tokens": 48, "unit_rows": 7, "device": "cpu"}
    alone = evaluate_lm.run(Config(model=model, output=str(tmp_path / "alone"), workers=0, **common))
    pool = evaluate_lm.run(Config(model=model, output=str(tmp_path / "pool"), workers=2, **common))
    assert figures(pool) == pytest.approx(figures(alone), abs=2e-4)
    rows = [storage.read_parquet(str(tmp_path / name / "rows")).sort_by("row") for name in ("alone", "pool")]
    assert rows[0]["generated"].to_pylist() == rows[1]["generated"].to_pylist()
    assert len(storage.list_files(str(tmp_path / "pool" / "rows"))) == 5


def test_a_mistake_in_a_worker_is_one_line(
    ray_cluster: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    model = make_lm(tmp_path / "model")
    request.addfinalizer(gc.enable)
    gc.disable()  # a collection by chance would free what must be freed by design
    caplog.set_level("CRITICAL", "ray.data")  # pytest keeps log records, and an exception in one keeps its pipeline
    with pytest.raises(UserError, match=r"evaluation failed: .*--max-new-tokens 1: too few"):
        evaluate_lm.run(Config(model=model, output=str(tmp_path / "out"), limit=3, max_new_tokens=1, device="cpu"))
    assert all_cpus_are_free(), "the failed pipeline's actor still holds its CPUs: the next run would wait forever"
    with pytest.raises(UserError, match="9 workers x 1 CPUs are more than"):
        evaluate_lm.run(
            Config(model=model, output=str(tmp_path / "out"), limit=3, workers=9, cpus_per_worker=1, device="cpu")
        )
