"""One unit's commit: its rows are written as part files first, then the marker that makes them count is created.

In: a unit's analyzed and rejected rows. Out: OUT/_parts/<folder>/<unit>-<attempt>.parquet, OUT/_units/<unit>.json.
"""

import json
import uuid
from collections.abc import Iterable
from typing import NotRequired, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from ray_app import storage
from ray_app.data.reviews import Unit


class PartFile(TypedDict):
    """A part file: its name in the folder OUT/_parts/<folder>, its rows and bytes."""

    name: str
    rows: int
    bytes: int


class UnitFacts(TypedDict):
    """What was counted while a unit was analyzed; `unreadable` is the reason where none of its rows could be read."""

    findings: int
    work: dict[str, float]
    unreadable: NotRequired[str]


class CommitRecord(UnitFacts):
    """A commit marker's content: the unit, how its rows came out, its part files by output folder, its facts."""

    id: str
    file: str
    version: str
    row_group: int
    skip: int
    first: int
    rows: int
    rows_in: int
    analysed: int
    rejected: int
    parts: dict[str, PartFile]


def commit(
    out: str,
    unit: Unit,
    analyzed: pa.Table | None,
    rejected: pa.Table,
    facts: UnitFacts,
    partition_by: str = "",
) -> CommitRecord:
    """Writes the unit's part files, then creates the marker that names them; returns the marker's record.

    Where two processes commit the same unit the first wins: no marker names the other's part files. `analyzed` is None
    where the unit could not be read; its one reject then stands for all its rows. Raises RuntimeError where rows would
    be lost.
    """
    accepted = 0 if analyzed is None else len(analyzed)
    refused = unit.rows if analyzed is None else len(rejected)
    if accepted + refused != unit.rows:
        raise RuntimeError(f"{unit.file} rows {unit.first}..: {unit.rows} in, {accepted} analyzed, {refused} rejected")
    parts: dict[str, PartFile] = {}
    name = f"{unit.id}-{uuid.uuid4().hex[:8]}.parquet"
    for folder, table in _folders(analyzed, rejected, partition_by):
        size = storage.write_parquet(part(out, folder, name), table)
        parts[folder] = {"name": name, "rows": len(table), "bytes": size}
    record = _record(unit, accepted, refused, parts, facts)
    if storage.create(marker(out, unit.id), json.dumps(record, ensure_ascii=False).encode()):
        return record
    winner: CommitRecord = storage.read_json(marker(out, unit.id))
    return winner


def _record(unit: Unit, analyzed: int, rejected: int, parts: dict[str, PartFile], facts: UnitFacts) -> CommitRecord:
    return {
        "id": unit.id,
        "file": unit.file,
        "version": unit.version,
        "row_group": unit.row_group,
        "skip": unit.skip,
        "first": unit.first,
        "rows": unit.rows,
        "rows_in": unit.rows,
        "analysed": analyzed,
        "rejected": rejected,
        "parts": parts,
        **facts,
    }


def part(out: str, folder: str, name: str) -> str:
    """The part file in which a unit's rows of one output folder wait until they are published."""
    return storage.join(out, "_parts", folder, name)


def marker(out: str, unit_id: str) -> str:
    """The file whose existence means that the unit is committed."""
    return storage.join(out, "_units", f"{unit_id}.json")


def _folders(analyzed: pa.Table | None, rejected: pa.Table, partition_by: str) -> Iterable[tuple[str, pa.Table]]:
    """The output folders that the unit has rows for; a folder's name holds its partition's value, as in Hive."""
    if len(rejected):
        yield "rejected", rejected
    if analyzed is None or not len(analyzed):
        return
    if not partition_by:
        yield "data", analyzed
        return
    values = analyzed[partition_by]
    for value in pc.unique(values):
        same = pc.is_null(values) if not value.is_valid else pc.equal(values, value)
        name = storage.safe_name(str(value.as_py()) if value.is_valid else "")
        yield f"data/{partition_by}={name}", analyzed.filter(same).drop_columns([partition_by])
