"""Metrics as Prometheus reads them from a node of a real Ray."""

import re
import time
from typing import Any

import pytest
import requests

from ray_app.catalog.telemetry import COUNTERS, MASKED_SHARE, RunMetrics

pytestmark = pytest.mark.ray


def exported(ray: Any) -> dict[str, float]:
    """Metric and stage -> value, of the run `metrics-test`, at this node's metrics port."""
    text = requests.get(f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics", timeout=30).text
    values = {}
    for line in text.splitlines():
        if 'run="metrics-test"' in line:
            stage = re.search(r'stage="(\w+)"', line)
            values[line.split("{")[0] + (f"/{stage[1]}" if stage else "")] = float(line.rsplit(" ", 1)[1])
    return values


def test_counts_of_units_reach_prometheus(ray_cluster: Any) -> None:
    meter = RunMetrics("metrics-test")
    meter.add(rows=100, rejected=20, tokens=1_000, masked=40, stage_seconds={"keywords": 1.5, "scores": 0.5})
    meter.add(rows=20, masked=10)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(exported(ray_cluster)) <= len(COUNTERS):
        time.sleep(0.5)
    values = exported(ray_cluster)
    assert values.pop(f"ray_{MASKED_SHARE}") == 0.5
    assert values == {
        "ray_nunchi_units_total": 2,
        "ray_nunchi_rows_total": 120,
        "ray_nunchi_rejected_rows_total": 20,
        "ray_nunchi_tokens_total": 1_000,
        "ray_nunchi_stage_seconds_total/keywords": 1.5,
        "ray_nunchi_stage_seconds_total/scores": 0.5,
    }
