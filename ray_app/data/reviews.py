"""A catalog as units of work: bounded row ranges of Parquet row groups, planned from the footers, committed one by one.

In: a path. Out: units and, for files that cannot be read, the reason. A unit's id depends on its file, the file's
version, its rows, and what analyses it; its commit marker is created last and once, so a unit counts wholly or not.

    OUT/_parts/{data/[mall=A/],rejected/}<unit>-<attempt>.parquet    OUT/_units/<unit>.json (the commit)
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import sample, storage
from ray_app.data.columns import Columns, find_columns, split_rows
from ray_app.data.schema import rejected_unit
from ray_app.errors import check, first_line

THREADS = 16  # footers read at a time: a request to an object store takes tens of milliseconds, most of it waiting


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Rows [first, first + rows) of one file of one version; `row_group` and `skip` say where they lie in it."""

    id: str
    file: str
    version: str
    row_group: int
    skip: int
    first: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of the input: its version, how many rows it has, and the reason where it cannot be read."""

    file: str
    version: str
    rows: int
    reason: str | None = None


@dataclass(frozen=True)
class Plan:
    """The input's files, their units in the same order, and the columns to read."""

    sources: tuple[Source, ...]
    units: tuple[Unit, ...]
    columns: Columns

    @property
    def rows(self) -> int:
        return sum(unit.rows for unit in self.units)

    @property
    def unreadable(self) -> list[Source]:
        return [source for source in self.sources if source.reason]


def resolve_input(uri: str) -> str:
    """Where an input lies, whatever the working directory; `sample` is the shipped catalog."""
    return storage.absolute(str(sample.CATALOG) if uri == "sample" else uri)


def read_first_texts(uri: str, mapping: str, count: int) -> list[str]:
    """The first accepted reviews of an input."""
    found = plan(resolve_input(uri), mapping, (), 2_000, "")
    texts: list[str] = []
    for unit in found.units:
        accepted, _ = read(unit, found.columns)
        texts += accepted["text"].to_pylist() if accepted is not None else []
        if len(texts) >= count:
            break
    return texts[:count]


def plan(
    uri: str,
    mapping: str,
    keep: Sequence[str],
    unit_rows: int,
    fingerprint: str,
    limit: int = 0,
    known: Columns | None = None,
    done: frozenset[str] = frozenset(),
) -> Plan:
    """Reads footers only. `known` columns hold where a run is added to; files in `done` are left out.

    Raises UserError where nothing can be read, or where columns are missing.
    """
    files = storage.list_files(uri, ".parquet")
    check(files, f"{uri}: no Parquet files there")
    files = [file for file in files if file.uri not in done]
    sources: list[Source] = []
    units: list[Unit] = []
    columns = known
    with ThreadPoolExecutor(THREADS) as pool:
        for file, (footer, reason) in zip(files, pool.map(_footer, files), strict=True):
            groups: list[int] = []
            if footer is not None:
                groups, schema = footer
                columns = columns or find_columns(schema, mapping, keep, file.uri)
                reason = columns.misfit(schema)
            if reason is None:
                units += _units(file, groups, unit_rows, fingerprint)
            sources.append(
                Source(file=file.uri, version=file.version, rows=0 if reason else sum(groups), reason=reason)
            )
    check(columns, f"{uri}: no readable Parquet file; the first: {sources[0].reason if sources else ''}")
    assert columns is not None
    return Plan(tuple(sources), _limited(units, limit), columns)


def read(unit: Unit, columns: Columns) -> tuple[pa.Table | None, pa.Table]:
    """A unit's accepted and rejected rows; accepted is None where the unit could not be read at all.

    Storage that does not answer raises UnavailableError: that is no fault of the rows.
    """
    try:
        with storage.open_input(unit.file, unit.version) as source:
            parquet = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=True)
            raw = parquet.read_row_group(unit.row_group, columns=columns.all).slice(unit.skip, unit.rows)
        return split_rows(raw, columns, unit.file, unit.first)
    except (storage.ChangedError, storage.MissingError):
        return None, rejected_unit(unit.file, unit.first, "the file was changed or removed after the run was planned")
    except (pa.ArrowException, OSError) as error:
        return None, rejected_unit(unit.file, unit.first, f"unreadable rows: {first_line(error)}")


def _footer(file: storage.FileInfo) -> tuple[tuple[list[int], pa.Schema] | None, str | None]:
    """Rows of every row group and the schema, or the reason why there are none."""
    try:
        with storage.open_input(file.uri, file.version) as source:
            parquet = pq.ParquetFile(source)
            footer = parquet.metadata
            rows = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
            return (rows, parquet.schema_arrow), None
    except (pa.ArrowException, OSError) as error:
        return None, f"unreadable Parquet file: {first_line(error)}"


def _units(file: storage.FileInfo, groups: Sequence[int], unit_rows: int, fingerprint: str) -> list[Unit]:
    found, first = [], 0
    for group, size in enumerate(groups):
        for skip in range(0, size, unit_rows):
            rows = min(unit_rows, size - skip)
            key = f"{file.uri}|{file.version}|{group}|{skip}|{rows}|{fingerprint}"
            identity = hashlib.sha256(key.encode()).hexdigest()[:16]
            found.append(
                Unit(
                    id=identity,
                    file=file.uri,
                    version=file.version,
                    row_group=group,
                    skip=skip,
                    first=first + skip,
                    rows=rows,
                )
            )
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
