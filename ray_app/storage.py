"""Files on local disk or `s3://`, by pyarrow's standard configuration. A file appears whole or not at all.

In: paths or URIs. Out: bytes, file lists, Parquet tables. Raises UserError where a path is missing or refused.
"""

import fnmatch
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_app.config import UserError, check


@dataclass(frozen=True)
class File:
    """One file: its URI as the user would write it, size in bytes, modification time in nanoseconds (0 if unknown)."""

    uri: str
    size: int
    modified: int


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """URI or local path -> (file system, path inside it). Local paths become absolute. An s3:// key
    is written as it is, spaces and Korean letters too."""
    if "://" not in uri:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    with _readable(uri):
        filesystem, path = pafs.FileSystem.from_uri(quote(uri, safe=":/@%" if uri.startswith("file:") else ":/@"))
    return filesystem, path


def absolute(uri: str) -> str:
    """The same place whatever the working directory of the process that reads it."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts])


def list_files(uri: str, suffix: str = "") -> list[File]:
    """The files a file, folder (recursively) or glob stands for, by name. Hidden and `_` names are left out, as
    every Parquet reader does. Raises UserError where the path does not exist."""
    folder, pattern = (uri, "") if exists(uri) else _split_glob(uri)  # `[2026] reviews.parquet` is a name, not a glob
    filesystem, path = resolve(folder)
    with _readable(folder):
        info = filesystem.get_file_info(path)
        check(info.type != pafs.FileType.NotFound, f"{folder}: no such file or folder")
        found = [info] if info.is_file else filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    prefix = folder[: len(folder.rstrip("/"))]
    files = []
    for item in sorted(found, key=lambda i: i.path):
        relative = item.path[len(path) :].lstrip("/")
        hidden = any(part.startswith(("_", ".")) for part in relative.split("/") if part)
        if not item.is_file or hidden or (relative and not item.path.endswith(suffix)):
            continue
        if pattern and not fnmatch.fnmatchcase(relative, pattern):
            continue
        files.append(File(join(prefix, relative) if relative else prefix, item.size, item.mtime_ns or 0))
    return files


def exists(uri: str) -> bool:
    filesystem, path = resolve(uri)
    with _readable(uri):
        return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)


def is_empty(uri: str) -> bool:
    """True where nothing would be overwritten: no such path, or a folder without entries."""
    filesystem, path = resolve(uri)
    with _readable(uri):
        info = filesystem.get_file_info(path)
        if info.type == pafs.FileType.NotFound:
            return True
        return not info.is_file and not filesystem.get_file_info(pafs.FileSelector(path))


def read_bytes(uri: str) -> bytes:
    filesystem, path = resolve(uri)
    with _readable(uri), filesystem.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


def write_bytes(uri: str, data: bytes) -> None:
    """Writes under a temporary name, then renames; on S3 one PUT, which is atomic by itself."""
    filesystem, path = resolve(uri)
    with _readable(uri):
        if not isinstance(filesystem, pafs.LocalFileSystem):
            with filesystem.open_output_stream(path) as stream:
                stream.write(data)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{uuid.uuid4().hex}")
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def remove(uri: str) -> None:
    """Removes a file, or a folder with all that is in it; what is not there is no error."""
    filesystem, path = resolve(uri)
    with _readable(uri):
        info = filesystem.get_file_info(path)
        if info.is_file:
            filesystem.delete_file(path)
        elif info.type == pafs.FileType.Directory:
            filesystem.delete_dir(path)


def read_json(uri: str) -> Any:
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise UserError(f"{uri}: not JSON ({error})") from None


def write_json(uri: str, content: Any) -> None:
    write_bytes(uri, (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())


def write_parquet(uri: str, table: pa.Table) -> None:
    """The whole file is built in memory first, so that a failure publishes nothing."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_bytes(uri, sink.getvalue().to_pybytes())


def read_parquet(uri: str) -> pa.Table:
    """All Parquet files that `uri` stands for, as one table."""
    tables = []
    for file in list_files(uri, ".parquet"):
        filesystem, path = resolve(file.uri)
        with _readable(file.uri), filesystem.open_input_file(path) as source:
            tables.append(pq.read_table(source))
    check(tables, f"{uri}: no Parquet files there")
    return pa.concat_tables(tables, promote_options="default")


def upload(folder: str, uri: str, last: str = "") -> None:
    """Copies a local folder's files to `uri`; the file called `last` comes last, so that it can mark the whole."""
    files = list_files(folder)
    for file in sorted(files, key=lambda f: f.uri.endswith(f"/{last}") if last else False):
        write_bytes(join(uri, file.uri[len(folder.rstrip("/")) + 1 :]), read_bytes(file.uri))


def download(uri: str, folder: Path, leave: Sequence[str] = ()) -> None:
    """Copies the files under `uri` to a local folder, but for those named in `leave`."""
    for file in list_files(uri):
        name = file.uri[len(uri.rstrip("/")) + 1 :]
        if name not in leave:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(read_bytes(file.uri))


@contextmanager
def _readable(place: str) -> Iterator[None]:
    """A file system's error as one line that names the place."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{place}: {' '.join(str(error).split())[:300]}") from None


def _split_glob(uri: str) -> tuple[str, str]:
    """`folder/*.parquet` -> (`folder`, `*.parquet`); a path without wildcards has no pattern."""
    parts = uri.split("/")
    first = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    return "/".join(parts[:first]) or ("/" if uri.startswith("/") else "."), "/".join(parts[first:])
