"""Files on local disk: whole or not at all, and safe from a power cut once a call returns. The same calls as `s3`.

In: paths or `file://` URIs. Out: bytes, `File`s. Raises OSError as Python does; `storage` makes one line of it.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from ray_app.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """One file: its URI as the user would write it, size in bytes, modification time in nanoseconds, and what changes
    with its content: the ETag on S3, size and time on disk."""

    uri: str
    size: int
    modified: int
    version: str = ""


class MissingError(UserError):
    """There is no such file."""


class ChangedError(UserError):
    """The file is no longer the one that was listed."""


def to_path(uri: str) -> Path:
    """What a path or `file://` URI stands for."""
    return Path(unquote(urlsplit(uri).path) if uri.startswith("file:") else uri).expanduser().absolute()


def listing(uri: str, start: str = "") -> list[tuple[str, FileInfo]]:
    """All below a folder as (name relative to it, file), or the file itself with no name. `start` helps S3 alone."""
    path = to_path(uri)
    if path.is_file():
        return [("", stat(uri))]
    if not path.exists():
        raise MissingError(f"{uri}: no such file or folder")
    found = pafs.LocalFileSystem().get_file_info(pafs.FileSelector(str(path), recursive=True))
    return [_listed(uri, os.path.relpath(i.path, path), i.size, i.mtime_ns) for i in found if i.is_file]


def stat(uri: str) -> FileInfo:
    entry = to_path(uri).stat()
    return FileInfo(
        uri=uri, size=entry.st_size, modified=entry.st_mtime_ns, version=_version(entry.st_size, entry.st_mtime_ns)
    )


def exists(uri: str) -> bool:
    return to_path(uri).exists()


def is_empty(uri: str) -> bool:
    try:
        with os.scandir(to_path(uri)) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def read(uri: str) -> bytes:
    return to_path(uri).read_bytes()


@contextmanager
def open_input(uri: str, version: str = "") -> Iterator[pa.NativeFile]:
    """Raises ChangedError where the file is not of this version when it is opened, or no longer when it is closed."""
    with pafs.LocalFileSystem().open_input_file(str(to_path(uri))) as source:
        _same(uri, version)
        try:
            yield source
        finally:  # where it could not be read, this is why
            _same(uri, version)


def write(uri: str, data: bytes) -> None:
    """Under a temporary name, then renamed over what is there."""
    with _written(to_path(uri), data) as temporary:
        temporary.replace(to_path(uri))


def create(uri: str, data: bytes) -> bool:
    """Under a temporary name, then linked, which fails where something is there. Returns whether it was written."""
    with _written(to_path(uri), data) as temporary:
        try:
            to_path(uri).hardlink_to(temporary)
        except FileExistsError:  # a network disk that lost the answer links once and says "exists" on its own retry
            return temporary.stat().st_nlink == 2
    return True


def remove(uri: str) -> None:
    """A file, or a folder with all that is in it; what is not there is no error."""
    path = to_path(uri)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _written(path: Path, data: bytes) -> Iterator[Path]:
    """A temporary file beside `path` that is gone at the end, and the folder's entries safe on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    entries = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(entries)
    finally:
        os.close(entries)


def _same(uri: str, version: str) -> None:
    if version and stat(uri).version != version:
        raise ChangedError(f"{uri}: changed since it was listed")


def _listed(uri: str, name: str, size: int, modified: int) -> tuple[str, FileInfo]:
    return name, FileInfo(
        uri=f"{uri.rstrip('/')}/{name}", size=size, modified=modified, version=_version(size, modified)
    )


def _version(size: int, modified: int) -> str:
    return f"{size}-{modified}"
