"""Files on local disk or `s3://`, by boto3's standard configuration. A file appears whole or not at all.

In: paths or URIs. Out: bytes, file lists, Parquet tables. Raises UserError where a path is missing or refused; one of
them, UnavailableError, says that S3 cannot be reached or says no, which tells nothing about the file.
"""

import fnmatch
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_app.errors import UserError, check
from ray_app.storage import local, s3
from ray_app.storage.local import ChangedError, FileInfo, MissingError
from ray_app.storage.s3_client import UnavailableError

__all__ = ["ChangedError", "FileInfo", "MissingError", "UnavailableError"]
CHUNK = 16 << 20  # bytes of a download that are in memory at once
LONGEST_NAME = 200  # bytes; file systems take 255, and `column=` stands before
EMPTY = "__HIVE_DEFAULT_PARTITION__"
UNSAFE = frozenset("\"#%'*/:=?\\{}[]^<>|")  # what Hive escapes, and what a glob or Windows reads otherwise


class Backend(Protocol):
    """What `files` and `s3` both do, each for its own URIs."""

    def listing(self, uri: str, start: str = "") -> list[tuple[str, FileInfo]]: ...
    def stat(self, uri: str) -> FileInfo: ...
    def exists(self, uri: str) -> bool: ...
    def is_empty(self, uri: str) -> bool: ...
    def read(self, uri: str) -> bytes: ...
    def open_input(self, uri: str, version: str = "") -> AbstractContextManager[pa.NativeFile]: ...
    def write(self, uri: str, data: bytes) -> None: ...
    def create(self, uri: str, data: bytes) -> bool: ...
    def remove(self, uri: str) -> None: ...


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """URI or local path -> (pyarrow's file system, path inside it), for readers that take no file. Local paths become
    absolute. An s3:// key is written as it is, spaces and Korean letters too."""
    if "://" not in uri:
        return pafs.LocalFileSystem(), absolute(uri)
    with _readable(uri):
        filesystem, path = pafs.FileSystem.from_uri(quote(uri, safe=":/@%" if uri.startswith("file:") else ":/@"))
    return filesystem, path


def absolute(uri: str) -> str:
    """The same place whatever the working directory of the process that reads it."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def join(uri: str, *parts: str) -> str:
    """The parts are names of ours; what comes out of data goes through `safe_name` first."""
    return "/".join([uri.rstrip("/"), *parts])


def safe_name(value: str) -> str:
    """Any text as one name of a file or folder, percent-encoded as Hive's partitions are: `urllib.parse.unquote` gives
    it back, but for the empty text. No two texts share a name, none is hidden. Raises UserError where it is too long.
    """
    if not value:
        return EMPTY
    hidden = value[0] in "._"  # such names are left out by readers; `.` and `..` are other folders
    letters = [c if c.isprintable() and c not in UNSAFE else quote(c, safe="") for c in value]
    name = (f"%{ord(value[0]):02X}" if hidden else letters[0]) + "".join(letters[1:])
    check(len(name.encode()) <= LONGEST_NAME, f"{value[:20]!r}…: too long for a folder's name; use another column")
    return name


def partition(uri: str, folder: str) -> dict[str, str | None]:
    """The values that the folders between `folder` and a file stand for, as in Hive: `mall=A/part.parquet`."""
    names = uri[len(folder.rstrip("/")) + 1 :].split("/")[:-1]
    pairs = [name.split("=", 1) for name in names if "=" in name]
    return {name: None if value == EMPTY else unquote(value) for name, value in pairs}


def list_files(uri: str, suffix: str = "") -> list[FileInfo]:
    """The files a file, folder (recursively) or glob stands for, by name. Hidden and `_` names are left out, as
    every Parquet reader does. Raises UserError where the path does not exist."""
    folder, pattern = _split_glob(uri)
    if pattern and exists(uri):  # `[2026] reviews.parquet` is a name, not a glob
        folder, pattern = uri, ""
    with _readable(folder):
        found = _backend(folder).listing(folder, re.split(r"[*?[]", pattern)[0])
    kept = [(name, file) for name, file in found if not name or _wanted(name, suffix, pattern)]
    return [file for _, file in sorted(kept, key=lambda item: item[0])]


def stat(uri: str) -> FileInfo:
    """One file's size and version. Raises MissingError where there is none."""
    with _readable(uri):
        return _backend(uri).stat(uri)


