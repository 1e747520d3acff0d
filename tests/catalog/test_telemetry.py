"""JSON lines without Ray, and a dashboard whose every metric exists."""

import json
import re
from typing import Any

import pytest

from ray_app.catalog.telemetry import COUNTERS, MASKED_SHARE, RunMetrics
from ray_app.serving.prometheus import EndpointMetrics
from tests.support.paths import ROOT
from tests.support.prometheus import alerts

DASHBOARD = ROOT / "deploy" / "grafana.json"


def panels() -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return content


def test_a_unit_and_an_event_are_a_json_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    meter = RunMetrics("run-1", log_json=True)
    meter.add(rows=100, rejected=3, tokens=5_000, masked=40, stage_seconds={"keywords": 1.5})
    meter.log("end", output="s3://shop/분석")
    unit, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert (unit["run"], unit["event"], unit["rows"], unit["stage_seconds"]) == (
        "run-1",
        "unit",
        100,
        {"keywords": 1.5},
    )
    assert (end["run"], end["event"], end["output"]) == ("run-1", "end", "s3://shop/분석")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", unit["time"])


def test_nothing_is_printed_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    RunMetrics("run-1").add(rows=100)
    assert not capsys.readouterr().out


def test_every_metric_of_the_dashboard_exists_and_every_batch_metric_is_shown() -> None:
    endpoint = EndpointMetrics()
    endpoint.answered("/analyze", 200, 0.1)
    endpoint.batch({"batch_rows": 1, "batch_tokens": 1, "waited_seconds": 0, "tokens": 1, "queue_rows": 0})
    endpoint.serves({"bundle": "b1"})
    endpoint.reviews.labels("analysed").inc()
    exported = {sample.name for metric in endpoint.registry.collect() for sample in metric.samples}
    batch = {f"ray_{name}" for name in (*COUNTERS, MASKED_SHARE)}
    shown = set(re.findall(r"\b(?:ray_)?nunchi_\w+", DASHBOARD.read_text(encoding="utf-8")))
    named = set(re.findall(r"\b(?:ray_)?nunchi_\w+", str([rule["expr"] for rule in alerts().values()])))
    assert shown | named <= exported | batch, (shown | named) - exported - batch
    assert batch <= shown


def test_panels_do_not_overlap_and_each_says_what_it_shows() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        assert panel["type"] == "row" or (panel["description"] and panel["targets"])
        cells |= own
    assert len({panel["id"] for panel in panels()}) == len(panels())
