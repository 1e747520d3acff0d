"""A unit's rows written, then the marker that makes them count."""

import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ray_app import storage
from ray_app.data.reviews import Unit


def commit(
    out: str,
    unit: Unit,
    analyzed: pa.Table | None,
    rejected: pa.Table,
    facts: dict[str, Any],
    partition_by: str = "",
) -> dict[str, Any]:
    """Writes the unit's parts, then creates the marker that names them; returns the marker's record.

    Of two that commit the same unit the first decides: the other's parts have names that no marker knows. Raises
    RuntimeError where rows would be lost.
    """
    accepted = 0 if analyzed is None else len(analyzed)
    refused = unit.rows if analyzed is None else len(rejected)
    if accepted + refused != unit.rows:
        raise RuntimeError(f"{unit.file} rows {unit.first}..: {unit.rows} in, {accepted} analysed, {refused} rejected")
    parts = {}
    name = f"{unit.id}-{uuid.uuid4().hex[:8]}.parquet"
    for folder, table in _folders(analyzed, rejected, partition_by):
        size = storage.write_parquet(part(out, folder, name), table)
        parts[folder] = {"name": name, "rows": len(table), "bytes": size}
    record = {**asdict(unit), "rows_in": unit.rows, "analysed": accepted, "rejected": refused, "parts": parts, **facts}
    if storage.create(marker(out, unit.id), json.dumps(record, ensure_ascii=False).encode()):
        return record
    first: dict[str, Any] = storage.read_json(marker(out, unit.id))
    return first


def part(out: str, folder: str, name: str) -> str:
    """Where a unit's rows of one output folder wait until they are published."""
    return storage.join(out, "_parts", folder, name)


def marker(out: str, unit: str) -> str:
    return storage.join(out, "_units", f"{unit}.json")


def _folders(analyzed: pa.Table | None, rejected: pa.Table, partition_by: str) -> Iterable[tuple[str, pa.Table]]:
    """The output folders that a unit has rows for; a partition's value is in its folder's name, as in Hive."""
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
