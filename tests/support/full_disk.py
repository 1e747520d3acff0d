"""A disk that is full after so many bytes, as seen by everything that is written through `ray_app.storage`."""

import errno
import os

import pytest


def full_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """From now on files of the storage layer fit only into `room` bytes in all; whatever is removed frees nothing."""
    sync, left = os.fsync, [room]

    def checked(number: int) -> None:
        size = 0 if os.path.isdir(f"/proc/self/fd/{number}") else os.fstat(number).st_size
        if size > left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= size
        sync(number)

    monkeypatch.setattr("ray_app.storage.local.os.fsync", checked)
