"""Debian's Prometheus: `make prometheus` installs it. Tests are skipped without."""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.support.paths import ROOT
from tests.support.ray_head import free_port
from tests.support.waiting import wait_for

CONFIG, ALERTS, DASHBOARD = (ROOT / "deploy" / name for name in ("prometheus.yaml", "alerts.yaml", "grafana.json"))
needed = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="no Prometheus here: `make prometheus` installs Debian's, as root",
)


def alerts() -> dict[str, dict[str, Any]]:
    """The shipped rules by name."""
    content = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in content["groups"] for rule in group["rules"]}


def queries(run: str = ".*", window: str = "15s") -> list[str]:
    """All that the dashboard asks, as Grafana would send it."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [query.replace("$__rate_interval", window).replace("$run", run) for query in found]


class Prometheus:
    """One that runs: asked over HTTP."""

    def __init__(self, url: str) -> None:
        self.url, self.since = url, time.time()

    def get(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer; its error fails the test."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=60).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def seen(self, query: str) -> bool:
        """Whether the query gave data at any moment since this Prometheus runs."""
        series = self.get("query_range", query=query, start=self.since, end=time.time(), step="1s")["result"]
        return any(value != "NaN" for one in series for _, value in one["values"])


@contextlib.contextmanager
def prometheus(folder: Path, targets: list[str], token: Path, discovered: Path) -> Iterator[Prometheus]:
    """Runs with the shipped configuration; only what it scrapes, and how often, is replaced."""
    content = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    content["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    content["rule_files"] = [str(ALERTS)]
    endpoint, ray = content["scrape_configs"]
    endpoint["authorization"]["credentials_file"] = str(token)
    endpoint["static_configs"] = [{"targets": targets}]
    ray["file_sd_configs"] = [{"files": [str(discovered)]}]
    file, address = folder / "prometheus.yaml", f"127.0.0.1:{free_port()}"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    command = (
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder}",
        f"--web.listen-address={address}",
    )
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_for(lambda: _ready(process, f"http://{address}", folder / "log"))
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()


def _ready(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text(encoding="utf-8")
    with contextlib.suppress(requests.ConnectionError):
        return bool(requests.get(f"{url}/-/ready", timeout=5).ok)
    return False
