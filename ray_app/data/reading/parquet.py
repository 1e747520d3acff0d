"""Parquet files: what the footer tells, and rows of a row group, a bounded number at a time.

In: a file's URI and version. Out: a Description; tables of consecutive rows. Each row group is read once, however many
units it is cut into, and its columns only.
"""

import itertools
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.data.column_types import is_text
from ray_app.data.columns import Layout
from ray_app.data.reading.description import Description
from ray_app.data.reading.units import Chunk, Piece

BUFFERED = 32 << 20  # bytes of a row group's columns from which they are streamed instead of fetched at once
STREAM = 4 << 20  # bytes per request of a column that is streamed
TOGETHER = 8  # pieces that a batch holds: every batch has a copy of the dictionary of all texts before it
PEEKED = 2_000  # rows that decide which of two columns is the id


def describe(file: storage.FileInfo) -> Description:
    """A file's row groups, schema and statistics, from its footer. Raises pa.ArrowException and OSError."""
    with storage.open_input(file.uri, file.version) as source:
        parquet = pq.ParquetFile(source)
        footer = parquet.metadata
        groups = [Chunk(rows=footer.row_group(i).num_rows, row_group=i) for i in range(footer.num_row_groups)]
        schema = parquet.schema_arrow
        return Description(
            kind="parquet", schema=schema.remove_metadata(), chunks=tuple(groups), ranges=_ranges(footer, schema)
        )


def peek(file: storage.FileInfo, names: Sequence[str]) -> pa.Table:
    """The first rows of some columns."""
    with storage.open_input(file.uri, file.version) as source:
        parquet = pq.ParquetFile(source, buffer_size=STREAM)
        batch = next(parquet.iter_batches(PEEKED, columns=list(names), row_groups=_with_rows(parquet)), None)
        table = parquet.schema_arrow.empty_table() if batch is None else pa.Table.from_batches([batch])
        return table.select(list(names))


def tables(pieces: Sequence[Piece], layout: Layout) -> Iterator[pa.Table]:
    """The rows of each piece, which all lie in one file, in their order.

    A piece's rows are in memory, and those of the batch that they end in. Raises pa.ArrowException and OSError.
    """
    with storage.open_input(pieces[0].file, pieces[0].version) as source:
        parquet = _opened(source, pieces, layout)
        for row_group, some in itertools.groupby(pieces, key=lambda piece: piece.row_group):
            yield from _of_group(parquet, row_group, list(some), layout.names)


def _of_group(parquet: pq.ParquetFile, row_group: int, pieces: Sequence[Piece], names: list[str]) -> Iterator[pa.Table]:
    """The rows of each piece of one row group, which is read once; again piece by piece where a part is damaged."""
    done = 0
    for together in (TOGETHER, 1):
        rows = max(piece.rows for piece in pieces[done:]) * together
        try:
            for table in _sliced(parquet.iter_batches(rows, row_groups=[row_group], columns=names), pieces[done:]):
                done += 1
                yield table
            return
        except (pa.ArrowException, OSError):
            if together == 1:
                raise


def _sliced(batches: Iterator[pa.RecordBatch], pieces: Sequence[Piece]) -> Iterator[pa.Table]:
    """The rows of each piece out of the batches of its row group, up to the last of them."""
    waiting: list[pa.RecordBatch] = []
    position = 0  # of the first waiting row in the row group
    for piece in pieces:
        while position + sum(map(len, waiting)) < piece.skip + piece.rows:
            waiting.append(next(batches))
            while len(waiting) > 1 and position + len(waiting[0]) <= piece.skip:
                position += len(waiting.pop(0))
        yield pa.Table.from_batches(waiting).slice(piece.skip - position, piece.rows)


def _opened(source: pa.NativeFile, pieces: Sequence[Piece], layout: Layout) -> pq.ParquetFile:
    """A reader that fetches small row groups at once and streams large ones, and keeps equal texts once: a text of
    many megabytes that all rows share takes a few kilobytes of a file."""
    footer = pq.read_metadata(source)
    wanted = set(layout.names)
    sizes = [0]
    for row_group in {piece.row_group for piece in pieces}:
        columns = [footer.row_group(row_group).column(i) for i in range(footer.num_columns)]
        sizes.append(sum(one.total_compressed_size for one in columns if one.path_in_schema.split(".")[0] in wanted))
    source.seek(0)
    return pq.ParquetFile(
        source,
        metadata=footer,
        page_checksum_verification=True,
        pre_buffer=max(sizes) < BUFFERED,
        buffer_size=0 if max(sizes) < BUFFERED else STREAM,
        read_dictionary=[layout.text] if is_text(footer.schema.to_arrow_schema().field(layout.text).type) else [],
    )


def _with_rows(parquet: pq.ParquetFile) -> list[int]:
    """The first row group with rows, if any."""
    return [i for i in range(parquet.num_row_groups) if parquet.metadata.row_group(i).num_rows][:1]


def _ranges(footer: pq.FileMetaData, schema: pa.Schema) -> dict[str, tuple[object, object]]:
    """Column -> least and greatest value, of the numbers and moments whose statistics all row groups have."""
    ranges: dict[str, tuple[object, object]] = {}
    for column in range(footer.num_columns):
        name = footer.schema.column(column).path if footer.num_row_groups else ""
        at = schema.get_field_index(name)
        if at < 0 or not _ranged(schema.field(at).type):
            continue
        ends: list[object] = []
        for group in range(footer.num_row_groups):
            found = _ends(footer.row_group(group).column(column))
            if found is None:
                break
            ends += found
        else:
            ranges[name] = (min(ends), max(ends)) if ends else (0, 0)  # type: ignore[type-var]
    return ranges


def _ranged(of: pa.DataType) -> bool:
    return bool(pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_temporal(of))


def _ends(chunk: pq.ColumnChunkMetaData) -> list[object] | None:
    """The least and greatest value of a column chunk; none where all are null, None where it is not known."""
    statistics = chunk.statistics
    if statistics is None:
        return None
    if not statistics.has_min_max:
        return [] if statistics.has_null_count and statistics.null_count == chunk.num_values else None
    try:
        return [statistics.min, statistics.max]
    except (pa.ArrowException, ValueError, OverflowError, NotImplementedError):
        return None
