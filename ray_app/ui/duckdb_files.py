"""DuckDB over the Parquet files of a folder, local or s3://. In: file URIs and SQL with `$files`. Out: rows.

DuckDB's own S3 reader is an extension that it would have to download; so DuckDB reads every file through pyarrow, under
a number instead of its name: no name is taken for a glob. Only the columns and row groups that SQL needs are read.
"""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.fs as pafs

from ray_app import storage
from ray_app.errors import UserError, first_line
from ray_app.storage import node_cache
from ray_app.ui.filters import Parameter

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,  # nothing may leave the machine
    "autoload_known_extensions": False,
    "memory_limit": "1GB",
}


class Database:
    """Queries over some Parquet files. Sessions may share it: every query has its own cursor.

    Args:
        location: what an error line names.
        uris: the files; `files` are their names in SQL, in the same order.
    """

    def __init__(self, location: str, uris: Sequence[str]) -> None:
        self.location = location
        self.files = [f"analyses://{_partition_folders(uri)}{i:08d}.parquet" for i, uri in enumerate(uris)]
        private = str(node_cache.path_of("page"))  # what does not fit the memory goes there, reviews in it
        connection = duckdb.connect(config={**SETTINGS, "temp_directory": private})
        connection.register_filesystem(NumberedFiles(uris))
        self.connections = [connection]
        weakref.finalize(self, _close, self.connections)  # at exit too: DuckDB warns about open connections

    def rows(
        self, sql: str, files: Sequence[str], parameters: Mapping[str, Parameter] | None = None
    ) -> list[tuple[Any, ...]]:
        """Raises UserError where a file cannot be read."""
        return self._execute(sql, files, parameters or {})[1]

    def dicts(self, sql: str, files: Sequence[str], parameters: Mapping[str, Parameter]) -> list[dict[str, Any]]:
        """The same rows, keyed by column."""
        names, rows = self._execute(sql, files, parameters)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _execute(
        self, sql: str, files: Sequence[str], parameters: Mapping[str, Parameter]
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        with self._one_line_errors(), self.connections[0].cursor() as cursor:
            result = cursor.execute(sql, {"files": list(files), **parameters})
            return [column[0] for column in result.description or ()], result.fetchall()

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError, UserError) as error:
            raise UserError(f"{self.location}: cannot be read ({first_line(error)})") from None


def _partition_folders(uri: str) -> str:
    """`mall=a/` of a partitioned file: DuckDB reads the column's value from the name."""
    folders = uri.rpartition("/data/")[2].split("/")[:-1]
    return "".join(f"{folder}/" for folder in folders if "=" in folder)


def _close(connections: list[duckdb.DuckDBPyConnection]) -> None:
    while connections:
        connections.pop().close()


class NumberedFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The Parquet files, each under its number and partition, read through pyarrow."""

    protocol = "analyses"
    cachable = False

    def __init__(self, uris: Sequence[str]) -> None:
        super().__init__()
        self.uris = uris

    def glob(self, path: str, **_: object) -> list[str]:
        """The path itself: a number is no pattern."""
        return [path]

    def open(self, path: str, mode: str = "rb", **_: object) -> pa.NativeFile:
        """The file, for reading at any offset."""
        filesystem, inside = self._resolve(path)
        return filesystem.open_input_file(inside)

    def info(self, path: str, **_: object) -> dict[str, object]:
        """Name, size and type, as fsspec wants them."""
        filesystem, inside = self._resolve(path)
        return {"name": path, "size": filesystem.get_file_info(inside).size, "type": "file"}

    def modified(self, path: str) -> datetime:
        """When the file was written."""
        filesystem, inside = self._resolve(path)
        return datetime.fromtimestamp((filesystem.get_file_info(inside).mtime_ns or 0) / 1e9)

    def _resolve(self, path: str) -> tuple[pafs.FileSystem, str]:
        return storage.resolve(self.uris[int(path.rsplit("/", 1)[-1].split(".")[0])])
