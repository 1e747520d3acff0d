"""Units that are worked on at once in this process."""

import threading
from collections.abc import Iterator

import pytest

from ray_app.catalog.executors import _ahead


def test_an_interrupt_leaves_units_that_have_not_begun() -> None:
    begun: list[int] = []
    first, go_on = threading.Event(), threading.Event()

    def work(row: dict[str, list[object]]) -> str:
        begun.append(1)
        first.set()
        assert go_on.wait(10)
        return ""

    def rows() -> Iterator[dict[str, list[object]]]:
        yield from ({}, {})
        assert first.wait(10)
        yield {}
        threading.Timer(0.1, go_on.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(_ahead(work, rows(), 2))
    assert len(begun) == 2
