"""Processes that share a folder count together; without one each counts for itself (tests/serving/test_http_app.py)."""

import os
import subprocess
import sys
from pathlib import Path

COUNT = """
from ray_app.serving.prometheus import EndpointMetrics
meters = EndpointMetrics()
meters.batch({"tokens": 5, "queue_rows": 7})
print(meters.text().decode())
"""


def told(folder: Path) -> dict[str, float]:
    """What a process of its own counts and then shows."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, check=True)
    lines = (line.split() for line in done.stdout.splitlines() if line and line[0] != "#")
    return {name: float(value) for name, value in lines}


def test_counts_of_a_process_that_is_gone_stay_and_what_waited_in_it_goes(tmp_path: Path) -> None:
    told(tmp_path / "shared")
    shown = told(tmp_path / "shared")
    assert shown["nunchi_tokens_total"] == 10
    assert shown["nunchi_queue_reviews"] == 7
