"""Files on local disk: whole or not at all, and safe from a power cut once a call returns. The same calls as `s3`.

In: paths or `file://` URIs. Out: bytes, `FileInfo`s. Raises OSError as Python does; `filesystem` makes it one line.
"""

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from ray_app.errors import UserError

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)  # of a disk that has no hard links

LONGEST_PART = 255  # bytes of a name
NOTHING, SPECIAL = -1, -2  # the sizes of a link whose file does not exist, and of a pipe, socket or device


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """One file: its URI as the user would write it, size in bytes, modification time in nanoseconds, and a version
    that changes with its content: the ETag on S3, size and time on disk."""

    uri: str
    size: int
    modified: int
    version: str = ""


class MissingError(UserError):
    """The file does not exist."""


class ChangedError(UserError):
    """The file's content is no longer the one that was listed."""


def to_path(uri: str) -> Path:
    """The absolute path that a path or `file://` URI stands for."""
    return Path(unquote(urlsplit(uri).path) if uri.startswith("file:") else uri).expanduser().absolute()


def listing(uri: str, start: str = "") -> list[tuple[str, FileInfo]]:
    """(name relative to the folder, file) of everything below it, or ("", file) for a file. Only S3 uses `start`.

    Raises MissingError where the path does not exist.
    """
    path = to_path(uri)
    if path.is_file():
        return [("", stat(uri))]
    if not path.exists():
        raise MissingError(f"{uri}: no such file or folder")
    if not path.is_dir():
        raise UserError(f"{uri}: neither a file nor a folder; name a file")
    return sorted(_walked(uri, path), key=lambda item: item[0])


def stat(uri: str) -> FileInfo:
    """One file's size and version. Raises FileNotFoundError."""
    entry = os.stat(uri if uri.startswith("/") else to_path(uri))  # noqa: PTH116 (a Path costs more than the call)
    return FileInfo(
        uri=uri, size=entry.st_size, modified=entry.st_mtime_ns, version=_version(entry.st_size, entry.st_mtime_ns)
    )


def exists(uri: str) -> bool:
    """Whether a file or folder exists there."""
    return to_path(uri).exists()


def is_file(uri: str) -> bool:
    """Whether a file exists there."""
    return to_path(uri).is_file()


def is_empty(uri: str) -> bool:
    """Whether nothing would be overwritten: the path does not exist, or is a folder without entries."""
    try:
        with os.scandir(to_path(uri)) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def obstacle(uri: str) -> str:
    """Why no file can be written below a folder, as far as that is known before; "" where nothing is in the way."""
    path = to_path(uri)
    if any(len(os.fsencode(part)) > LONGEST_PART for part in path.parts):
        return f"a name of more than {LONGEST_PART} bytes"
    while not path.exists() and not path.is_symlink():
        path = path.parent
    if not path.is_dir():
        return f"{path} is {'a link to nothing' if path.is_symlink() and not path.exists() else 'no folder'}"
    return "" if os.access(path, os.W_OK | os.X_OK) else f"{path} is read-only"


def read(uri: str) -> bytes:
    """A file's content. Raises FileNotFoundError."""
    return to_path(uri).read_bytes()


@contextmanager
def open_input(uri: str, version: str = "") -> Iterator[pa.NativeFile]:
    """A seekable file. Raises ChangedError where it is not of this version when opened, or no longer when closed."""
    check_version(uri, version)
    with pafs.LocalFileSystem().open_input_file(uri if uri.startswith("/") else str(to_path(uri))) as source:
        check_version(uri, version)
        try:
            yield source
        except GeneratorExit:  # a reader that stopped early: nobody is left to tell
            raise
        except BaseException:  # a change explains why reading failed, so it is reported instead
            check_version(uri, version)
            raise
        check_version(uri, version)


def write(uri: str, data: bytes) -> None:
    """Writes under a temporary name, then renames it over the target."""
    with _temporary(to_path(uri), data) as temporary:
        temporary.replace(to_path(uri))


def create(uri: str, data: bytes) -> bool:
    """Writes under a temporary name, then links it, which fails where the target exists; returns whether it did.

    Disks without links (exFAT, some mounts) have it written in place: whoever reads it meanwhile may see a part.
    """
    with _temporary(to_path(uri), data) as temporary:
        try:
            to_path(uri).hardlink_to(temporary)
        except FileExistsError:  # a network disk may lose the reply, retry by itself and find its own link
            return temporary.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _create_in_place(to_path(uri), data)
    return True


def _create_in_place(path: Path, data: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    return True


def swap(uri: str, before: bytes, after: bytes) -> bool:
    """Replaces the content where it is still `before`, under a lock that all writers of the file take; returns whether
    it did. The lock is a hidden file beside it, which stays."""
    path = to_path(uri)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.read_bytes() != before:
            return False
        write(uri, after)
    return True


def remove(uri: str) -> None:
    """Removes a file, or a folder with everything in it; a missing path is no error."""
    path = to_path(uri)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_files(uris: Sequence[str]) -> None:
    """Removes files; missing ones are no error."""
    for uri in uris:
        to_path(uri).unlink(missing_ok=True)


@contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[Path]:
    """A temporary file beside `path`, synced to disk; at the end it is removed and the folder's entries are synced."""
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


def check_version(uri: str, version: str) -> None:
    """Raises ChangedError where a file is not of this version."""
    if version and stat(uri).version != version:
        raise ChangedError(f"{uri}: changed since it was listed")


def _walked(uri: str, root: Path) -> Iterator[tuple[str, FileInfo]]:
    """(name, file) of everything below a folder; links are followed, once each. A link to nothing has size NOTHING,
    and what is no file at all SPECIAL.

    Raises OSError at a folder that cannot be read: its files would be missing in silence.
    """
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, onerror=_raise, followlinks=True):
        entry = Path(folder).stat()
        if (entry.st_dev, entry.st_ino) in seen:  # a link that leads back to a folder above, or a second way to one
            folders.clear()
            continue
        seen.add((entry.st_dev, entry.st_ino))
        below = os.path.relpath(folder, root)
        for name in names:
            relative = name if below == "." else f"{below}/{name}"
            try:
                entry = os.stat(f"{folder}/{name}")  # noqa: PTH116 (a Path costs more than the call)
            except OSError as error:
                if not Path(folder, name).is_symlink():
                    if not isinstance(error, FileNotFoundError):  # that one was removed just now
                        raise
                else:  # to nothing, or to itself
                    yield relative, FileInfo(uri=f"{uri.rstrip('/')}/{relative}", size=NOTHING, modified=0)
                continue
            if S_ISREG(entry.st_mode):
                yield _listed(uri, relative, entry)
            else:
                yield relative, FileInfo(uri=f"{uri.rstrip('/')}/{relative}", size=SPECIAL, modified=0)


def _raise(error: OSError) -> None:
    raise error


def _listed(uri: str, name: str, entry: os.stat_result) -> tuple[str, FileInfo]:
    size, modified = entry.st_size, entry.st_mtime_ns
    version = _version(size, modified)
    return name, FileInfo(uri=f"{uri.rstrip('/')}/{name}", size=size, modified=modified, version=version)


def _version(size: int, modified: int) -> str:
    return f"{size}-{modified}"
