"""Tables that people open in Excel. In: rows of text, or a CSV or TSV file. Out: bytes that Excel opens; cells.

A cell that Excel would take for a formula, a number or a date is written with an apostrophe in front, which is removed
when it is read, so that `=1+1`, `-5도` and the id `00123` come back unchanged.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

from ray_app import storage
from ray_app.errors import UserError

FORMULA = r"[=+\-@＝＋－＠\t\r\n]"  # what starts one: https://owasp.org/www-community/attacks/CSV_Injection
_RISKY = rf"(?:{FORMULA}|\d[\d.,:/eE+\- ]*\Z)"
_GUARDED = re.compile(rf"'+{_RISKY}")
_TO_GUARD = re.compile(rf"'*{_RISKY}")


def guard(cell: str) -> str:
    """The cell in a form that Excel does not convert; `unguard` is its exact inverse."""
    return f"'{cell}" if _TO_GUARD.match(cell) else cell


def unguard(cell: str) -> str:
    """The cell before `guard`."""
    return cell[1:] if _GUARDED.match(cell) else cell


def to_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Guarded cells as CSV in UTF-8 with a byte order mark, without which Excel reads Korean as cp949."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerows([guard(cell) for cell in row] for row in (header, *rows))
    return sink.getvalue().encode("utf-8-sig")


def read_cells(uri: str) -> list[list[str]]:
    """Lines of unguarded cells, the header first; `.tsv` is split at tabs. Raises UserError where it is not CSV."""
    delimiter = "\t" if uri.lower().endswith(".tsv") else ","
    try:
        lines = list(csv.reader(io.StringIO(decoded(uri), newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise UserError(f"{uri}: not CSV ({error})") from None
    return [[unguard(cell) for cell in line] for line in lines]


def decoded(uri: str) -> str:
    """A file's text in UTF-8 with or without BOM, else in cp949 as Korean Excel writes it. Raises UserError."""
    data = storage.read_bytes(uri)
    for encoding in ("utf-8-sig", "cp949"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{uri}: neither UTF-8 nor cp949; save it as UTF-8")
