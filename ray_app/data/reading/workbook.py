"""Excel workbooks (.xlsx): the first sheet that has a header of reviews and all with the same header, row by row.

In: a file. Out: a Description with a chunk per sheet; the rows of a part. Needs openpyxl (the extra `xlsx`). A
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
from ray_app.data.reading import hidden_parts
from ray_app.data.reading.cells import ColumnKinds, Row, schema_of
from ray_app.data.reading.description import Description
from ray_app.data.reading.streams import UnreadableError
from ray_app.data.reading.units import Chunk, Piece
from ray_app.data.values import Scalar
from ray_app.errors import UserError, first_line, pip_install

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

ABOVE = 10  # rows above a header: titles of exports
LARGEST = 1 << 30  # bytes that a workbook may unpack to
KNOWN = frozenset(folded(name) for name in (*ID_NAMES, *TEXT_NAMES))
Cells = tuple[Scalar, ...]


def describe(file: storage.FileInfo) -> Description:
    """Scans the sheets. Raises UnreadableError where there is none, or openpyxl is missing."""
    with _opened(file.uri, file.version) as book:
        sheets = [(number, sheet, *_header(sheet)) for number, sheet in enumerate(book.worksheets, 1)]
        filled = [one for one in sheets if one[3]]
        if not filled:
            raise UnreadableError("no sheet with rows")
        shown = [one for one in filled if one[1].sheet_state == "visible"]
        _, sheet, above, header = next(
            (one for some in (shown, filled) for one in some if _known(one[3])), (shown or filled)[0]
        )
        names = _names(header)
        alike = [one for one in filled if one[1] is sheet or (one in shown and _names(one[3]) == names)]
        kinds = [ColumnKinds() for _ in header]
        chunks: list[Chunk] = []
        for number, each, top, _ in alike:
            count = 0
            for cells in _rows(each, top):
                count += 1
                for kind, cell in zip(kinds, cells, strict=False):
                    kind.add(cell)
            chunks.append(Chunk(rows=count, start=top, row_group=number))
        others = [one[1].title for one in filled if one not in alike]
        unread = (f"only {_listed([one[1].title for one in alike])} read, not {', '.join(others)}",) if others else ()
        remarks = (remark for _, each, top, _ in alike for remark in hidden_parts.remarks(book, each, top))
        dialect = Dialect(names=names, types=tuple(kind.type for kind in kinds), start=above, sheet=sheet.title)
        ranges: dict[str, tuple[object, object]] = {
            name: (0, kind.largest)
            for name, kind in zip(dialect.names, kinds, strict=True)
            if kind.kinds <= {"int64", "double"}
        }
        return Description(
            kind="xlsx",
            schema=schema_of(dialect),
            chunks=tuple(chunks),
            dialect=dialect,
            ranges=ranges,
            remarks=(*unread, *remarks),
        )


def rows(pieces: Sequence[Piece], layout: Layout) -> Iterator[list[Row]]:
    """The rows of each piece, in order."""
    dialect = layout.dialect
    assert dialect is not None
    with _opened(pieces[0].file, pieces[0].version) as book:
        for number, some in itertools.groupby(pieces, key=lambda piece: piece.row_group):
            of_sheet = list(some)
            sheet = book.worksheets[number - 1] if number else book[dialect.sheet]  # plans of releases that read one
            found, position = _rows(sheet, of_sheet[0].start), of_sheet[0].first - of_sheet[0].skip if number else 0
            for piece in of_sheet:
                wanted = list(itertools.islice(found, piece.first - position, piece.first - position + piece.rows))
                position = piece.first + piece.rows
                yield [(list(cells), None) for cells in wanted]


def numbered(file: storage.FileInfo, chunks: Sequence[Chunk]) -> Iterator[tuple[int, Row]]:
    """All rows with their numbers, titles and blank rows counted too; a second sheet's go on from the first's."""
    before = 0
    with _opened(file.uri, file.version) as book:
        for chunk in chunks:
            number = 0
            for number, cells in _numbered(book.worksheets[chunk.row_group - 1], chunk.start):
                yield before + number, (list(cells), None)
            before += number


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
    except (UserError, UnreadableError, OSError):
        raise
    except Exception as error:  # whatever a broken part of it raises
        raise UnreadableError(f"not a readable workbook: {first_line(error)}; save it anew, or as CSV") from None


def _names(header: Cells) -> tuple[str, ...]:
    return tuple(str(name or "").strip() for name in header)


def _listed(titles: Sequence[str]) -> str:
    return f"the sheets {', '.join(titles)} are" if len(titles) > 1 else f"the sheet {titles[0]!r} is"


def _header(sheet: "ReadOnlyWorksheet") -> tuple[int, Cells]:
    """How many rows lie above the first row with data, and the header; () where the sheet is empty."""
    sheet.reset_dimensions()  # writers get them wrong
    first: list[tuple[int, Cells]] = []
    for number, cells in enumerate(itertools.islice(sheet.iter_rows(values_only=True), ABOVE)):
        if any(cell not in (None, "") for cell in cells):
            first.append((number + 1, _unescaped(cells)))
    return next((one for one in first if _known(one[1])), first[0] if first else (0, ()))


def _known(cells: Cells) -> bool:
    return any(isinstance(cell, str) and folded(cell) in KNOWN for cell in cells)


def _rows(sheet: "ReadOnlyWorksheet", above: int) -> Iterator[Cells]:
    """The rows below the header that are not blank."""
    return (cells for _, cells in _numbered(sheet, above))


def _numbered(sheet: "ReadOnlyWorksheet", above: int) -> Iterator[tuple[int, Cells]]:
    """These rows with the numbers that a spreadsheet shows."""
    sheet.reset_dimensions()
    for number, cells in enumerate(sheet.iter_rows(min_row=above + 1, values_only=True), above + 1):
        if any(cell not in (None, "") for cell in cells):
            yield number, _unescaped(cells)


def _unescaped(cells: Cells) -> Cells:
    return tuple(hidden_parts.unescaped(cell) if isinstance(cell, str) else cell for cell in cells)
