"""Processes that die at a chosen moment, in the process of the test."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ray_app import storage


class Death(BaseException):
    """As if the process had been killed: nothing cleans up after it."""


@contextmanager
def dying_at_commit(monkeypatch: pytest.MonkeyPatch, commit: int, after: bool) -> Iterator[None]:
    """The block dies at commit number `commit`, just before or just after it creates the marker."""
    left, create = [commit], storage.create

    def deadly(uri: str, data: bytes) -> bool:
        left[0] -= "/_units/" in uri
        if left[0] == 0 and not after:
            raise Death
        done = create(uri, data)
        if left[0] == 0:
            raise Death
        return done

    with monkeypatch.context() as patched:
        patched.setattr(storage, "create", deadly)
        with pytest.raises(Death):
            yield
