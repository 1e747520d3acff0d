"""DuckDB over the Parquet files of a folder, local or s3://. In: file URIs and SQL with `$files`. Out: rows.

DuckDB's own S3 reader is an extension it would download; so it reads every file through pyarrow, by a number instead of
a name, and no name is taken for a glob. Nothing is copied: only the columns and row groups that SQL needs are read.
"""

import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import duckdb
import fsspec
import pyarrow.fs as pafs

from ray_app import storage
from ray_app.errors import UserError, first_line

SETTINGS: dict[str, Any] = {
    "autoinstall_known_extensions": False,  # nothing may leave the machine
    "autoload_known_extensions": False,
    "memory_limit": "1GB",
    "temp_directory": os.path.join(tempfile.gettempdir(), "nunchi-page"),
}


class Database:
    """Questions to some Parquet files. Sessions may share it: every question has a cursor of its own.

    Args:
        place: what an error line names.
        uris: the files; `files` are their names in SQL, in the same order.
    """

    def __init__(self, place: str, uris: Sequence[str]) -> None:
        self.place = place
        self.files = [f"analyses://{_folders(uri)}{i:08d}.parquet" for i, uri in enumerate(uris)]
        connection = duckdb.connect(config=SETTINGS)
        connection.register_filesystem(Files(uris))
        self.open = [connection]
        weakref.finalize(self, _close, self.open)  # at the process's end too: DuckDB complains of what is still open

    def rows(self, sql: str, files: Sequence[str], values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Raises UserError where a file cannot be read."""
        return self._ask(sql, files, values or {})[1]

    def dicts(self, sql: str, files: Sequence[str], values: dict[str, Any]) -> list[dict[str, Any]]:
        """The same rows by column."""
        names, rows = self._ask(sql, files, values)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _ask(self, sql: str, files: Sequence[str], values: dict[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
        with self._readable(), self.open[0].cursor() as cursor:
            found = cursor.execute(sql, {"files": list(files), **values})
            return [column[0] for column in found.description or ()], found.fetchall()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError, UserError) as error:
            raise UserError(f"{self.place}: cannot be read ({first_line(error)})") from None


def _folders(uri: str) -> str:
    """The folders of a file that stand for a column's value, as DuckDB reads them out of a name."""
    inside = uri.rpartition("/data/")[2].split("/")[:-1]
    return "".join(f"{folder}/" for folder in inside if "=" in folder)


def _close(connections: list[Any]) -> None:
    while connections:
        connections.pop().close()


class Files(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The Parquet files under a number each, in their partition: DuckDB reads local disk and s3 through pyarrow, and no
    name is a glob."""

    protocol = "analyses"
    cachable = False

    def __init__(self, uris: Sequence[str]) -> None:
        super().__init__()
        self.uris = uris

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        filesystem, inside = self._resolve(path)
        return filesystem.open_input_file(inside)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        filesystem, inside = self._resolve(path)
        return {"name": path, "size": filesystem.get_file_info(inside).size, "type": "file"}

    def modified(self, path: str) -> datetime:
        filesystem, inside = self._resolve(path)
        return datetime.fromtimestamp((filesystem.get_file_info(inside).mtime_ns or 0) / 1e9)

    def _resolve(self, path: str) -> tuple[pafs.FileSystem, str]:
        return storage.resolve(self.uris[int(path.rsplit("/", 1)[-1].split(".")[0])])