def exists(uri: str) -> bool:
    with _readable(uri):
        return _backend(uri).exists(uri)


def is_empty(uri: str) -> bool:
    """True where nothing would be overwritten: no such path, or a folder without entries."""
    with _readable(uri):
        return _backend(uri).is_empty(uri)


def read_bytes(uri: str) -> bytes:
    with _readable(uri):
        return _backend(uri).read(uri)


@contextmanager
def open_input(uri: str, version: str = "") -> Iterator[pa.NativeFile]:
    """A file to seek and read in, such as `pq.ParquetFile` takes. On S3 all reads are of one version, each a request:
    read Parquet with `pre_buffer=True`. Raises ChangedError, now or later, where it is not of `version` (File.version).
    """
    with ExitStack() as stack:
        with _readable(uri):
            source = stack.enter_context(_backend(uri).open_input(uri, version))
        yield source


def write_bytes(uri: str, data: bytes) -> None:
    """Replaces what is there, whole or not at all."""
    with _readable(uri):
        _backend(uri).write(uri, data)


def create(uri: str, data: bytes) -> bool:
    """Writes only where nothing is: of all who try, one gets True. Whoever gets an error does not know: ask again."""
    with _readable(uri):
        return _backend(uri).create(uri, data)


def remove(uri: str) -> None:
    """Removes a file, or a folder with all that is in it; what is not there is no error."""
    with _readable(uri):
        _backend(uri).remove(uri)


def read_json(uri: str) -> Any:
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise UserError(f"{uri}: not JSON ({error})") from None


def write_json(uri: str, content: Any) -> None:
    write_bytes(uri, (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())


def write_parquet(uri: str, table: pa.Table) -> int:
    """The whole file is built in memory first, so that a failure publishes nothing; returns its bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    write_bytes(uri, data)
    return len(data)


def read_parquet(uri: str) -> pa.Table:
    """All Parquet files that `uri` stands for, as one table."""
    tables = []
    for file in list_files(uri, ".parquet"):
        with _readable(file.uri), open_input(file.uri, file.version) as source:
            tables.append(pq.read_table(source))
    check(tables, f"{uri}: no Parquet files there")
    return pa.concat_tables(tables, promote_options="default")


def upload(folder: str, uri: str, last: str = "") -> None:
    """Copies a local folder's files to `uri`; the file called `last` comes last, so that it can mark the whole."""
    found = list_files(folder)
    for file in sorted(found, key=lambda f: f.uri.endswith(f"/{last}") if last else False):
        write_bytes(join(uri, file.uri[len(folder.rstrip("/")) + 1 :]), read_bytes(file.uri))


def download(uri: str, folder: Path, leave: Sequence[str] = ()) -> None:
    """Copies the files under `uri` to a local folder, but for those named in `leave`. Raises UserError where a name
    leads out of the folder, as an S3 key may."""
    for file in list_files(uri):
        name = file.uri[len(uri.rstrip("/")) + 1 :]
        check(not name.startswith("/"), f"{file.uri}: leads out of {folder}; remove it")  # `..` is hidden, never listed
        if name not in leave:
            _copy(file, folder / name)


def _copy(file: FileInfo, target: Path) -> None:
    with _readable(str(target)), open_input(file.uri, file.version) as source:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copy:
            shutil.copyfileobj(source, copy, CHUNK)


def _backend(uri: str) -> Backend:
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    check(scheme in ("file", "s3"), f"{uri}: neither a local path nor s3://")
    return s3 if scheme == "s3" else local


@contextmanager
def _readable(place: str) -> Iterator[None]:
    """A file system's error as one line that names the place."""
    try:
        yield
    except FileNotFoundError:
        raise MissingError(f"{place}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{place}: {' '.join(str(error).split())[:300]}") from None


def _wanted(name: str, suffix: str, pattern: str) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in name.split("/") if part)
    return not hidden and name.endswith(suffix) and (not pattern or fnmatch.fnmatchcase(name, pattern))


def _split_glob(uri: str) -> tuple[str, str]:
    """`folder/*.parquet` -> (`folder`, `*.parquet`); a path without wildcards has no pattern."""
    parts = uri.split("/")
    first = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    return "/".join(parts[:first]) or ("/" if uri.startswith("/") else "."), "/".join(parts[first:])
