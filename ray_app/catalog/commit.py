"""One unit's commit: its rows are written as part files first, then the marker that makes them count is created.

In: a unit's analyzed and rejected rows. Out: OUT/_parts/<folder>/<unit>-<attempt>.parquet, OUT/_units/<unit>.json.

Records are gathered, so that the next driver opens a few files and not every marker: OUT/_log/000000.json is a list of
1,000. A marker alone decides that its unit counts: a record whose marker is not there is left out, and markers that no
file of the log knows are read themselves.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NotRequired, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from ray_app import storage
from ray_app.catalog.output import partitions, reject_reasons
from ray_app.catalog.output.flat_findings import FOLDER, flat_table
from ray_app.catalog.output.reject_reasons import Reason
from ray_app.data.reviews import THREADS, Unit

RECORDS = 1_000  # per file of the log; fewer stay in their markers


class PartFile(TypedDict):
    """A part file: its name in the folder OUT/_parts/<folder>, its rows and bytes."""

    name: str
    rows: int
    bytes: int


class UnitFacts(TypedDict):
    """What was counted while a unit was analyzed; `repaired`: per kept column the values that were not UTF-8."""

    findings: int
    work: dict[str, float]
    repaired: NotRequired[dict[str, int]]


class CommitRecord(UnitFacts):
    """A commit marker's content: the unit, how its rows came out, its part files by output folder, its facts.

    `file` to `rows` are the unit's first piece, `pieces` all of them where it has several. `unreadable` has the files
    with rows that could not be read, and why; in records of earlier releases it is the reason alone.
    """

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
    pieces: NotRequired[list[tuple[str, int, int]]]
    unreadable: NotRequired[dict[str, str] | str]
    reasons: NotRequired[dict[str, Reason]]
    shortened: NotRequired[dict[str, str]]


def commit(
    out: str,
    unit: Unit,
    analyzed: pa.Table | None,
    rejected: pa.Table,
    facts: UnitFacts,
    partition_by: str = "",
    findings: bool = False,
) -> CommitRecord:
    """Writes the unit's part files, then creates the marker that names them; returns the marker's record.

    Where two processes commit the same unit the first wins: no marker names the other's part files. `analyzed` is None
    where the unit could not be read. `findings`: also write the flat table. Raises RuntimeError where rows would be
    lost: the rows of the part files, as their own footers count them, must be the unit's.
    """
    accepted = 0 if analyzed is None else len(analyzed)
    refused = pc.sum(rejected["rows"]).as_py() or 0
    if accepted + refused != unit.rows:
        raise RuntimeError(f"{_place(unit)}: {unit.rows} in, {accepted} analyzed, {refused} rejected")
    folders = list(_folders(analyzed, rejected, partition_by))
    written = sum(len(table) for folder, table in folders if folder != "rejected")
    if written != accepted:
        raise RuntimeError(f"{_place(unit)}: {accepted} rows analyzed, {written} to be written")
    if findings and analyzed is not None and facts["findings"]:
        folders.append((FOLDER, flat_table(analyzed)))
    parts: dict[str, PartFile] = {}
    for folder, table in folders:
        # A name of its own per folder: where a file system takes two folders for one, neither part replaces the other.
        name = f"{unit.id}-{uuid.uuid4().hex[:8]}.parquet"
        size = storage.write_parquet(part(out, folder, name), table)
        parts[folder] = {"name": name, "rows": len(table), "bytes": size}
    record = _record(unit, accepted, refused, parts, facts)
    _add_remarks(record, unit, analyzed, rejected, partition_by)
    if storage.create(marker(out, unit.id), json.dumps(record, ensure_ascii=False).encode()):
        return record
    winner: CommitRecord = storage.read_json(marker(out, unit.id))
    return winner


def _record(unit: Unit, analyzed: int, rejected: int, parts: dict[str, PartFile], facts: UnitFacts) -> CommitRecord:
    first = unit.head
    record: CommitRecord = {
        "id": unit.id,
        "file": first.file,
        "version": first.version,
        "row_group": first.row_group,
        "skip": first.skip,
        "first": first.first,
        "rows": unit.rows,
        "rows_in": unit.rows,
        "analysed": analyzed,
        "rejected": rejected,
        "parts": parts,
        "findings": facts["findings"],
        "work": facts["work"],
    }
    if "repaired" in facts:
        record["repaired"] = facts["repaired"]
    return record


def _add_remarks(
    record: CommitRecord, unit: Unit, analyzed: pa.Table | None, rejected: pa.Table, partition_by: str
) -> None:
    """Adds what a record says only where there is something to say."""
    if len(unit.pieces) > 1:
        record["pieces"] = [(piece.file, piece.first, piece.rows) for piece in unit.pieces]
    if len(rejected):
        record["reasons"] = reject_reasons.count(rejected)
    if unreadable := reject_reasons.unreadable(rejected):
        record["unreadable"] = unreadable
    if (
        partition_by
        and analyzed is not None
        and (shortened := partitions.shortened(analyzed[partition_by], partition_by))
    ):
        record["shortened"] = shortened


def _place(unit: Unit) -> str:
    return f"{unit.head.file} rows {unit.head.first}.."


def part(out: str, folder: str, name: str) -> str:
    """The part file in which a unit's rows of one output folder wait until they are published."""
    return storage.join(out, "_parts", folder, name)


def marker(out: str, unit_id: str) -> str:
    """The file whose existence means that the unit is committed."""
    return storage.join(out, "_units", f"{unit_id}.json")


def _folders(analyzed: pa.Table | None, rejected: pa.Table, partition_by: str) -> Iterable[tuple[str, pa.Table]]:
    """The output folders that the unit has rows for: rows are grouped by the folder that they will lie in."""
    if len(rejected):
        yield "rejected", rejected
    if analyzed is None or not len(analyzed):
        return
    if not partition_by:
        yield "data", analyzed
        return
    for folder, rows in partitions.rows_by_folder(analyzed[partition_by], partition_by).items():
        yield f"data/{folder}", analyzed.take(rows).drop_columns([partition_by])


class CommitLog:
    """Gathers the records that a run counts. For one driver at a time."""

    def __init__(self, out: str) -> None:
        self.folder = storage.join(out, "_log")
        self.number = len(storage.list_files(self.folder)) if storage.exists(self.folder) else 0
        self.waiting: list[CommitRecord] = []

    def add(self, record: CommitRecord) -> None:
        """Takes a record that no file of the log has; writes a file once there are enough."""
        self.waiting.append(record)
        if len(self.waiting) >= RECORDS:
            data = json.dumps(self.waiting, ensure_ascii=False).encode()
            storage.create(storage.join(self.folder, f"{self.number:06d}.json"), data)  # a marker remains in any case
            self.waiting, self.number = [], self.number + 1


def committed(out: str) -> Iterator[tuple[CommitRecord, bool]]:
    """The record of every commit marker, and whether the log has it."""
    units, log = storage.join(out, "_units"), storage.join(out, "_log")
    files = storage.list_files(units) if storage.exists(units) else []
    left = {file.uri.rpartition("/")[2].removesuffix(".json"): file.uri for file in files if file.uri.endswith(".json")}
    logged = [file.uri for file in storage.list_files(log)] if storage.exists(log) else []
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(logged), THREADS):  # a few at a time: each holds a megabyte
            for records in pool.map(_records, logged[first : first + THREADS]):
                yield from ((record, True) for record in records if left.pop(record["id"], None))
        yield from ((record, False) for record in pool.map(storage.read_json, left.values()))


def _records(uri: str) -> list[CommitRecord]:
    records: list[CommitRecord] = storage.read_json(uri)
    return records
