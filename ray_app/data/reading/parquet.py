"""Parquet files: what the footer tells, and rows of a row group, a bounded number at a time.

In: a file's URI and version. Out: a Description; tables of consecutive rows. Each row group is read once, however many
units it is cut into, and its columns only.
"""

import itertools
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.data.column_types import is_text
from ray_app.data.columns import Layout
from ray_app.data.reading.description import Description
from ray_app.data.reading.streams import UnreadableError
from ray_app.data.reading.units import Chunk, Piece
from ray_app.data.schema import MAX_CHARACTERS

LARGE = 8 << 20  # bytes of a row group's columns from which they are streamed instead of fetched at once
TINY = 64 << 10  # bytes up to which one column after the other is read: as much is known of an object when it is opened
STREAM = 2 << 20  # bytes per request of a column that is streamed
GLANCE = 256 << 10  # the same where only the first rows are wanted
TOGETHER = 8  # pieces that a batch holds
BATCH = 32 << 20  # bytes of the texts of a batch
UNPACKED, TIMES = 4 << 30, 16  # bytes of a group's texts, and times their size in the file, from which equal ones count
UTF8_BYTES = 4  # of the longest character
INT96 = "us"  # old timestamps have nanoseconds, and years that 64 bits of these do not reach
FOOTER_END, SIGNATURE = 8, 28  # bytes: the length of the footer and the mark; the signature of an encrypted file's
PEEKED = 2_000  # rows that decide which of two columns is the id
Raw = tuple[pa.Table, dict[int, str]]  # rows, and those that cannot be analyzed, with the reason


def describe(file: storage.FileInfo) -> Description:
    """A file's row groups, schema and statistics, from its footer. Raises pa.ArrowException and OSError."""
    with storage.open_input(file.uri, file.version) as source:
        parquet = pq.ParquetFile(source, coerce_int96_timestamp_unit=INT96)
        footer = parquet.metadata
        _check_open(source, footer)
        groups = [Chunk(rows=footer.row_group(i).num_rows, row_group=i) for i in range(footer.num_row_groups)]
        schema = parquet.schema_arrow
        return Description(
            kind="parquet", schema=schema.remove_metadata(), chunks=tuple(groups), ranges=_ranges(footer, schema)
        )


def peek(file: storage.FileInfo, names: Sequence[str]) -> pa.Table:
    """The first rows of some columns."""
    with storage.open_input(file.uri, file.version) as source:
        parquet = pq.ParquetFile(source, buffer_size=GLANCE, coerce_int96_timestamp_unit=INT96)
        batch = next(parquet.iter_batches(PEEKED, columns=list(names), row_groups=_with_rows(parquet)), None)
        table = parquet.schema_arrow.empty_table() if batch is None else pa.Table.from_batches([batch])
        return table.select(list(names))


def tables(pieces: Sequence[Piece], layout: Layout) -> Iterator[Raw]:
    """The rows of each piece, which all lie in one file, in their order, and those with a text beyond all limits.

    A piece's rows are in memory, and those of the batch that they end in. Raises pa.ArrowException and OSError.
    """
    with storage.open_input(pieces[0].file, pieces[0].version) as source:
        footer = pq.read_metadata(source)
        _check_open(source, footer)
        for row_group, some in itertools.groupby(pieces, key=lambda piece: piece.row_group):
            yield from _of_group(_Group(source, footer, row_group, layout), list(some))


