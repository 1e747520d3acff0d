"""The analyses of a catalog as a stream of a few thousand rows, and single rows of it by their place.

In: what `jobs.analyze` wrote, or any Parquet files with its columns. Out: tables, and for each row its place: the
position of the file and the row in it. A column that folders stand for (`mall=A/`) is one like the others.
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
SCORES = "findings.score_probabilities"  # a column to ask for: of `findings` only these


@dataclass(frozen=True, kw_only=True)
class Analyses:
    """Files in order, the columns they have, and what the run that wrote them says of itself."""

    uri: str
    files: tuple[str, ...]
    columns: tuple[str, ...]
    facts: dict[str, Any]

    def require(self, name: str, why: str, remedy: str) -> None:
        """Raises UserError unless there is such a column."""
        check(name in self.columns, f"{why}: {self.uri} has no column {name!r}{closest(name, self.columns)}; {remedy}")


def open_analyses(uri: str) -> Analyses:
    """Lists the committed files of an analysis. Raises UserError where there are none."""
    data = storage.join(uri, "data")
    files = [file.uri for file in storage.list_files(data if storage.exists(data) else uri, ".parquet")]
    check(files, f"{uri}: no analyses there; make some with python -m jobs.analyze")
    run = storage.join(uri, "_run.json")
    with _opened(files[0]) as first:
        columns = (*first.schema_arrow.names, *_partition(files[0]))
    found = Analyses(
        uri=uri, files=tuple(files), columns=columns, facts=storage.read_json(run) if storage.exists(run) else {}
    )
    found.require("review_id", "review_id", "make analyses with python -m jobs.analyze")
    return found


def stream(analyses: Analyses, columns: Sequence[str]) -> Iterator[tuple[Ints, pa.Table]]:
    """(places, table) of every batch, with the named columns only."""
    for number, uri in enumerate(analyses.files):
        with _opened(uri) as parquet:
            first = 0
            for batch in parquet.iter_batches(BATCH, columns=_paths(parquet, columns), use_threads=False):
                rows = np.arange(first, first + len(batch), dtype=np.int64)
                first += len(batch)
                yield rows | (number << 40), _completed(pa.Table.from_batches([batch]), uri, columns)


def take(analyses: Analyses, places: Ints, columns: Sequence[str]) -> pa.Table:
    """The rows at `places`, in that order; reads only row groups that hold one."""
    order = np.argsort(places, kind="stable")
    parts = []
    for number in np.unique(places >> 40):
        uri = analyses.files[number]
        wanted = places[order][places[order] >> 40 == number] & ((1 << 40) - 1)
        with _opened(uri) as parquet:
            inside = [name for name in columns if name not in _partition(uri)]
            parts += [_completed(table, uri, columns) for table in _rows(parquet, wanted, inside)]
    if not parts:
        with _opened(analyses.files[0]) as parquet:
            empty = _completed(parquet.schema_arrow.empty_table(), analyses.files[0], columns)
            return empty.select(list(columns))
    return pa.concat_tables(parts, promote_options="default").take(pa.array(np.argsort(order)))


def matrix(lists: pa.ChunkedArray) -> Floats:
    """A column of lists of one length -> [rows, length]."""
    flat = lists.combine_chunks().flatten()
    values = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return np.asarray(values.reshape(len(lists), len(values) // max(1, len(lists))))


def column(analyses: Analyses, places: Ints, name: str) -> Floats:
    """[rows, length] a column of lists of one length, of the rows at `places`."""
    return matrix(take(analyses, places, [name])[name])


def score_matrix(findings: pa.ChunkedArray) -> tuple[Floats, Ints]:
    """`findings` -> [findings, scores] score probabilities and [findings] the row of each."""
    whole = findings.combine_chunks()
    row = whole.value_parent_indices().to_numpy().astype(np.int64)
    values = whole.flatten().field("score_probabilities")
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(row), len(flat) // max(1, len(row))), np.float32), row


def _partition(uri: str) -> dict[str, str | None]:
    """Columns that the folders of a file stand for, below the folder `data` of an output."""
    return storage.partition(uri, uri.rpartition("/data/")[0] + "/data") if "/data/" in uri else {}


def _completed(table: pa.Table, uri: str, columns: Sequence[str]) -> pa.Table:
    """A file's rows with the columns among `columns` that its folders stand for."""
    for name, value in _partition(uri).items():
        if name in columns:
            table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    return table


def _rows(parquet: pq.ParquetFile, wanted: Ints, columns: list[str]) -> Iterator[pa.Table]:
    """Rows of one file, by ascending number."""
    first = 0
    for group in range(parquet.num_row_groups):
        last = first + parquet.metadata.row_group(group).num_rows
        here = wanted[(wanted >= first) & (wanted < last)] - first
        if len(here):
            yield parquet.read_row_group(group, columns=columns).take(pa.array(here))
        first = last


def _paths(parquet: pq.ParquetFile, columns: Sequence[str]) -> list[str]:
    """Column names as Parquet wants them: a part of a nested column by its path, which differs by who wrote it."""
    outer, _, inner = SCORES.partition(".")
    paths = [parquet.schema.column(i).path for i in range(len(parquet.schema))]
    part = [path for path in paths if path.startswith(f"{outer}.") and f".{inner}." in path]
    known = set(parquet.schema_arrow.names)
    return [path for name in columns for path in (part if name == SCORES else [name] if name in known else [])]


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    try:
        with storage.open_input(uri) as source:
            yield pq.ParquetFile(source, pre_buffer=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{uri}: not a readable Parquet file: {first_line(error)}") from None
