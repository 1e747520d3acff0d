"""An output against what its run promised: every unit committed, every row in one file, every file as it was written.

In: the folder that `jobs.analyze` wrote. Out: one line a fault, and exit code 1 where there are any.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog import manifest
from ray_app.catalog.compaction import published
from ray_app.cli import FAILED
from ray_app.data.reviews import THREADS
from ray_app.errors import check
from ray_app.options import Options, option

SHOWN = 20  # faults told one by one


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.analyze verify`."""

    output: str = option("runs/analyses", "folder that jobs.analyze wrote", "Data")
    hashes: bool = option(True, "read every file and compare its hash, not only its footer", "Data")


def run(config: Config) -> int:
    """Prints what is wrong; returns 1 where anything is."""
    out = storage.absolute(config.output)
    run = manifest.load(out)
    check(run, f"{config.output}: no run of jobs.analyze there")
    assert run is not None
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


def _units(run: manifest.Run, records: dict[str, Any]) -> Iterator[str]:
    """Units without a commit, or with counts that are not its rows."""
    for unit in run.units:
        record = records.get(unit.id)
        if record is None:
            yield f"not analysed: {unit.file}, rows {unit.first:,} to {unit.first + unit.rows - 1:,}"
        elif record["analysed"] + record["rejected"] != unit.rows:
            yield f"{unit.file}, rows {unit.first:,}..: {record['analysed']} + {record['rejected']} of {unit.rows}"


def _rows(records: dict[str, Any], files: list[Any]) -> Iterator[str]:
    """Units whose rows are in no file, or in more than one."""
    held = Counter((promise["folder"], unit) for promise, _ in files for unit in promise["units"])
    parts = {
        (folder, unit): facts["rows"] for unit, record in records.items() for folder, facts in record["parts"].items()
    }
    for folder, unit in parts.keys() | held.keys():
        if held[folder, unit] != 1 or (folder, unit) not in parts:
            yield f"unit {unit}: its rows for {folder} are in {held[folder, unit]} files"
    for promise, done in files:
        rows = sum(parts.get((promise["folder"], unit), 0) for unit in promise["units"])
        if done and done["rows"] != rows:
            yield f"{done['file']}: {done['rows']:,} rows, its units have {rows:,}"


def _files(out: str, files: list[Any], hashes: bool) -> Iterator[str]:
    """Files that are not there, not whole, or not as they were written; and of another schema than the first."""
    unfinished = [promise for promise, done in files if done is None]
    yield from (f"unfinished: a file of {len(promise['units'])} units in {promise['folder']}" for promise in unfinished)
    finished = [done for _, done in files if done]
    with ThreadPoolExecutor(THREADS) as pool:
        schemas: dict[str, pa.Schema] = {}
        for done, found in zip(finished, pool.map(lambda done: _fault(out, done, hashes), finished), strict=True):
            if isinstance(found, str):
                yield f"{done['file']}: {found}"
            elif not schemas.setdefault(done["file"].split("/")[0], found).equals(found):
                yield f"{done['file']}: its columns are not those of the other files"


def _fault(out: str, done: dict[str, Any], hashes: bool) -> str | pa.Schema:
    """What is wrong with a file, or its schema."""
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


def _foreign(out: str, files: list[Any]) -> Iterator[str]:
    """Parquet files that no run wrote: readers of the folder would read them too."""
    ours = {storage.join(out, done["file"]) for _, done in files if done}
    for folder in ("data", "rejected"):
        uri = storage.join(out, folder)
        found = storage.list_files(uri, ".parquet") if storage.exists(uri) else []
        yield from (f"{file.uri}: not written by this run" for file in found if file.uri not in ours)
