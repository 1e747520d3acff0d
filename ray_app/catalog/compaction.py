"""Units' parts -> the output files that people read: few and large, each with its rows whole, once and for good.

    OUT/_parts/<folder>/<unit>-<attempt>.parquet  ->  OUT/<folder>/part-000000.parquet

A file is promised first (`_files/000000.json`: its folder, units and their parts; created once), then written, then
marked done with its rows, bytes and hash, and only then its parts go. Whatever dies in between, the promise says what
is to be done again; rows that are not published yet are in no file that a reader sees, since readers leave out names
that begin with `_`.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog.commit import part
from ray_app.errors import check

TARGET_BYTES = 128 << 20  # what Parquet readers like: 64 to 512 MB
GROUP_ROWS = 50_000  # rows a row group: parts have a few thousand each


class Publisher:
    """Gathers committed units and publishes a folder's when they make a file. Used by one driver at a time."""

    def __init__(self, out: str, target_bytes: int = TARGET_BYTES) -> None:
        self.out, self.target = out, target_bytes
        self.waiting: dict[str, dict[str, str]] = {}
        self.sizes: dict[str, int] = {}
        self.promised: set[tuple[str, str]] = set()
        self.number = 0
        for number, file in promises(out):
            self.number = number + 1
            self.promised |= {(file["folder"], unit) for unit in file["units"]}
            if not storage.exists(_done_uri(out, number)):
                self._fulfil(number, file)

    def add(self, record: dict[str, Any]) -> None:
        """A committed unit's record, of this run or of one before."""
        for folder, facts in record["parts"].items():
            if (folder, record["id"]) in self.promised:
                continue
            self.promised.add((folder, record["id"]))
            self.waiting.setdefault(folder, {})[record["id"]] = facts["name"]
            self.sizes[folder] = self.sizes.get(folder, 0) + facts["bytes"]
            if self.sizes[folder] >= self.target:
                self._publish(folder)

    def finish(self) -> None:
        """Publishes what is left and removes what only a run needs."""
        for folder in sorted(self.waiting):
            self._publish(folder)
        for folder in ("_parts", "_tries"):
            storage.remove(storage.join(self.out, folder))

    def _publish(self, folder: str) -> None:
        promise = {"folder": folder, "units": self.waiting.pop(folder)}
        self.sizes.pop(folder)
        ours = storage.create(_uri(self.out, self.number), json.dumps(promise).encode())
        check(ours, f"{self.out}: another run took it over; this one stops")
        self._fulfil(self.number, promise)
        self.number += 1

    def _fulfil(self, number: int, promise: dict[str, Any]) -> None:
        folder = promise["folder"]
        parts = [part(self.out, folder, name) for name in promise["units"].values()]
        data, rows = _joined(parts)
        file = f"{folder}/part-{number:06d}.parquet"
        storage.write_bytes(storage.join(self.out, file), data)
        facts = {"file": file, "rows": rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        storage.write_json(_done_uri(self.out, number), facts)
        for uri in parts:
            storage.remove(uri)


def promises(out: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every output file that was promised, in order: {"folder", "units": {unit: part}}."""
    number = 0
    while storage.exists(_uri(out, number)):
        yield number, storage.read_json(_uri(out, number))
        number += 1


def published(out: str) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Every promise with what was done for it: {"file", "rows", "bytes", "sha256"}, or None."""
    for number, promise in promises(out):
        done = _done_uri(out, number)
        yield promise, storage.read_json(done) if storage.exists(done) else None


def _joined(uris: list[str]) -> tuple[bytes, int]:
    """Parquet files one after the other as one, read a few at a time; its bytes and rows."""
    sink, rows = pa.BufferOutputStream(), 0
    writer: pq.ParquetWriter | None = None
    for table in _groups(uris):
        writer = writer or pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True)
        writer.write_table(table, row_group_size=GROUP_ROWS)
        rows += len(table)
    if writer is not None:
        writer.close()
    return sink.getvalue().to_pybytes(), rows


def _groups(uris: list[str]) -> Iterator[pa.Table]:
    """Tables of GROUP_ROWS rows or more."""
    waiting: list[pa.Table] = []
    for uri in uris:
        waiting.append(storage.read_parquet(uri))
        if sum(map(len, waiting)) >= GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _uri(out: str, number: int) -> str:
    return storage.join(out, "_files", f"{number:06d}.json")


def _done_uri(out: str, number: int) -> str:
    return storage.join(out, "_files", f"{number:06d}.done.json")
