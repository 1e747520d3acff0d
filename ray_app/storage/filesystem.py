"""Files on local disk, `s3://` (boto3's standard configuration) or, to read, `hf://`. They appear whole or not at all.

In: paths or URIs. Out: bytes, file lists, Parquet tables. Raises UserError where a path is missing or refused. One
kind, UnavailableError, means that S3 is unreachable or denies access: it says nothing about the file itself.
"""

import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_app.errors import UserError, check, no_space
from ray_app.storage import globs, hub, local, s3
from ray_app.storage.local import FileInfo, MissingError

CHUNK = 16 << 20  # bytes of a download that are in memory at once


class Backend(Protocol):
    """What the modules `local`, `s3` and `hub` provide, each for its own URIs."""

    def listing(self, uri: str, start: str = "") -> list[tuple[str, FileInfo]]:
        """(relative name, file) of everything below a folder whose name begins with `start`."""

    def stat(self, uri: str) -> FileInfo:
        """One file's size and version."""

    def exists(self, uri: str) -> bool:
        """Whether a file or folder exists."""

    def is_file(self, uri: str) -> bool:
        """Whether a file, not a folder, exists."""

    def is_empty(self, uri: str) -> bool:
        """Whether nothing would be overwritten."""

    def read(self, uri: str) -> bytes:
        """A file's content."""

    def open_input(self, uri: str, version: str = "") -> AbstractContextManager[pa.NativeFile]:
        """A seekable file of one version."""

    def write(self, uri: str, data: bytes) -> None:
        """Writes or replaces a file."""

    def create(self, uri: str, data: bytes) -> bool:
        """Writes a file only where none exists; returns whether it did."""

    def swap(self, uri: str, before: bytes, after: bytes) -> bool:
        """Replaces a file's content only where it is still `before`; returns whether it did."""

    def remove(self, uri: str) -> None:
        """Removes a file or folder, if it exists."""

    def remove_files(self, uris: Sequence[str]) -> None:
        """Removes files, those that exist."""


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """URI or local path -> (pyarrow's file system, path inside it), for readers that take no open file; local paths
    become absolute, an s3:// key is taken literally."""
    if "://" not in uri:
        return pafs.LocalFileSystem(), absolute(uri)
    with _errors_named(uri):
        filesystem, path = pafs.FileSystem.from_uri(quote(uri, safe=":/@%" if uri.startswith("file:") else ":/@"))
    return filesystem, path


