"""Processes that share a folder count together; without one each counts for itself (tests/serving/test_http_app.py)."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT


def counted(folder: Path) -> dict[str, float]:
    """What a process of its own counts and then shows."""
    command = [sys.executable, "-m", "tests.support.count_tokens", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = (line.split() for line in done.stdout.splitlines() if line and line[0] != "#")
    return {name: float(value) for name, value in lines}


def test_counts_of_a_process_that_ended_stay_and_what_waited_in_it_goes(tmp_path: Path) -> None:
    counted(tmp_path / "shared")
    shown = counted(tmp_path / "shared")
    assert shown["nunchi_tokens_total"] == 10
    assert shown["nunchi_queue_reviews"] == 7


def test_nothing_happens_at_import(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared")}
    command = [sys.executable, "-c", "import ray_app.serving.http_app, sys; print('prometheus_client' in sys.modules)"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), list(tmp_path.iterdir())) == ("False", [])
