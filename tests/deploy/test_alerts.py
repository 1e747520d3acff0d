"""deploy/alerts.yaml and prometheus.yaml by Prometheus' own promtool: they parse; each alert fires when it is to."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus import ALERTS, CONFIG, alerts, needed

ENDPOINT = 'instance="a:8000", job="nunchi"'
ASKED = f'{ENDPOINT}, route="/analyze"'
# By alert: series under which it fires within the hour, and the same where all is well (promtool's notation, a minute a
# value: START+STEPxTIMES).
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "NunchiBundleNotLoaded": (
        {f"nunchi_bundle_update_failed{{{ENDPOINT}}}": "0x30 1 0x2 1x30"},
        {f"nunchi_bundle_update_failed{{{ENDPOINT}}}": "0x90"},
    ),
    "NunchiTwoBundles": (
        {
            'nunchi_bundle_info{job="nunchi", instance="a", bundle="old"}': "1x90",
            'nunchi_bundle_info{job="nunchi", instance="b", bundle="new"}': "1x90",
        },
        {
            'nunchi_bundle_info{job="nunchi", instance="a", bundle="old"}': "0x90",
            'nunchi_bundle_info{job="nunchi", instance="a", bundle="new"}': "1x90",
        },
    ),
    "NunchiDown": ({f"up{{{ENDPOINT}}}": "1x20 0x60"}, {f"up{{{ENDPOINT}}}": "1x90"}),
    "NunchiFails": (
        {f'nunchi_requests_total{{{ASKED}, status="500"}}': "0+1x90"},
        {f'nunchi_requests_total{{{ASKED}, status="200"}}': "0+1x90"},
    ),
    "NunchiRefuses": (
        {
            f'nunchi_requests_total{{{ASKED}, status="200"}}': "0+90x90",
            f'nunchi_requests_total{{{ASKED}, status="503"}}': "0+10x90",
        },
        {
            f'nunchi_requests_total{{{ASKED}, status="200"}}': "0+90x90",
            f'nunchi_requests_total{{{ENDPOINT}, route="/ready", status="503"}}': "0+60x90",
        },
    ),
    "NunchiSlow": (
        {
            f'nunchi_request_seconds_bucket{{{ASKED}, le="5"}}': "0+50x90",
            f'nunchi_request_seconds_bucket{{{ASKED}, le="10"}}': "0+100x90",
            f'nunchi_request_seconds_bucket{{{ASKED}, le="+Inf"}}': "0+100x90",
        },
        {
            f'nunchi_request_seconds_bucket{{{ASKED}, le="5"}}': "0+100x90",
            f'nunchi_request_seconds_bucket{{{ASKED}, le="+Inf"}}': "0+100x90",
        },
    ),
    "NunchiRejectedRows": (
        {'ray_nunchi_rejected_rows_total{run="r"}': "0+200x90", 'ray_nunchi_rows_total{run="r"}': "0+1000x90"},
        {'ray_nunchi_rejected_rows_total{run="r"}': "0+1x90", 'ray_nunchi_rows_total{run="r"}': "0+1000x90"},
    ),
}


def case(name: str, fires: bool) -> dict[str, Any]:
    """A test of promtool's; that an alert fires is itself a series."""
    series = CASES[name][0 if fires else 1]
    firing = f'count by (alertname) (ALERTS{{alertname="{name}", alertstate="firing"}})'
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1}] if fires else []
    return {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [{"expr": firing, "eval_time": "60m", "exp_samples": expected}],
    }


@needed
def test_each_alert_fires_when_it_is_to_and_not_otherwise(tmp_path: Path) -> None:
    assert set(CASES) == set(alerts())
    cases = [case(name, fires) for name in CASES for fires in (True, False)]
    content = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    ran = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needed
def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    content = CONFIG.read_text(encoding="utf-8").replace("alerts.yaml]", f"{ALERTS}]")
    (tmp_path / "token").write_text("secret", encoding="utf-8")
    (tmp_path / "prometheus.yaml").write_text(content.replace("/etc/nunchi", str(tmp_path)), encoding="utf-8")
    ran = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus.yaml")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", sorted(alerts()))
def test_each_says_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
