"""Copies of remote folders on this node, fetched once for all its processes. In: a URI and a key. Out: a local folder.

A copy lies under NUNCHI_CACHE, or in a folder of this user under the system's temporary folder, and appears whole.
Readers verify it and fetch it again where it is damaged: a cleaner of temporary files may delete half of it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_app import storage
from ray_app.errors import check


def path_of(key: str) -> Path:
    """Path of the copy with this key, whether or not it exists. Raises UserError where other users could write it."""
    root = Path(os.environ.get("NUNCHI_CACHE") or Path(tempfile.gettempdir()) / f"nunchi-{os.getuid()}").absolute()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry = root.lstat()
    own = root.is_dir() and not root.is_symlink() and entry.st_uid == os.getuid() and not entry.st_mode & 0o022
    check(own, f"{root}: others may write there; set NUNCHI_CACHE to a folder of your own")
    return root / key


def fingerprint(copy: Path) -> tuple[int, ...]:
    """A value that changes whenever the copy is fetched again; empty where no copy exists."""
    try:
        entry = copy.stat()
    except FileNotFoundError:
        return ()
    return entry.st_ino, entry.st_mtime_ns, entry.st_ctime_ns


def fetch(uri: str, copy: Path, seen: tuple[int, ...], only: Collection[str] | None = None) -> None:
    """Fetches the copy, unless another process did since its fingerprint was `seen`; `only` the files so named.

    A killed process releases its lock at once, and the next fetch removes its partial copy.
    """
    with _locked(copy.with_name(f"{copy.name}.lock")):
        if fingerprint(copy) != seen:
            return
        partial, old = copy.with_name(f"{copy.name}.partial"), copy.with_name(f"{copy.name}.old")
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        storage.download(uri, partial, only=only)
        if copy.exists():
            copy.rename(old)
        partial.rename(copy)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Holds an exclusive lock on a file that all processes of the node share."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
