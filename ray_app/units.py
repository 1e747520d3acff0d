"""A catalog as units of work: bounded row ranges of Parquet row groups, planned from the footers, committed one by one.

In: a path. Out: units and, for files that cannot be read, rejects. A unit's id depends on its file, the file's size and
time, its rows, and what analyses it; its commit marker is written last, so readers see whole units only.

    OUT/data/<unit>.parquet  OUT/rejected/<unit>.parquet  OUT/_units/<unit>.json (the commit)  OUT/_run.json
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import sample, storage
from ray_app.config import UserError, check, first_line
from ray_app.schema import Columns, find_columns, rejected_unit, split_rows


@dataclass(frozen=True)
class Unit:
    """Rows [first, first + rows) of one file; `row_group` and `skip` say where they lie in it."""

    id: str
    file: str
    row_group: int
    skip: int
    first: int
    rows: int


@dataclass(frozen=True)
class Plan:
    """Units in the order of the input, the columns to read, and files that cannot be read with their reason."""

    units: tuple[Unit, ...]
    columns: Columns
    unreadable: tuple[tuple[str, str], ...]

    @property
    def rows(self) -> int:
        return sum(unit.rows for unit in self.units)


def source(uri: str) -> str:
    """Where an input lies, whatever the working directory; `sample` is the shipped catalog."""
    return storage.absolute(str(sample.CATALOG) if uri == "sample" else uri)


def first_texts(uri: str, mapping: str, count: int) -> list[str]:
    """The first accepted reviews of an input."""
    found = plan(source(uri), mapping, "", 2_000, "")
    texts: list[str] = []
    for unit in found.units:
        accepted, _ = read(unit, found.columns)
        texts += accepted["text"].to_pylist() if accepted is not None else []
        if len(texts) >= count:
            break
    return texts[:count]


def plan(uri: str, mapping: str, keep: str, unit_rows: int, fingerprint: str, limit: int = 0) -> Plan:
    """Reads footers only. Raises UserError where nothing can be read, or where columns are missing."""
    files = storage.list_files(uri, ".parquet")
    check(files, f"{uri}: no Parquet files there")
    units: list[Unit] = []
    unreadable: list[tuple[str, str]] = []
    columns: Columns | None = None
    for file in files:
        try:
            footer, schema = _footer(file.uri)
        except (UserError, pa.ArrowException, OSError) as error:
            unreadable.append((file.uri, f"unreadable Parquet file: {first_line(error)}"))
            continue
        columns = columns or find_columns(schema, mapping, keep, file.uri)
        missing = [name for name in columns.all if name not in schema.names]
        if missing:
            unreadable.append((file.uri, f"no column {missing[0]!r} in this file"))
            continue
        units += _units(file, footer, unit_rows, fingerprint)
    check(columns, f"{uri}: no readable Parquet file; the first: {(unreadable or [('', '')])[0][1]}")
    assert columns is not None
    return Plan(_limited(units, limit), columns, tuple(unreadable))


def read(unit: Unit, columns: Columns) -> tuple[pa.Table | None, pa.Table]:
    """A unit's accepted and rejected rows; accepted is None where the unit could not be read at all."""
    try:
        filesystem, path = storage.resolve(unit.file)
        with filesystem.open_input_file(path) as source:
            parquet = pq.ParquetFile(source, page_checksum_verification=True)
            raw = parquet.read_row_group(unit.row_group, columns=columns.all).slice(unit.skip, unit.rows)
    except (UserError, pa.ArrowException, OSError) as error:
        return None, rejected_unit(unit.file, unit.first, f"unreadable rows: {first_line(error)}")
    return split_rows(raw, columns, unit.file, unit.first)


def commit(
    out: str, unit: Unit, analysed: pa.Table | None, rejected: pa.Table, facts: dict[str, Any]
) -> dict[str, Any]:
    """Writes data and rejects, then the marker. Raises RuntimeError where rows would be lost."""
    accepted = 0 if analysed is None else len(analysed)
    refused = unit.rows if analysed is None else len(rejected)
    if accepted + refused != unit.rows:
        raise RuntimeError(f"{unit.file} rows {unit.first}..: {unit.rows} in, {accepted} analysed, {refused} rejected")
    if accepted:
        storage.write_parquet(storage.join(out, "data", f"{unit.id}.parquet"), analysed)
    if len(rejected):
        storage.write_parquet(storage.join(out, "rejected", f"{unit.id}.parquet"), rejected)
    record = {**asdict(unit), "rows_in": unit.rows, "analysed": accepted, "rejected": refused, **facts}
    storage.write_json(storage.join(out, "_units", f"{unit.id}.json"), record)
    return record


def _footer(uri: str) -> tuple[pq.FileMetaData, pa.Schema]:
    filesystem, path = storage.resolve(uri)
    with filesystem.open_input_file(path) as source:
        parquet = pq.ParquetFile(source)
        return parquet.metadata, parquet.schema_arrow


def _units(file: storage.File, footer: pq.FileMetaData, unit_rows: int, fingerprint: str) -> list[Unit]:
    found, first = [], 0
    for group in range(footer.num_row_groups):
        size = footer.row_group(group).num_rows
        for skip in range(0, size, unit_rows):
            rows = min(unit_rows, size - skip)
            key = f"{file.uri}|{file.size}|{file.modified}|{group}|{skip}|{rows}|{fingerprint}"
            identity = hashlib.sha256(key.encode()).hexdigest()[:16]
            found.append(Unit(identity, file.uri, group, skip, first + skip, rows))
        first += size
    return found


def _limited(units: Sequence[Unit], limit: int) -> tuple[Unit, ...]:
    """The first `limit` rows; the last unit is cut. 0 keeps all."""
    if not limit:
        return tuple(units)
    kept: list[Unit] = []
    left = limit
    for unit in units:
        if left <= 0:
            break
        kept.append(unit if unit.rows <= left else replace(unit, id=f"{unit.id}-{left}", rows=left))
        left -= unit.rows
    return tuple(kept)
