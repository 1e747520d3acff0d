"""Where units run, and those that are worked on at once in this process."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ray_app import cluster
from ray_app.catalog import executors
from ray_app.catalog.options import Config
from ray_app.catalog.pipeline import UnitRow


def test_an_interrupt_leaves_units_that_have_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))  # so that one unit waits
    begun: list[int] = []
    first, go_on = threading.Event(), threading.Event()

    def work(row: UnitRow) -> str:
        begun.append(1)
        first.set()
        assert go_on.wait(10)
        return ""

    def rows() -> Iterator[UnitRow]:
        yield {}
        yield {}
        assert first.wait(10)
        threading.Timer(0.1, go_on.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(executors._ahead(work, rows(), 2))
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("rows", "cpus", "joined", "connected", "options", "placement"),
    [
        (4_000, 8, False, False, {}, "here"),
        (4_001, 8, False, False, {}, "fused"),
        (10, 9, False, False, {}, "fused"),
        (10, 2, True, False, {}, "fused"),
        (10, 2, False, True, {}, "fused"),
        (10, 2, False, False, {"workers": 1}, "fused"),
        (10, 2, False, False, {"placement": "pools"}, "pools"),
        (10**7, 64, True, False, {"placement": "here"}, "here"),
    ],
)
def test_few_rows_on_a_small_machine_need_no_ray(
    rows: int,
    cpus: int,
    joined: bool,
    connected: bool,
    options: dict[str, Any],
    placement: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(cluster, "joined", lambda: joined)
    monkeypatch.setattr(cluster, "connected", lambda: connected)
    assert executors.placed(Config(output="o", **options), rows).placement == placement
