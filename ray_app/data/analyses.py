"""The analyses of a catalog as a stream of batches, and single rows of it by position.

In: what `jobs.analyze` wrote, or any Parquet files with its columns. Out: tables, and the position of every row:
file number << 40 | row in the file. Partition columns (folders such as `mall=A/`) are columns like the others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.arrays import Floats, Ints
from ray_app.errors import UserError, check, closest, first_line

BATCH = 16_384  # rows of a file that are in memory at a time
FILE_SHIFT = 40  # bits of a position that number the row
SCORES = "findings.score_probabilities"  # as a column name: only this field of `findings`


@dataclass(frozen=True, kw_only=True)
class Analyses:
    """Files in order, their columns, and the `_run.json` of the run that wrote them ({} where there is none)."""

    uri: str
    files: tuple[str, ...]
    columns: tuple[str, ...]
    facts: dict[str, Any]

    def require(self, name: str, why: str, remedy: str) -> None:
        """Raises UserError, saying `why` and the `remedy`, unless the column exists."""
        check(name in self.columns, f"{why}: {self.uri} has no column {name!r}{closest(name, self.columns)}; {remedy}")


def open_analyses(uri: str) -> Analyses:
    """Lists the files of an analysis. Raises UserError where there are none, or where they lack review_id."""
    data = storage.join(uri, "data")
    files = [file.uri for file in storage.list_files(data if storage.exists(data) else uri, ".parquet")]
    check(files, f"{uri}: {unfinished(uri, True) or 'no analyses there; make some with python -m jobs.analyze'}")
    run = storage.join(uri, "_run.json")
    with _opened(files[0]) as first:
        columns = (*first.schema_arrow.names, *_partition(files[0]))
    analyses = Analyses(
        uri=uri, files=tuple(files), columns=columns, facts=storage.read_json(run) if storage.exists(run) else {}
    )
    analyses.require("review_id", "review_id", "make analyses with python -m jobs.analyze")
    return analyses


def unfinished(uri: str, nothing: bool = False) -> str:
    """What to say of an output that jobs.analyze has not finished, or is adding to; "" of others.

    `nothing`: no file is there yet.
    """
    folder = storage.join(uri, "_lease")
    leases = sorted(file.uri for file in storage.list_files(folder, ".json")) if storage.exists(folder) else []
    held = bool(leases) and not storage.read_json(leases[-1]).get("released")
    begun = storage.exists(storage.join(uri, "_plan"))
    if not held and (not begun or storage.exists(storage.join(uri, "_run.json"))):
        return ""
    remedy = "wait for jobs.analyze, or run it again to resume"
    return f"nothing is analyzed there yet; {remedy}" if nothing else f"{uri}: not all is analyzed there yet; {remedy}"


def stream(
    analyses: Analyses, columns: Sequence[str], rows: int = BATCH, threads: bool = False
) -> Iterator[tuple[Ints, pa.Table]]:
    """(positions, table) per batch of at most `rows` rows, with the named columns only.

    `findings.score` or `findings.highlight.word` is only this field of the column. `threads` decodes columns at once.
    """
    for number, uri in enumerate(analyses.files):
        with _opened(uri) as parquet:
            first = 0
            for batch in parquet.iter_batches(rows, columns=_paths(parquet, columns), use_threads=threads):
                positions = np.arange(first, first + len(batch), dtype=np.int64) | (number << FILE_SHIFT)
                first += len(batch)
                yield positions, _with_partition(pa.Table.from_batches([batch]), uri, columns)


def take(analyses: Analyses, positions: Ints, columns: Sequence[str]) -> pa.Table:
    """The rows at `positions`, in that order; reads only the row groups that hold one.

    `findings.score` or `findings.highlight` is only this field of the column.
    """
    order = np.argsort(positions, kind="stable")
    ascending = positions[order]
    tables = []
    for number in np.unique(ascending >> FILE_SHIFT):
        uri = analyses.files[number]
        rows = ascending[ascending >> FILE_SHIFT == number] & ((1 << FILE_SHIFT) - 1)
        with _opened(uri) as parquet:
            stored = [name for name in columns if name not in _partition(uri)]
            read = _rows(parquet, rows, _paths(parquet, stored))
            tables += [_with_partition(table, uri, columns) for table in read]
    if not tables:
        with _opened(analyses.files[0]) as parquet:
            empty = _with_partition(parquet.schema_arrow.empty_table(), analyses.files[0], columns)
            return empty.select(list(columns))
    return pa.concat_tables(tables, promote_options="default").take(pa.array(np.argsort(order)))


def matrix(lists: pa.ChunkedArray) -> Floats:
    """A column whose lists all have the same length -> [rows, length]."""
    flat = lists.combine_chunks().flatten()
    values = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return np.asarray(values.reshape(len(lists), len(values) // max(1, len(lists))))


def column(analyses: Analyses, positions: Ints, name: str) -> Floats:
    """[rows, length] a column whose lists all have the same length, at `positions`."""
    return matrix(take(analyses, positions, [name])[name])


def score_matrix(findings: pa.ChunkedArray) -> tuple[Floats, Ints]:
    """`findings` -> ([findings, scores] score probabilities, [findings] the row of each)."""
    lists = findings.combine_chunks()
    row = lists.value_parent_indices().to_numpy().astype(np.int64)
    values = lists.flatten().field("score_probabilities")
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(row), len(flat) // max(1, len(row))), np.float32), row


def _partition(uri: str) -> dict[str, str | None]:
    """A file's partition columns, from the folders below `data` of an output."""
    return storage.partition(uri, uri.rpartition("/data/")[0] + "/data") if "/data/" in uri else {}


def _with_partition(table: pa.Table, uri: str, columns: Sequence[str]) -> pa.Table:
    """A file's rows with those of `columns` that are partition columns."""
    for name, value in _partition(uri).items():
        if name in columns:
            table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    return table


def _rows(parquet: pq.ParquetFile, rows: Ints, columns: list[str]) -> Iterator[pa.Table]:
    """The rows with these ascending numbers in one file, a table per row group that holds any."""
    first = 0
    for group in range(parquet.num_row_groups):
        end = first + parquet.metadata.row_group(group).num_rows
        in_group = rows[(rows >= first) & (rows < end)] - first
        if len(in_group):
            yield parquet.read_row_group(group, columns=columns).take(pa.array(in_group))
        first = end


def _paths(parquet: pq.ParquetFile, columns: Sequence[str]) -> list[str]:
    """Column names as Parquet wants them: a nested field by its path, which depends on the writer."""
    paths = [parquet.schema.column(i).path for i in range(len(parquet.schema))]
    stored = set(parquet.schema_arrow.names)
    found = []
    for name in columns:
        outer, _, inner = name.partition(".")
        if name in stored:
            found.append(name)
        elif inner:
            found += [path for path in paths if path.startswith(f"{outer}.") and f".{inner}." in f"{path}."]
    return found


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    """A file's Parquet reader. Raises UserError where it cannot be read."""
    try:
        with storage.open_input(uri) as source:
            yield pq.ParquetFile(source, pre_buffer=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{uri}: not a readable Parquet file: {first_line(error)}") from None
