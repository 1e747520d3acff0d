"""What a sheet holds beside its values, as openpyxl's quick reader does not tell it: merged cells, formulas without a
result, escaped characters.

In: an open workbook and a sheet. Out: lines for the user; texts as the spreadsheet shows them.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

CHUNK, OVERLAP = 1 << 20, 1 << 10  # bytes of a sheet that are looked at at once, and those looked at twice
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell [^>]*?ref="([A-Z]+)(\d+):[A-Z]+(\d+)"')
_EMPTY = re.compile(rb"</(?:\w+:)?f>\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></(?:\w+:)?v>)?\s*</(?:\w+:)?c>")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def unescaped(text: str) -> str:
    """Text with the characters that XML cannot hold, or that writers avoid: `_x000D_` ends many lines of Excel."""
    if "_x" not in text:
        return text
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")  # halves meet


def remarks(book: "Workbook", sheet: "ReadOnlyWorksheet", above: int) -> Iterator[str]:
    """A line each for cells below the header that are empty though they look filled: merged ones, and formulas whose
    result no spreadsheet has stored."""
    merged, formulas = set[str](), 0
    for part, fresh in _parts(book, sheet):
        merged |= {
            found[1].decode()
            for found in _MERGED.finditer(part)
            if int(found[3]) > int(found[2]) and int(found[3]) > above
        }
        formulas += sum(found.end() > fresh for found in _EMPTY.finditer(part))
    if merged:
        columns = ", ".join(sorted(merged, key=lambda name: (len(name), name)))
        yield f"{sheet.title}: merged cells in {columns}: only the first row has the value; unmerge and fill them"
    if formulas:
        yield (
            f"{sheet.title}: {formulas:,} formulas have no stored result and are read as empty; open it in a "
            "spreadsheet and save it"
        )


def _parts(book: "Workbook", sheet: "ReadOnlyWorksheet") -> Iterator[tuple[bytes, int]]:
    """A sheet's XML in overlapping parts; what ends within the first so many bytes of one was in the part before."""
    with book._archive.open(sheet._worksheet_path) as source:
        before = b""
        while more := source.read(CHUNK):
            yield before + more, len(before)
            before = (before + more)[-OVERLAP:]
