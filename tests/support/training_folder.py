"""A training folder looked at from outside: its metrics, and a worker killed while they grow."""

import json
import time
from pathlib import Path
from typing import Any

import psutil


def metric_rows(log: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def wait_for_rows(log: Path, count: int) -> None:
    """Until so many epochs are logged, five minutes at most."""
    deadline = time.monotonic() + 300
    while not log.exists() or len(metric_rows(log)) < count:
        assert time.monotonic() < deadline, f"{log} did not reach {count} rows"
        time.sleep(0.05)


def kill_a_worker(log: Path) -> None:
    """SIGKILL to the training worker among this process's own descendants, after its first epoch."""
    wait_for_rows(log, 1)
    for process in psutil.Process().children(recursive=True):
        if "RayTrainWorker" in " ".join(process.cmdline()):
            process.kill()
