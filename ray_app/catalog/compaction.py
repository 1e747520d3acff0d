"""Part files of units -> the output files that people read: few and large, each row in exactly one of them, for good.

    OUT/_parts/<folder>/<unit>-<attempt>.parquet  ->  OUT/<folder>/part-000000.parquet

A file is promised first (`_files/000000.json`: its folder, its units and their part files; created once), then written,
then marked done with its rows, bytes and hash, and only then are its part files removed. Whatever dies in between, the
promise says what to do again. Files are written by threads beside the run. Rows that are not published yet are in no
file that a reader sees: readers leave out names that begin with `_`.
"""

import hashlib
import itertools
import json
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NotRequired, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog.commit import CommitRecord, part
from ray_app.catalog.output.flat_findings import FOLDER, KEPT, OWN
from ray_app.data.arrow_csv import to_csv
from ray_app.data.column_types import Seen, common_type
from ray_app.data.reviews import THREADS
from ray_app.data.schema import with_opinions, with_rows
from ray_app.data.values import conform
from ray_app.errors import check

TARGET_BYTES = 128 << 20  # what Parquet readers like: 64 to 512 MB
CSV_FOLDER = f"{FOLDER}_csv"
CPUS_PER_WRITER, MOST_WRITERS = 4, 4  # output files that are written at once: each is in memory two or three times
GROUP_ROWS = 50_000  # rows per row group, unless the next part file has more: part files have a few thousand each


class FilePromise(TypedDict):
    """An output file to be written: its folder, and the part file of each of its units, in order."""

    folder: str
    units: dict[str, str]


class PublishedFile(TypedDict):
    """An output file that was written: its path below OUT, its rows, bytes and hash."""

    file: str
    rows: int
    bytes: int
    sha256: str
    csv: NotRequired["CsvFile"]


class CsvFile(TypedDict):
    """The same rows as CSV: path below OUT, bytes and hash."""

    file: str
    bytes: int
    sha256: str


