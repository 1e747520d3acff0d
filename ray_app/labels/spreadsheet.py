"""Tables that people open in Excel. In: rows of text, or a CSV, TSV or xlsx file. Out: bytes that Excel opens; cells.

A cell that Excel would take for a formula, a number or a date is written to CSV with an apostrophe in front, which is
removed when it is read, so that `=1+1`, `-5도` and the id `00123` come back unchanged. `workbook.py` writes xlsx, where
cells have types.
"""

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Sequence

from ray_app import storage
from ray_app.data.arrow_csv import FORMULA
from ray_app.data.reading import files
from ray_app.data.reading.streams import GZIP, encoding_of
from ray_app.data.values import text_of
from ray_app.errors import UserError

EXACT_DIGITS = 10**15  # from here on a spreadsheet has rounded its numbers
_RISKY = rf"(?:{FORMULA}|\d[\d.,:/eE+\- ]*\Z)"
_GUARDED = re.compile(rf"'+{_RISKY}")
_TO_GUARD = re.compile(rf"'*{_RISKY}")


def guard(cell: str) -> str:
    """The cell in a form that Excel does not convert; `unguard` is its exact inverse."""
    return f"'{cell}" if _TO_GUARD.match(cell) else cell


def unguard(cell: str) -> str:
    """The cell before `guard`."""
    return cell[1:] if _GUARDED.match(cell) else cell


def escaped(cell: str) -> str:
    """The cell in a form that only `unguard` changes: back to the cell. For files whose cells have types."""
    return f"'{cell}" if _GUARDED.match(cell) else cell


def to_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Guarded cells as CSV in UTF-8 with a byte order mark, without which Excel reads Korean as cp949."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerows([guard(cell) for cell in row] for row in (header, *rows))
    return sink.getvalue().encode("utf-8-sig")


def read_cells(uri: str) -> tuple[list[str], list[tuple[int, list[str], str | None]]]:
    """The header of a CSV or TSV file or a workbook; per row its number, unguarded cells, and why they cannot be told.

    It is read by the rules of catalogs: any delimiter and encoding, packed or not. Raises UserError where it is none.
    """
    names, rows = files.read_small(uri)
    return [unguard(name) for name in names], [
        (number, [unguard(cell) for cell in map(_text, cells)], error or _unknown(cells))
        for number, (cells, error) in rows
    ]


def _text(cell: object) -> str:
    """A number too long for a spreadsheet is written as one shows it, so that nobody takes its last digits for real."""
    if isinstance(cell, (int, float)) and EXACT_DIGITS <= abs(cell) < math.inf:
        return f"{cell:.14E}"
    return cell if isinstance(cell, str) else text_of(cell) or ""


def _unknown(cells: Iterable[object]) -> str | None:
    """Why cells are no text; None where they are."""
    try:
        "".join(map(_text, cells)).encode()
    except UnicodeEncodeError:
        return "bytes that the file's encoding does not know"
    return None


def decoded(uri: str) -> str:
    """A file's text, packed with gzip or not: UTF-8 or UTF-16 with or without BOM, else cp949. Raises UserError."""
    data = storage.read_bytes(uri)
    try:
        data = gzip.decompress(data) if data.startswith(GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{uri}: damaged gzip ({error})") from None
    encoding = encoding_of(data)
    for known in ("utf-8-sig", "cp949") if encoding == "utf-8" else (encoding,):
        try:
            return data.decode(known).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    raise UserError(f"{uri}: neither UTF-8, UTF-16 nor cp949; save it as UTF-8")
