"""A catalog as units of work: bounded row ranges of Parquet row groups, planned from the footers alone.

In: a path. Out: units and, for files that cannot be read, the reason; a unit's accepted and rejected rows. A unit's id
depends on its file, the file's version, its rows, and what analyzes it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import sample, storage
from ray_app.data.columns import Columns, find_columns, split_rows
from ray_app.data.schema import rejected_unit
from ray_app.errors import UserError, check, first_line

THREADS = 16  # footers read at once: a request to an object store takes tens of milliseconds, mostly of waiting
Footer = tuple[tuple[list[int], pa.Schema] | None, str | None]  # (rows per row group, schema), or why it is unreadable


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Rows [first, first + rows) of one version of a file: `rows` rows of `row_group` after the first `skip`."""

    id: str
    file: str
    version: str
    row_group: int
    skip: int
    first: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of the input: its version, its number of rows, and why it cannot be read (None: it can)."""

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
        """Rows of all units."""
        return sum(unit.rows for unit in self.units)

    @property
    def unreadable(self) -> list[Source]:
        """The files that cannot be read."""
        return [source for source in self.sources if source.reason]


def resolve_input(uri: str) -> str:
    """An input's path, independent of the working directory; `sample` is the shipped catalog."""
    return storage.absolute(str(sample.CATALOG) if uri == "sample" else uri)


def read_first_texts(uri: str, mapping: str, count: int) -> list[str]:
    """The first `count` accepted reviews of an input; `mapping` is `--columns`. Raises UserError as `plan` does."""
    planned = plan(resolve_input(uri), mapping, (), 2_000, "")
    texts: list[str] = []
    for unit in planned.units:
        accepted, _ = read(unit, planned.columns)
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
    """Plans an input from its footers.

    Args:
        mapping, keep: `--columns` and `--keep`.
        unit_rows: most rows per unit.
        fingerprint: identifies what analyzes the units; a part of their ids.
        limit: rows to plan, 0 for all.
        known: the columns of the run that this input is added to, instead of `mapping` and `keep`.
        done: files to leave out.

    Raises UserError where nothing can be read, or where columns are missing.
    """
    files = storage.list_files(uri, ".parquet")
    check(files, f"{uri}: no Parquet files there")
    files = [file for file in files if file.uri not in done]
    sources: list[Source] = []
    units: list[Unit] = []
    columns = known
    for file, (footer, reason) in _footers(files):
        groups: list[int] = []
        if footer is not None:
            groups, schema = footer
            columns = columns or find_columns(schema, mapping, keep, file.uri)
            reason = columns.misfit(schema)
        if reason is None:
            units += _units(file, groups, unit_rows, fingerprint)
        sources.append(Source(file=file.uri, version=file.version, rows=0 if reason else sum(groups), reason=reason))
    if columns is None:
        raise UserError(f"{uri}: no readable Parquet file; the first: {sources[0].reason if sources else ''}")
    return Plan(tuple(sources), _limited(units, limit), columns)


def read(unit: Unit, columns: Columns) -> tuple[pa.Table | None, pa.Table]:
    """A unit's accepted and rejected rows; accepted is None where the unit could not be read at all.

    Raises UnavailableError where storage does not answer: that is no reason to reject rows.
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


def _footers(files: Sequence[storage.FileInfo]) -> Iterator[tuple[storage.FileInfo, Footer]]:
    """Every file with its footer, THREADS read at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield from zip(files, pool.map(_footer, files), strict=True)


def _footer(file: storage.FileInfo) -> Footer:
    """One file's footer."""
    try:
        with storage.open_input(file.uri, file.version) as source:
            parquet = pq.ParquetFile(source)
            footer = parquet.metadata
            rows = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
            return (rows, parquet.schema_arrow), None
    except (pa.ArrowException, OSError) as error:
        return None, f"unreadable Parquet file: {first_line(error)}"


def _units(file: storage.FileInfo, groups: Sequence[int], unit_rows: int, fingerprint: str) -> list[Unit]:
    """Cuts row groups of these sizes into units."""
    units, first = [], 0
    for group, size in enumerate(groups):
        for skip in range(0, size, unit_rows):
            rows = min(unit_rows, size - skip)
            key = f"{file.uri}|{file.version}|{group}|{skip}|{rows}|{fingerprint}"
            identity = hashlib.sha256(key.encode()).hexdigest()[:16]
            units.append(
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
    return units


def _limited(units: Sequence[Unit], limit: int) -> tuple[Unit, ...]:
    """The units of the first `limit` rows, the last one cut; all where `limit` is 0."""
    if not limit:
        return tuple(units)
    limited: list[Unit] = []
    left = limit
    for unit in units:
        if left <= 0:
            break
        limited.append(unit if unit.rows <= left else replace(unit, id=f"{unit.id}-{left}", rows=left))
        left -= unit.rows
    return tuple(limited)
