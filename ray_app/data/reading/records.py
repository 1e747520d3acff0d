"""A CSV or TSV file as records, each with the offset at which it begins, so that a part is read as the whole was.

In: lines of bytes with their offsets. Out: cells as text; bytes that the encoding does not know are kept as surrogates
(Python's `surrogateescape`). A quote that is never closed, or that swallows whole rows, is a character like others: the
rows stay apart.
"""

import codecs
import csv
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

LONGEST = 8 << 20  # bytes of a line, and of a record; a longer line is one bad row
MOST_LINES = 1_000  # lines of one record
_DIGITS = re.compile(rb"[0-9]+")
ESCAPED = b'\\"'
CHUNK = 1 << 20
BLANK = b" \t\r\n\x0b\x0c\x1a"  # the last ends files of DOS


class Source(Protocol):
    """What bytes are read from."""

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end."""


class Record(NamedTuple):
    """A record: the offset of its first byte, its cells, and why these cannot be told; `stray`: whether a quote in it
    was taken for a character like others."""

    start: int
    cells: list[str]
    error: str | None = None
    stray: bool = False


class Lines:
    """Lines of a source with their offsets, some of which may be put back."""

    def __init__(self, source: Source, start: int = 0) -> None:
        self.waiting: list[tuple[int, bytes]] = []
        self.blank = 0  # lines that `records` has left out
        self.lines = _lines(source, start)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self

    def __next__(self) -> tuple[int, bytes]:
        return self.waiting.pop() if self.waiting else next(self.lines)

    def put_back(self, lines: list[tuple[int, bytes]]) -> None:
        """Lines that come again, in the same order."""
        self.waiting += reversed(lines)


def records(lines: Lines, delimiter: str, encoding: str, width: int) -> Iterator[Record]:
    """Records of the lines, blank ones left out.

    Args:
        width: cells of the header: rows of so many cells are not part of a quoted text that began above them.
    """
    for start, line in lines:
        line = line.removeprefix(codecs.BOM_UTF8)  # of another file that was appended
        if not line.strip(BLANK):
            lines.blank += 1
            continue
        if len(line) >= LONGEST:
            yield Record(start, [], f"a line of more than {LONGEST >> 20} MB")
        elif b'"' not in line:
            yield Record(start, _decoded(line, encoding).split(delimiter))
        else:
            cells = _quoted(start, line, lines, delimiter, encoding, width)
            stray = cells is None
            yield Record(start, _unquoted(_decoded(line, encoding), delimiter) if cells is None else cells, None, stray)


def _quoted(start: int, line: bytes, lines: Lines, delimiter: str, encoding: str, width: int) -> list[str] | None:
    """The cells of a record whose first line has quotes; later lines are taken where the quotes hold them. None where a
    quote is stray.

    A quote in quotes is doubled or, as Spark and MySQL write it, has a backslash before it.
    """
    for escaped in (False, True):
        taken = _taken((start, line), lines, escaped)
        whole = [each for _, each in taken]
        if not escaped or any(ESCAPED in each for each in whole):
            cells = _parsed(_decoded(b"".join(whole), encoding), delimiter, escaped)
            if cells is not None and (len(taken) == 1 or not _swallowed(whole, delimiter, width)):
                return cells
        lines.put_back(taken[1:])
    return None


def _taken(first: tuple[int, bytes], lines: Lines, escaped: bool) -> list[tuple[int, bytes]]:
    """The lines up to the one in which all quotes are closed; the first alone where none is."""
    taken, quotes, size = [first], _quotes(first[1], escaped), len(first[1])
    while quotes % 2 and len(taken) < MOST_LINES and size < LONGEST:
        more = next(lines, None)
        if more is None:
            break
        taken.append(more)
        size += len(more[1])
        quotes += _quotes(more[1], escaped)
    return taken


def _quotes(line: bytes, escaped: bool) -> int:
    return line.count(b'"') - (line.count(ESCAPED) if escaped else 0)


def _parsed(text: str, delimiter: str, escaped: bool) -> list[str] | None:
    """The cells of one record; None where its quotes are not closed, or text stands beside them."""
    spaced = f'{delimiter} "' in text  # a space between a delimiter and a quote
    escape = "\\" if escaped else None
    try:
        read = csv.reader(
            [text],
            delimiter=delimiter,
            strict=True,
            skipinitialspace=spaced,
            doublequote=not escaped,
            escapechar=escape,
        )
        rows = list(read)
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _swallowed(lines: list[bytes], delimiter: str, width: int) -> bool:
    """Whether each line is a row by itself, its first cell a number of one kind (`12`, `r-12`): then the quotes that
    hold them together are stray. Without such numbers a text of several lines may look the same."""
    mark = delimiter.encode()
    if width < 3 or any(line.count(mark) != width - 1 for line in lines):
        return False
    kinds = {_DIGITS.sub(b"0", line.partition(mark)[0].strip(b'" \xef\xbb\xbf')) for line in lines}
    return len(kinds) == 1 and b"0" in kinds.pop()


def _unquoted(line: str, delimiter: str) -> list[str]:
    """The cells of a line with stray quotes: quotes around a whole cell are removed, others stay."""
    cells = line.split(delimiter)
    return [cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell for cell in cells]


def _decoded(line: bytes, encoding: str) -> str:
    return line.rstrip(b"\r\n").decode(encoding, "surrogateescape")


def _lines(source: Source, start: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line with its end) of lines that end in a line feed, or in a carriage return where there is no other."""
    rest = source.read(CHUNK)
    end = b"\n" if b"\n" in rest or b"\r" not in rest[:-1] else b"\r"
    more, dropped = rest, 0
    while more:
        *whole, rest = rest.split(end)
        for line in whole:
            yield start, (line + end)[:LONGEST]
            start += dropped + len(line) + 1
            dropped = 0
        if len(rest) > LONGEST:  # what comes after it on its line is dropped
            dropped, rest = dropped + len(rest) - LONGEST, rest[:LONGEST]
        more = source.read(CHUNK)
        rest += more
    if rest:
        yield start, rest[:LONGEST]
