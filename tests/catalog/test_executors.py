"""Units that are worked on at once in this process."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray_app.catalog import executors
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