class Publisher:
    """Collects committed units and publishes a folder's once they fill a file. For one driver at a time.

    Opening it writes the files that an earlier run promised and did not finish.

    Args:
        target_bytes: bytes of part files that make an output file.
        group_rows: least rows of a row group.
        csv: also write the flat table of findings as CSV.
        types: the kept columns' types, which output files have.
    """

    def __init__(
        self,
        out: str,
        target_bytes: int = TARGET_BYTES,
        group_rows: int = GROUP_ROWS,
        csv: bool = False,
        types: pa.Schema | None = None,
    ) -> None:
        self.out, self.target, self.group_rows, self.csv = out, target_bytes, group_rows, csv
        self.types = types or pa.schema([])
        self.waiting: dict[str, dict[str, str]] = {}  # folder -> unit -> part file
        self.sizes: dict[str, int] = {}  # folder -> bytes that wait
        self.promised: dict[str, set[str]] = {}  # folder -> units
        self.number = 0
        for promise, done in published(out):
            self.promised.setdefault(promise["folder"], set()).update(promise["units"])
            if done is None:
                self._write(self.number, promise)
            self.number += 1
        self.writers = ThreadPoolExecutor(max(1, min(MOST_WRITERS, (os.cpu_count() or 1) // CPUS_PER_WRITER)))
        self.begun: deque[Future[None]] = deque()  # what waits for a writer is names only

    def add(self, record: CommitRecord) -> None:
        """Takes a committed unit, of this run or an earlier one, and publishes its folders that are full."""
        for folder, part_file in record["parts"].items():
            promised = self.promised.setdefault(folder, set())
            if record["id"] in promised:
                continue
            promised.add(record["id"])
            self.waiting.setdefault(folder, {})[record["id"]] = part_file["name"]
            self.sizes[folder] = self.sizes.get(folder, 0) + part_file["bytes"]
            if self.sizes[folder] >= self.target:
                self._publish(folder)

    def finish(self) -> None:
        """Publishes what is left and removes what only an unfinished run needs."""
        for folder in sorted(self.waiting):
            self._publish(folder)
        self.wait()
        for folder in ("_parts", "_tries"):
            storage.remove(storage.join(self.out, folder))

    def wait(self) -> None:
        """Returns once all promised files are written. Raises what went wrong."""
        while self.begun:
            self.begun.popleft().result()

    def close(self) -> None:
        """Ends with the files that are being written; those that only were promised are written by the next run."""
        self.writers.shutdown(cancel_futures=True)

    def recast(self) -> None:
        """Gives files of earlier plans the types to which kept columns have grown since: readers take a folder's first
        file for all. What the new file will be is noted first, so that whatever dies in between can be finished."""
        finished = [(i, done) for i, (_, done) in enumerate(published(self.out)) if done]
        files = [(i, done) for i, done in finished if done["file"].split("/")[0] in ("data", FOLDER)]
        with ThreadPoolExecutor(THREADS) as pool:
            schemas = pool.map(lambda item: storage.read_schema(storage.join(self.out, item[1]["file"])), files)
        for (number, done), schema in zip(files, schemas, strict=True):
            uri, note = storage.join(self.out, done["file"]), _recast_uri(self.out, number)
            if not schema.equals(_typed(schema, self.types)):
                sink = pa.BufferOutputStream()
                table = _conformed(storage.read_parquet(uri), _typed(schema, self.types))
                pq.write_table(table, sink, self.group_rows, compression="zstd", write_page_checksum=True)
                data = bytes(sink.getvalue())
                csv: dict[str, object] = {"csv": self._write_csv(number, data)} if "csv" in done else {}
                digest = hashlib.sha256(data).hexdigest()
                storage.write_json(note, {**done, "bytes": len(data), "sha256": digest, **csv})
                storage.write_bytes(uri, data)
            if storage.exists(note):
                storage.write_json(_done_uri(self.out, number), storage.read_json(note))
                storage.remove(note)

    def _publish(self, folder: str) -> None:
        promise: FilePromise = {"folder": folder, "units": self.waiting.pop(folder)}
        self.sizes.pop(folder)
        ours = storage.create(_promise_uri(self.out, self.number), json.dumps(promise).encode())
        check(ours, f"{self.out}: another run took it over; this one stops")
        self.begun.append(self.writers.submit(self._write, self.number, promise))
        self.number += 1
        while self.begun and self.begun[0].done():
            self.begun.popleft().result()  # raises what went wrong

    def _write(self, number: int, promise: FilePromise) -> None:
        """Writes the promised file, marks it done, removes its part files."""
        folder = promise["folder"]
        part_uris = [part(self.out, folder, name) for name in promise["units"].values()]
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(storage.read_bytes, part_uris))
        data, rows = _concatenated(parts, self.group_rows, self.types)
        file = f"{folder}/part-{number:06d}.parquet"
        storage.write_bytes(storage.join(self.out, file), data)
        done: PublishedFile = {
            "file": file,
            "rows": rows,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        if self.csv and folder == FOLDER:
            done["csv"] = self._write_csv(number, data)
        storage.write_json(_done_uri(self.out, number), done)
        storage.remove_files(part_uris)

    def _write_csv(self, number: int, parquet: bytes) -> CsvFile:
        """Writes the rows of a Parquet file as CSV, in a folder of their own: readers take a folder for one format."""
        data, file = to_csv(pq.read_table(pa.BufferReader(parquet))), f"{CSV_FOLDER}/part-{number:06d}.csv"
        storage.write_bytes(storage.join(self.out, file), data)
        return {"file": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def published(out: str) -> Iterator[tuple[FilePromise, PublishedFile | None]]:
    """Every output file that was promised, in order, with the file that was written for it; None where it was not
    finished."""
    folder = storage.join(out, "_files")
    there = {_name(file.uri) for file in storage.list_files(folder)} if storage.exists(folder) else set()
    numbers = itertools.takewhile(lambda number: _name(_promise_uri(out, number)) in there, itertools.count())

    def read(number: int) -> tuple[FilePromise, PublishedFile | None]:
        done = _done_uri(out, number)
        return storage.read_json(_promise_uri(out, number)), storage.read_json(done) if _name(done) in there else None

    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(read, numbers)


def _concatenated(parts: Sequence[bytes], group_rows: int, types: pa.Schema) -> tuple[bytes, int]:
    """Parquet files as one, in order, the rows of a few in memory at a time; its bytes and its rows."""
    sink, rows = pa.BufferOutputStream(), 0
    schema = _typed(_common_schema(parts), types)
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in _groups(parts, group_rows, schema):
            writer.write_table(table, row_group_size=group_rows)
            rows += len(table)
    return sink.getvalue().to_pybytes(), rows


def _common_schema(parts: Sequence[bytes]) -> pa.Schema:
    """The schema that holds the rows of all part files. They differ where one file holds units of two plans, between
    which a kept column's type grew, or of two releases."""
    schemas: dict[str, pa.Schema] = {}
    for data in parts:
        schema = _upgraded(pq.read_schema(pa.BufferReader(data)).empty_table()).schema
        schemas[str(schema)] = schema
    if len(schemas) == 1:
        return next(iter(schemas.values()))
    names = dict.fromkeys(name for schema in schemas.values() for name in schema.names)
    types = {n: [Seen(s.field(n).type) for s in schemas.values() if n in s.names] for n in names}
    return pa.schema([(n, seen[0].type if len(set(seen)) == 1 else common_type(seen)) for n, seen in types.items()])


def _typed(schema: pa.Schema, types: pa.Schema) -> pa.Schema:
    """The schema of a file with the kept columns' `types`."""
    known = {
        kept: one.type for one in types for kept in (one.name, f"{KEPT}{one.name}" if one.name in OWN else one.name)
    }
    flat = "keyword" in schema.names and "findings" not in schema.names
    own = set(OWN) if flat else set()  # columns of the flat table, which may have a kept column's name
    return pa.schema([(f.name, f.type if f.name in own else known.get(f.name, f.type)) for f in schema])


def _upgraded(table: pa.Table) -> pa.Table:
    """A part file's rows with the columns that this release writes."""
    return with_rows(with_opinions(table))


def _groups(parts: Sequence[bytes], group_rows: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """The files' rows as tables of `group_rows` rows or more; the last may have fewer."""
    waiting: list[pa.Table] = []
    rows = 0
    for data in parts:
        waiting.append(_conformed(_upgraded(pq.ParquetFile(pa.BufferReader(data)).read()), schema))
        rows += len(waiting[-1])
        if rows >= group_rows:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return table
    columns = [
        conform(table[f.name], f.type, Counter()) if f.name in table.column_names else pa.nulls(len(table), f.type)
        for f in schema
    ]
    return pa.table(columns, schema=schema)


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]


def _promise_uri(out: str, number: int) -> str:
    return storage.join(out, "_files", f"{number:06d}.json")


def _recast_uri(out: str, number: int) -> str:
    return storage.join(out, "_files", f"{number:06d}.recast.json")


def _done_uri(out: str, number: int) -> str:
    return storage.join(out, "_files", f"{number:06d}.done.json")
