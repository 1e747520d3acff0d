"""Copies of remote folders on this node, fetched once for all its processes. In: a URI and a key. Out: a local folder.

A copy lies under NUNCHI_CACHE, or a folder of this user under the system's temporary one, and appears whole. Who reads
it verifies it, and asks for a fresh one where it is damaged: what cleans a temporary folder may take half of it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_app import storage
from ray_app.errors import check


def path_of(key: str) -> Path:
    """Where the copy with this key lies or will lie. Raises UserError where others could put a copy there."""
    root = Path(os.environ.get("NUNCHI_CACHE") or Path(tempfile.gettempdir()) / f"nunchi-{os.getuid()}").absolute()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry = root.lstat()
    own = root.is_dir() and not root.is_symlink() and entry.st_uid == os.getuid() and not entry.st_mode & 0o022
    check(own, f"{root}: others may write there; set NUNCHI_CACHE to a folder of your own")
    return root / key


def fingerprint(copy: Path) -> tuple[int, ...]:
    """What changes when the copy is fetched again; empty where there is none."""
    try:
        entry = copy.stat()
    except FileNotFoundError:
        return ()
    return entry.st_ino, entry.st_mtime_ns, entry.st_ctime_ns


def fetch(uri: str, copy: Path, seen: tuple[int, ...]) -> None:
    """Fetches the copy, unless another process did since its state was `seen`. A killed process's lock is free at once
    and its half copy goes with the next fetch."""
    with _alone(copy.with_name(f"{copy.name}.lock")):
        if fingerprint(copy) != seen:
            return
        partial, old = copy.with_name(f"{copy.name}.partial"), copy.with_name(f"{copy.name}.old")
        for rest in (partial, old):
            shutil.rmtree(rest, ignore_errors=True)
        storage.download(uri, partial)
        if copy.exists():
            copy.rename(old)
        partial.rename(copy)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