class _Group:
    """A row group and how it is read: a small one is fetched at once, a large one streamed.

    Equal texts are kept once where they may be large, since a text of many megabytes that all rows share takes a few
    kilobytes of a file. That keeps all texts of the group, so a large one whose shared texts are short is read without.
    """

    def __init__(self, source: pa.NativeFile, footer: pq.FileMetaData, number: int, layout: Layout) -> None:
        self.source, self.footer, self.number, self.text = source, footer, number, layout.text
        self.names, wanted, group = layout.names, set(layout.names), footer.row_group(number)
        chunks = [group.column(i) for i in range(footer.num_columns)]
        self.size = sum(one.total_compressed_size for one in chunks if one.path_in_schema.split(".")[0] in wanted)
        texts = sum(one.total_uncompressed_size for one in chunks if one.path_in_schema == layout.text)
        self.widest, self.once = 0, texts * group.num_rows >= LARGE and is_text(self._type(layout.text))
        if self.once and max(self.size, texts) >= LARGE:
            shared = self._longest_shared()
            self.widest = max(shared, texts // group.num_rows)
            self.once = shared * group.num_rows > UNPACKED + TIMES * texts

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The rows from the first on, at most so many at a time."""
        small = self.size < LARGE
        parquet = self._opened(pre_buffer=TINY <= self.size < LARGE, buffer_size=0 if small else STREAM, once=self.once)
        rows = rows if self.once or not self.widest else max(1, min(rows, BATCH // self.widest))
        threads = self.size >= TINY
        yield from parquet.iter_batches(rows, row_groups=[self.number], columns=self.names, use_threads=threads)

    def _opened(self, pre_buffer: bool, buffer_size: int, once: bool) -> pq.ParquetFile:
        self.source.seek(0)
        return pq.ParquetFile(
            self.source,
            metadata=self.footer,
            coerce_int96_timestamp_unit=INT96,
            page_checksum_verification=True,
            pre_buffer=pre_buffer,
            buffer_size=buffer_size,
            read_dictionary=[self.text] if once else [],
        )

    def _type(self, name: str) -> pa.DataType:
        return self.footer.schema.to_arrow_schema().field(name).type

    def _longest_shared(self) -> int:
        """Bytes of the longest text of the dictionary, which any number of rows may share; 0 where it is damaged."""
        parquet = self._opened(pre_buffer=False, buffer_size=GLANCE, once=True)
        try:
            first = next(parquet.iter_batches(1, row_groups=[self.number], columns=[self.text])).column(0)
        except (pa.ArrowException, OSError):  # said where the rows are read
            return 0
        values = first.dictionary if pa.types.is_dictionary(first.type) else first
        return pc.max(pc.binary_length(values)).as_py() or 0


def _of_group(group: _Group, pieces: Sequence[Piece]) -> Iterator[Raw]:
    """The rows of each piece of one row group, which is read once; again piece by piece where a part is damaged."""
    done = 0
    for together in (TOGETHER, 1):
        rows = max(piece.rows for piece in pieces[done:]) * together
        try:
            for raw in _sliced(group.batches(rows), pieces[done:], group.text):
                done += 1
                yield raw
            return
        except (pa.ArrowException, OSError):
            if together == 1:
                raise


def _sliced(batches: Iterator[pa.RecordBatch], pieces: Sequence[Piece], text: str) -> Iterator[Raw]:
    """The rows of each piece out of the batches of its row group, up to the last of them."""
    waiting: list[pa.RecordBatch] = []
    bad: dict[int, str] = {}
    position = 0  # of the first waiting row in the row group
    for piece in pieces:
        while position + sum(map(len, waiting)) < piece.skip + piece.rows:
            batch, long = _without_long(next(batches), text)
            bad |= {position + sum(map(len, waiting)) + row: reason for row, reason in long.items()}
            waiting.append(batch)
            while len(waiting) > 1 and position + len(waiting[0]) <= piece.skip:
                position += len(waiting.pop(0))
        table = pa.Table.from_batches(waiting).slice(piece.skip - position, piece.rows)
        yield table, {row - piece.skip: reason for row, reason in bad.items() if 0 <= row - piece.skip < piece.rows}


def _without_long(batch: pa.RecordBatch, text: str) -> tuple[pa.RecordBatch, dict[int, str]]:
    """The batch without texts that are too long whatever they hold, so that a unit of them fits; and their rows."""
    column = batch.column(text)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    if not any(is_kind(column.type) for is_kind in kinds):
        return batch, {}
    lengths = pc.binary_length(column)
    long = pc.fill_null(pc.greater(lengths, MAX_CHARACTERS * UTF8_BYTES), fill_value=False)
    if not long.true_count:
        return batch, {}
    rows = pc.indices_nonzero(long).to_pylist()
    limit = f"over the limit of {MAX_CHARACTERS} characters"
    reasons = {row: f"text has {lengths[row].as_py()} bytes, {limit}" for row in rows}
    kept = column.take(pa.array(range(len(column)), pa.int64(), mask=long.to_numpy(zero_copy_only=False)))
    return batch.set_column(batch.schema.get_field_index(text), text, kept), reasons


def _check_open(source: pa.NativeFile, footer: pq.FileMetaData) -> None:
    """Raises UnreadableError where columns are encrypted, which a signed footer tells.

    To ask pyarrow for the size of such a column ends the process.
    """
    source.seek(source.size() - FOOTER_END)
    size = int.from_bytes(source.read(FOOTER_END)[:4], "little")
    if size == footer.serialized_size + SIGNATURE:
        raise UnreadableError("its columns are encrypted; decrypt it")


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
