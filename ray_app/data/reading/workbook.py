"""Excel workbooks (.xlsx): the first sheet that has a header of reviews, row by row.

In: a file. Out: a Description with a chunk per so many rows; the rows of a part. Needs openpyxl (the extra `xlsx`). A
sheet is read from its top whatever part of it is wanted; its rows stream, its shared texts are in memory.
"""

import itertools
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray_app import storage
from ray_app.data.column_names import ID_NAMES, TEXT_NAMES, folded
from ray_app.data.columns import Dialect, Layout
from ray_app.data.reading.cells import ColumnKinds, Row, schema_of
from ray_app.data.reading.description import Description
from ray_app.data.reading.streams import UnreadableError
from ray_app.data.reading.units import Chunk, Piece
from ray_app.data.values import Scalar
from ray_app.errors import pip_install

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

ABOVE = 10  # rows above a header: titles of exports
LARGEST = 1 << 30  # bytes that a workbook may unpack to
KNOWN = frozenset(folded(name) for name in (*ID_NAMES, *TEXT_NAMES))
Cells = tuple[Scalar, ...]


def describe(file: storage.FileInfo, most: int) -> Description:
    """Scans the sheet. Raises UnreadableError where there is none, or openpyxl is missing."""
    with _opened(file.uri, file.version) as book:
        sheets = [(sheet, *_header(sheet)) for sheet in book.worksheets]
        chosen = next(
            (one for one in sheets if one[2] and _known(one[2])), next((one for one in sheets if one[2]), None)
        )
        if chosen is None:
            raise UnreadableError("no sheet with rows")
        sheet, above, header = chosen
        kinds = [ColumnKinds() for _ in header]
        count = 0
        for cells in _rows(sheet, above):
            count += 1
            for kind, cell in zip(kinds, cells, strict=False):
                kind.add(cell)
        others = [other.title for other, _, names in sheets if names and other is not sheet]
        dialect = Dialect(
            names=tuple(str(name or "").strip() for name in header),
            types=tuple(kind.type for kind in kinds),
            start=above,
            sheet=sheet.title,
        )
        ranges: dict[str, tuple[object, object]] = {
            name: (0, kind.largest)
            for name, kind in zip(dialect.names, kinds, strict=True)
            if kind.kinds <= {"int64", "double"}
        }
        return Description(
            kind="xlsx",
            schema=schema_of(dialect),
            chunks=tuple(Chunk(rows=min(most, count - i), start=above) for i in range(0, count, most)),
            dialect=dialect,
            ranges=ranges,
            remarks=(f"only the sheet {sheet.title!r} is read, not {', '.join(others)}",) if others else (),
        )


def rows(pieces: Sequence[Piece], layout: Layout) -> Iterator[list[Row]]:
    """The rows of each piece, in order."""
    dialect = layout.dialect
    assert dialect is not None
    with _opened(pieces[0].file, pieces[0].version) as book:
        found = _rows(book[dialect.sheet], dialect.start)
        position = 0
        for piece in pieces:
            wanted = list(itertools.islice(found, piece.first - position, piece.first - position + piece.rows))
            position = piece.first + piece.rows
            yield [(list(cells), None) for cells in wanted]


@contextmanager
def _opened(file: str, version: str) -> Iterator["Workbook"]:
    try:
        import openpyxl
    except ImportError:
        raise UnreadableError(f"reading .xlsx needs openpyxl: {pip_install('xlsx')}") from None
    try:
        with storage.open_input(file, version) as source:
            size = sum(info.file_size for info in zipfile.ZipFile(source).infolist())
            if size > LARGEST:
                raise UnreadableError(f"unpacks to {size >> 20:,} MB; save it as CSV")
            source.seek(0)
            yield openpyxl.load_workbook(source, read_only=True, data_only=True)
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        TypeError,
        SyntaxError,
    ) as error:  # what a broken part of it raises
        raise UnreadableError(f"not a readable workbook: {error}") from None


def _header(sheet: "ReadOnlyWorksheet") -> tuple[int, Cells]:
    """How many rows lie above the first row with data, and the header; () where the sheet is empty."""
    sheet.reset_dimensions()  # writers get them wrong
    first: list[tuple[int, Cells]] = []
    for number, cells in enumerate(itertools.islice(sheet.iter_rows(values_only=True), ABOVE)):
        if any(cell not in (None, "") for cell in cells):
            first.append((number + 1, cells))
    return next((one for one in first if _known(one[1])), first[0] if first else (0, ()))


def _known(cells: Cells) -> bool:
    return any(isinstance(cell, str) and folded(cell) in KNOWN for cell in cells)


def _rows(sheet: "ReadOnlyWorksheet", above: int) -> Iterator[Cells]:
    """The rows below the header that are not blank."""
    sheet.reset_dimensions()
    for cells in sheet.iter_rows(min_row=above + 1, values_only=True):
        if any(cell not in (None, "") for cell in cells):
            yield cells