def absolute(uri: str) -> str:
    """The path made independent of the working directory; URIs are returned unchanged."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def join(uri: str, *names: str) -> str:
    """Appends names to a path. Only names chosen by this package: a name taken from data goes through `safe_name`."""
    return "/".join([uri.rstrip("/"), *names])


def list_files(uri: str, suffix: str = "") -> list[FileInfo]:
    """The files that a file, folder (recursively) or glob stands for, sorted by name.

    Names that begin with `.` or `_` are left out, as every Parquet reader does. Raises UserError where the path does
    not exist.
    """
    found = [(name, file) for name, file in walk(uri) if file.size >= 0]
    return [file for name, file in found if not name or (name.endswith(suffix) and not globs.hidden(uri, name))]


def walk(uri: str) -> list[tuple[str, FileInfo]]:
    """(name below the folder or the glob's fixed part, file) of everything that a path stands for, sorted by name.

    A glob follows the shell, see `globs.select`. Hidden names are included, see `globs.hidden`, and links to nothing
    and what is no file, of a negative size (`local.NOTHING`). Raises UserError where the path does not exist.
    """
    folder, pattern = globs.split(uri)
    if pattern and exists(uri):  # `[2026] reviews.parquet` is a name, not a glob
        folder, pattern = uri, ""
    with _errors_named(folder):
        listed = _backend(folder).listing(folder, re.split(r"[*?[]", pattern)[0])
    chosen = set(globs.select([name for name, _ in listed], pattern)) if pattern else None
    return sorted(((n, file) for n, file in listed if chosen is None or n in chosen), key=lambda item: item[0])


def stat(uri: str) -> FileInfo:
    """One file's size and version. Raises MissingError where it does not exist."""
    with _errors_named(uri):
        return _backend(uri).stat(uri)


def exists(uri: str) -> bool:
    """Whether a file or folder exists there."""
    with _errors_named(uri):
        return _backend(uri).exists(uri)


def is_file(uri: str) -> bool:
    """Whether a file exists there; on S3 one request, where `exists` needs two."""
    with _errors_named(uri):
        return _backend(uri).is_file(uri)


def is_empty(uri: str) -> bool:
    """True where nothing would be overwritten: the path does not exist, or is a folder without entries."""
    with _errors_named(uri):
        return _backend(uri).is_empty(uri)


def obstacle(uri: str) -> str:
    """Why nothing can be written below a local folder, as far as that is known before; "" where nothing is known."""
    return local.obstacle(uri) if _backend(uri) is local else ""


def read_bytes(uri: str) -> bytes:
    """A file's content. Raises MissingError where it does not exist."""
    with _errors_named(uri):
        return _backend(uri).read(uri)


@contextmanager
def open_input(uri: str, version: str = "") -> Iterator[pa.NativeFile]:
    """A seekable file, as `pq.ParquetFile` takes. On S3 all reads see one version and each is a request, so read
    Parquet with `pre_buffer=True`. Raises ChangedError, now or later, where the file is not of `version`
    (`FileInfo.version`).
    """
    with ExitStack() as stack:
        with _errors_named(uri):
            source = stack.enter_context(_backend(uri).open_input(uri, version))
        yield source


def check_version(uri: str, version: str) -> None:
    """Raises ChangedError where a local file is no longer of `version`; on S3 each read is of one version."""
    if "://" not in uri or uri.startswith("file:"):
        with _errors_named(uri):
            local.check_version(uri, version)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes or replaces a file, whole or not at all."""
    with _errors_named(uri):
        _backend(uri).write(uri, data)


def create(uri: str, data: bytes) -> bool:
    """Writes a file only where none exists: of all concurrent callers, one gets True.

    After an error it is unknown whether the file was written; call again to find out.
    """
    with _errors_named(uri):
        return _backend(uri).create(uri, data)


def swap(uri: str, before: bytes, after: bytes) -> bool:
    """Replaces a file's content only where it is still `before`: of all concurrent callers, one gets True."""
    with _errors_named(uri):
        return _backend(uri).swap(uri, before, after)


def remove(uri: str) -> None:
    """Removes a file, or a folder with everything in it; a missing path is no error."""
    with _errors_named(uri):
        _backend(uri).remove(uri)


def remove_files(uris: Sequence[str]) -> None:
    """Removes files of one storage, no folders, many at once where it can; missing ones are no error."""
    if uris:
        with _errors_named(uris[0]):
            _backend(uris[0]).remove_files(uris)


def read_json(uri: str) -> Any:
    """A JSON file's content. Raises UserError where it is missing or not JSON."""
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise UserError(f"{uri}: not JSON ({error})") from None


def write_json(uri: str, content: object) -> None:
    """Writes indented JSON with Korean text unescaped; NaN and infinity, which JSON has not, become null."""
    text = json.dumps(_finite(content), ensure_ascii=False, indent=2, allow_nan=False)
    write_bytes(uri, (text + "\n").encode(errors="replace"))


def _finite(content: object) -> object:
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_parquet(uri: str, table: pa.Table) -> int:
    """Builds the whole file in memory first, so that a failure publishes nothing; returns its size in bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_bytes(uri, data := sink.getvalue().to_pybytes())
    return len(data)


def read_parquet(uri: str) -> pa.Table:
    """All Parquet files that `uri` stands for, as one table."""
    tables = []
    for file in list_files(uri, ".parquet"):
        with _errors_named(file.uri), open_input(file.uri, file.version) as source:
            whole = pq.ParquetFile(source)
            twice = [name for name, times in Counter(whole.schema_arrow.names).items() if times > 1]
            check(not twice, f"{file.uri}: two columns are called {' and '.join(twice)!r}; rename one")
            tables.append(whole.read())
    check(tables, f"{uri}: no Parquet files there")
    with _errors_named(uri):
        return pa.concat_tables(tables, promote_options="default")


def read_schema(uri: str) -> pa.Schema:
    """The schema of one Parquet file, from its footer."""
    with _errors_named(uri), open_input(uri) as source:
        return pq.ParquetFile(source).schema_arrow


def upload(folder: str, uri: str, last: str = "") -> None:
    """Copies a local folder's files to `uri`; the file named `last` goes last and so marks it complete."""
    for file in sorted(list_files(folder), key=lambda f: f.uri.endswith(f"/{last}") if last else False):
        write_bytes(join(uri, file.uri[len(folder.rstrip("/")) + 1 :]), read_bytes(file.uri))


def download(uri: str, folder: Path, leave: Sequence[str] = (), only: Collection[str] | None = None) -> None:
    """Copies the files under `uri` to a local folder, except those named in `leave`, or `only` those.

    Raises UserError where a name points outside the folder, as an S3 key may.
    """
    for file in list_files(uri):
        name = file.uri[len(uri.rstrip("/")) + 1 :]  # one with `..` is hidden and never listed
        check(not name.startswith("/"), f"{file.uri}: points outside {folder}; remove it")
        if name not in leave and (only is None or name in only):
            _copy(file, folder / name)


def _copy(file: FileInfo, target: Path) -> None:
    with _errors_named(str(target)), open_input(file.uri, file.version) as source:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copy:
            shutil.copyfileobj(source, copy, CHUNK)


def _backend(uri: str) -> Backend:
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    backends: dict[str, Backend] = {"file": local, "s3": s3, "hf": hub}
    check(scheme in backends, f"{uri}: neither a local path nor s3:// nor hf://")
    return backends[scheme]


@contextmanager
def _errors_named(uri: str) -> Iterator[None]:
    """Turns a file system's error into one line that names the path."""
    try:
        yield
    except FileNotFoundError:
        raise MissingError(f"{uri}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        check(not no_space(error), f"{uri}: no space left on the disk; free some and run the same command again")
        raise UserError(f"{uri}: {' '.join(str(error).split())[:300]}") from None
