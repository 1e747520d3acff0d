"""Checks an output: every unit committed, every row in exactly one file, every file as it was written.

In: the folder that `jobs.analyze` wrote. Out: one line per fault, and exit code 1 where there are any.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog import manifest
from ray_app.catalog.commit import CommitRecord
from ray_app.catalog.compaction import FilePromise, PublishedFile, published
from ray_app.cli import FAILED
from ray_app.data.reviews import THREADS
from ray_app.errors import UserError
from ray_app.options import Options, option

SHOWN = 20  # faults that are listed; the others are counted

File = tuple[FilePromise, PublishedFile | None]


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
    records = {record["id"]: record for record in manifest.committed(out)}
    files = list(published(out))
    faults = [*_units(run, records), *_rows(records, files), *_files(out, files, config.hashes), *_foreign(out, files)]
    for fault in faults[:SHOWN]:
        print(fault)
    if len(faults) > SHOWN:
        print(f"and {len(faults) - SHOWN:,} more")
    rows = sum(record["rows_in"] for record in records.values())
    print(
        f"{config.output}: {len(run.units):,} units, {rows:,} rows committed, {len(files):,} files; "
        f"{f'{len(faults):,} faults' if faults else 'complete and unchanged'}"
    )
    return FAILED if faults else 0


def _units(run: manifest.Run, records: Mapping[str, CommitRecord]) -> Iterator[str]:
    """Units without a commit, or whose counts do not add up to their rows."""
    for unit in run.units:
        record = records.get(unit.id)
        if record is None:
            yield f"not analyzed: {unit.file}, rows {unit.first:,} to {unit.first + unit.rows - 1:,}"
        elif record["analysed"] + record["rejected"] != unit.rows:
            yield f"{unit.file}, rows {unit.first:,}..: {record['analysed']} + {record['rejected']} of {unit.rows}"


def _rows(records: Mapping[str, CommitRecord], files: Sequence[File]) -> Iterator[str]:
    """Units whose rows for a folder are in no file of it, or in several; files with other rows than their units'."""
    copies = Counter((promise["folder"], unit) for promise, _ in files for unit in promise["units"])
    committed = {
        (folder, unit): part["rows"] for unit, record in records.items() for folder, part in record["parts"].items()
    }
    for folder, unit in committed.keys() | copies.keys():
        if copies[folder, unit] != 1 or (folder, unit) not in committed:
            yield f"unit {unit}: its rows for {folder} are in {copies[folder, unit]} files"
    for promise, done in files:
        rows = sum(committed.get((promise["folder"], unit), 0) for unit in promise["units"])
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
        if not storage.exists(uri):
            return "missing"
        if hashes and hashlib.sha256(storage.read_bytes(uri)).hexdigest() != done["sha256"]:
            return "changed since it was written"
        with storage.open_input(uri) as source:
            parquet = pq.ParquetFile(source)
            rows = parquet.metadata.num_rows
            return parquet.schema_arrow if rows == done["rows"] else f"{rows:,} rows, {done['rows']:,} were written"
    except (pa.ArrowException, OSError) as error:
        return f"unreadable: {error}"


def _foreign(out: str, files: Sequence[File]) -> Iterator[str]:
    """Parquet files that no run wrote: readers of the folder would read them too."""
    ours = {storage.join(out, done["file"]) for _, done in files if done}
    for folder in ("data", "rejected"):
        uri = storage.join(out, folder)
        present = storage.list_files(uri, ".parquet") if storage.exists(uri) else []
        yield from (f"{file.uri}: not written by this run" for file in present if file.uri not in ours)
