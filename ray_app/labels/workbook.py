"""Sheets that people fill in, as xlsx: frozen header, drop-downs, a comment on a column's name.

In: columns and rows of text. Out: a workbook's bytes, which `spreadsheet.read_cells` reads back unchanged. Needs
openpyxl (the extra `xlsx`).
"""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ray_app.errors import check, pip_install
from ray_app.labels.spreadsheet import escaped

if TYPE_CHECKING:
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.worksheet._write_only import WriteOnlyWorksheet

MOST_ROWS, CELL = 1_048_575, 32_767  # that Excel holds under a header; letters of a cell
LISTED = 250  # letters of a drop-down's choices at most
FROZEN = 2  # columns that stay in sight: whose row it is, and the text
_UNKNOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML cannot hold
_ESCAPE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")  # else read as an escaped letter


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its name, how wide it is in letters, a comment on its name, and the values its cells may have.

    `number`: cells are numbers where they are, so that Excel can count with them; else all are texts.
    """

    name: str
    width: int = 12
    note: str = ""
    choices: Sequence[str] = ()
    number: bool = False


def check_installed(flag: str) -> None:
    """Raises UserError naming the flag that asks for xlsx where openpyxl is missing."""
    check(find_spec("openpyxl"), f"{flag} xlsx: needs openpyxl: {pip_install('xlsx')}")


def to_xlsx(columns: Sequence[Column], rows: Iterable[Sequence[str]], place: str) -> bytes:
    """A workbook of one sheet. Raises UserError naming `place` at more rows than Excel holds.

    A text loses what no workbook can hold: control characters, and letters beyond CELL.
    """
    import openpyxl
    from openpyxl.utils import get_column_letter

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("reviews")
    sheet.freeze_panes = f"{get_column_letter(min(FROZEN, len(columns) - 1) + 1)}2"
    for number, column in enumerate(columns, 1):
        sheet.column_dimensions[get_column_letter(number)].width = column.width
    sheet.append([_header(sheet, column) for column in columns])
    count = 0
    for row in rows:
        count += 1
        check(count <= MOST_ROWS, f"{place}: more rows than a workbook holds ({MOST_ROWS:,}); write csv instead")
        sheet.append([_cell(sheet, text, column) for text, column in zip(row, columns, strict=True)])
    for number, column in enumerate(columns, 1):
        if column.choices and count:
            letter = get_column_letter(number)
            sheet.data_validations.append(_validation(column, f"{letter}2:{letter}{count + 1}"))
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def _header(sheet: "WriteOnlyWorksheet", column: Column) -> "WriteOnlyCell":
    """A column's name, in bold, with its comment."""
    from openpyxl.comments import Comment
    from openpyxl.styles import Font

    made = _cell(sheet, column.name, replace(column, number=False))
    made.font = Font(bold=True)
    if column.note:
        made.comment = Comment(column.note, "nunchi", height=180, width=320)
    return made


def _cell(sheet: "WriteOnlyWorksheet", text: str, column: Column) -> "WriteOnlyCell":
    """A number where the column holds some, else a text, also where it begins as a formula or is called #N/A."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Alignment

    made = WriteOnlyCell(sheet)
    if column.number:
        made.value = int(text) if text else None
        return made
    made.value = _storable(text) or None
    if made.value is not None:
        made.data_type = "s"
    made.number_format, made.alignment = "@", Alignment(wrap_text=True, vertical="top")
    return made


def _validation(column: Column, cells: str) -> object:
    """A drop-down; a rule for whole numbers where there are more choices than Excel lists."""
    from openpyxl.worksheet.datavalidation import DataValidation

    listed = ",".join(column.choices)
    if len(listed) <= LISTED:
        rule = DataValidation(type="list", formula1=f'"{listed}"', allow_blank=True)
    else:
        ends = sorted(map(int, column.choices))
        rule = DataValidation(type="whole", formula1=str(ends[0]), formula2=str(ends[-1]), allow_blank=True)
    rule.errorTitle, rule.error = column.name[:32], f"one of {listed}"[:225]
    rule.showErrorMessage = True
    rule.add(cells)
    return rule


def _storable(text: str) -> str:
    return _ESCAPE.sub("_x005F_", escaped(_UNKNOWN.sub("", text))[:CELL])
