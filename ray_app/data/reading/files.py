"""Files of every kind, through one door: what is in a file, and the rows of its pieces.

In: a file and its kind. Out: its Description or why it cannot be read; tables of raw rows.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence

import pyarrow as pa

from ray_app import storage
from ray_app.data.columns import HIVE, Layout
from ray_app.data.reading import parquet, text_files, workbook
from ray_app.data.reading.cells import Row, table_of
from ray_app.data.reading.description import Description
from ray_app.data.reading.kinds import HEAD, kind_of
from ray_app.data.reading.streams import UnreadableError, head
from ray_app.data.reading.units import Piece, cut
from ray_app.errors import UserError, check, first_line

log = logging.getLogger(__name__)
PEEKED = 2_000  # rows that decide which of two columns is the id
WHOLE = 1 << 40  # rows of a file that is read at once
KINDS = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON lines", "xlsx": "xlsx"}
Raw = tuple[pa.Table, dict[int, str]]  # a piece's rows, and those that could not be read


def describe(file: storage.FileInfo, kind: str, most: int) -> Description | str:
    """What is in a file, cut into chunks of at most `most` rows where it is text; or why it cannot be read."""
    try:
        if kind == "parquet":
            return parquet.describe(file)
        return workbook.describe(file) if kind == "xlsx" else text_files.describe(file, kind, most)
    except (pa.ArrowException, OSError, UnreadableError) as error:
        return f"unreadable {KINDS[kind]} file: {first_line(error)}"


def peek(file: storage.FileInfo, description: Description, names: Sequence[str]) -> pa.Table:
    """The first rows of some columns, at most PEEKED."""
    if description.kind == "parquet":
        return parquet.peek(file, names)
    layout = Layout(
        review_id=names[0], text=names[-1], keep=tuple(names), kind=description.kind, dialect=description.dialect
    )
    pieces = cut(file.uri, file.version, description.chunks[:1], PEEKED, 0)[:1]
    if not pieces:
        return description.schema.empty_table().select(list(names))
    return next(raw_tables(pieces, layout))[0]


def raw_tables(pieces: Sequence[Piece], layout: Layout) -> Iterator[Raw]:
    """The rows of each piece of one file, in order; a column's name is the file's own.

    Raises pa.ArrowException, OSError, UnreadableError, storage.ChangedError and storage.MissingError.
    """
    if layout.kind == "parquet":
        found: Iterator[Raw] = parquet.tables(pieces, layout)
    else:
        rows = workbook.rows(pieces, layout) if layout.kind == "xlsx" else text_files.rows(pieces, layout)
        found = (table_of(each, layout) for each in rows)
    for piece, (table, bad) in zip(pieces, found, strict=True):
        storage.check_version(piece.file, piece.version)  # a part that was changed while it was read is not passed on
        yield _with_folders(table, piece, layout), bad


def read_small(uri: str) -> tuple[list[str], list[tuple[int, Row]]]:
    """The names and all rows, with their numbers, of a CSV or TSV file, packed or not, or of a workbook.

    Rows count from 1 as a spreadsheet shows them, with what lies above the header. Raises UserError.
    """
    file = storage.stat(uri)
    kind = kind_of(uri, head(file, HEAD), chosen=True)
    check(kind.name in ("csv", "xlsx"), f"{uri}: {kind.reason or 'not CSV, TSV or xlsx'}")
    found = describe(file, kind.name, WHOLE)
    if isinstance(found, str):
        raise UserError(f"{uri}: {found}")
    assert found.dialect is not None
    for remark in found.remarks:
        log.warning("%s: %s", uri, remark)
    names = list(found.dialect.names)
    if kind.name == "csv":
        return names, list(text_files.numbered(file, found.dialect))
    return names, list(workbook.numbered(file, found.chunks))


def runs(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces that are read in one go: neighbors in one file."""
    for _, neighbors in itertools.groupby(pieces, key=lambda piece: (piece.file, piece.version)):
        run: list[Piece] = []
        for piece in neighbors:
            if run and piece.first != run[-1].first + run[-1].rows:
                yield run
                run = []
            run.append(piece)
        yield run


def _with_folders(table: pa.Table, piece: Piece, layout: Layout) -> pa.Table:
    """The table with the columns that the file's folders hold; and with rows even where it has no column."""
    values = storage.partition(piece.file, "") if layout.folders else {}
    for name in layout.folders:
        table = table.append_column(HIVE + name, pa.array([values.get(name)] * piece.rows, pa.string()))
    return table
