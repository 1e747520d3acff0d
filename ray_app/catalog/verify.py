"""Checks an output: every unit committed, every row in exactly one file, every file as it was written.

In: the folder that `jobs.analyze` wrote. Out: one line per fault, and exit code 1 where there are any.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog import manifest
from ray_app.catalog.commit import CommitRecord, committed
from ray_app.catalog.compaction import FilePromise, PublishedFile, published
from ray_app.catalog.output.flat_findings import FOLDER
from ray_app.cli import FAILED
from ray_app.data.reviews import THREADS
from ray_app.errors import UserError
from ray_app.options import Options, option

SHOWN = 20  # faults that are listed; the others are counted

File = tuple[FilePromise, PublishedFile | None]


class Counts(NamedTuple):
    """What is checked of a unit's record, which is many times as large: its rows, and those of each part file."""

    rows_in: int
    analyzed: int
    rejected: int
    parts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.analyze verify`."""

    output: str = option("runs/analyses", "folder that jobs.analyze wrote", "Data")
    hashes: bool = option(True, "read every file and compare its hash, not only its footer", "Data")


def run(config: Config) -> int:
    """Prints what is wrong and a summary; returns 1 where anything is wrong. Raises UserError where no run is found."""
    out = storage.absolute(config.output)
    run = manifest.load(out)
    if run is None:
        raise UserError(f"{config.output}: no run of jobs.analyze there")
    records = {record["id"]: _counts(record) for record, _ in committed(out)}
    files = list(published(out))
    faults = [
        *_units(run, records),
        *_rows(records, files),
        *_balance(out, records, files),
        *_files(out, files, config.hashes),
        *_foreign(out, files),
    ]
    for fault in faults[:SHOWN]:
        print(fault)
    if len(faults) > SHOWN:
        print(f"and {len(faults) - SHOWN:,} more")
    rows = sum(record.rows_in for record in records.values())
    print(
        f"{config.output}: {len(run.units):,} units, {rows:,} rows committed, {len(files):,} files; "
        f"{f'{len(faults):,} faults' if faults else 'complete and unchanged'}"
    )
    return FAILED if faults else 0


def _counts(record: CommitRecord) -> Counts:
    rows = {folder: part["rows"] for folder, part in record["parts"].items()}
    return Counts(record["rows_in"], record["analysed"], record["rejected"], rows)


def _units(run: manifest.Run, records: Mapping[str, Counts]) -> Iterator[str]:
    """Units without a commit, or whose counts do not add up to their rows."""
    for unit in run.units:
        record, first = records.get(unit.id), unit.head
        rows = f"{first.file}, rows {first.first:,} to {first.first + first.rows - 1:,}"
        more = f" and {len(unit.pieces) - 1:,} more files" if len(unit.pieces) > 1 else ""
        if record is None:
            yield f"not analyzed: {rows}{more}"
        elif record.analyzed + record.rejected != unit.rows:
            yield f"{rows}{more}: {record.analyzed} + {record.rejected} of {unit.rows}"
    for plan in run.plans:
        in_files = sum(source.rows for source in plan.sources)
        if in_files != plan.rows and not run.settings["--limit"]:
            yield f"{in_files:,} rows in the input's files, {plan.rows:,} in the plan's units"


def _balance(out: str, records: Mapping[str, Counts], files: Sequence[File]) -> Iterator[str]:
    """Whether the rows that lie in the files are those that went in: analyzed in `data`, the others in `rejected`."""
    counts: dict[str, float] = {"data": 0, "rejected": 0}
    names = [done["file"] for _, done in files if done and done["file"].partition("/")[0] in counts]
    with ThreadPoolExecutor(THREADS) as pool:
        rows = pool.map(lambda name: _stands_for(storage.join(out, name), name.startswith("rejected/")), names)
        for name, some in zip(names, rows, strict=True):
            counts[name.partition("/")[0]] += some
    analyzed = sum(record.analyzed for record in records.values())
    rejected = sum(record.rejected for record in records.values())
    for folder, total in (("data", analyzed), ("rejected", rejected)):
        if counts[folder] >= 0 and counts[folder] != total:
            yield f"{folder}: its files stand for {counts[folder]:,.0f} rows, {total:,} were committed"


def _stands_for(uri: str, rejects: bool) -> float:
    """The rows that a file stands for, as the file itself says; below 0 where a release did not say it."""
    try:
        with storage.open_input(uri) as source:
            parquet = pq.ParquetFile(source)
            if not rejects:
                return float(parquet.metadata.num_rows)
            if "rows" not in parquet.schema_arrow.names:
                return -math.inf
            rows = parquet.read(columns=["rows"])["rows"]
            return -math.inf if rows.null_count else float(pc.sum(rows).as_py() or 0)
    except (pa.ArrowException, OSError, UserError):
        return -math.inf  # `_files` says what is wrong with it


def _rows(records: Mapping[str, Counts], files: Sequence[File]) -> Iterator[str]:
    """Units whose rows for a folder are in no file of it, or in several; files with other rows than their units'."""
    copies = Counter((promise["folder"], unit) for promise, _ in files for unit in promise["units"])
    written = {(folder, unit): rows for unit, record in records.items() for folder, rows in record.parts.items()}
    for folder, unit in written.keys() | copies.keys():
        if copies[folder, unit] != 1 or (folder, unit) not in written:
            yield f"unit {unit}: its rows for {folder} are in {copies[folder, unit]} files"
    for promise, done in files:
        rows = sum(written.get((promise["folder"], unit), 0) for unit in promise["units"])
        if done and done["rows"] != rows:
            yield f"{done['file']}: {done['rows']:,} rows, its units have {rows:,}"


def _files(out: str, files: Sequence[File], hashes: bool) -> Iterator[str]:
    """Files that are missing, unfinished or changed, and those whose schema is not that of their folder's first."""
    unfinished = [promise for promise, done in files if done is None]
    yield from (f"unfinished: a file of {len(promise['units'])} units in {promise['folder']}" for promise in unfinished)
    finished = [done for _, done in files if done]
    with ThreadPoolExecutor(THREADS) as pool:
        schemas: dict[str, pa.Schema] = {}
        results = pool.map(lambda done: _fault_or_schema(out, done, hashes), finished)
        for done, result in zip(finished, results, strict=True):
            if isinstance(result, str):
                yield f"{done['file']}: {result}"
            elif not schemas.setdefault(done["file"].split("/")[0], result).equals(result):
                yield f"{done['file']}: its columns are not those of the other files"


def _fault_or_schema(out: str, done: PublishedFile, hashes: bool) -> str | pa.Schema:
    """What is wrong with a file; its schema where nothing is."""
    uri = storage.join(out, done["file"])
    try:
        if not storage.is_file(uri):
            return "missing"
        if hashes and hashlib.sha256(storage.read_bytes(uri)).hexdigest() != done["sha256"]:
            return "changed since it was written"
        with storage.open_input(uri) as source:
            parquet = pq.ParquetFile(source)
            rows = parquet.metadata.num_rows
            if rows == done["rows"] and _csv_changed(out, done):
                return "the CSV of the same rows is missing or changed"
            return parquet.schema_arrow if rows == done["rows"] else f"{rows:,} rows, {done['rows']:,} were written"
    except (pa.ArrowException, OSError) as error:
        return f"unreadable: {error}"


def _csv_changed(out: str, done: PublishedFile) -> bool:
    if "csv" not in done:
        return False
    uri = storage.join(out, done["csv"]["file"])
    return not storage.is_file(uri) or hashlib.sha256(storage.read_bytes(uri)).hexdigest() != done["csv"]["sha256"]


def _foreign(out: str, files: Sequence[File]) -> Iterator[str]:
    """Parquet files that no run wrote: readers of the folder would read them too."""
    ours = {storage.join(out, done["file"]) for _, done in files if done}
    for folder in ("data", "rejected", FOLDER):
        uri = storage.join(out, folder)
        present = storage.list_files(uri, ".parquet") if storage.exists(uri) else []
        yield from (f"{file.uri}: not written by this run" for file in present if file.uri not in ours)
