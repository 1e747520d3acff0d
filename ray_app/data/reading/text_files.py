"""CSV, TSV and JSON lines, also packed with gzip: scanned once for their rows' places, then read in parts.

In: a file. Out: a Description with a chunk per so many rows; the rows of a part. A scan reads the file once and holds a
megabyte of it; a part is read from its first byte on.
"""

import codecs
import itertools
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from ray_app import storage
from ray_app.data.column_names import ID_NAMES, TEXT_NAMES, folded
from ray_app.data.columns import Dialect, Layout
from ray_app.data.reading.cells import ColumnKinds, Row, schema_of
from ray_app.data.reading.description import Description
from ray_app.data.reading.records import Lines, Record, records
from ray_app.data.reading.streams import GZIP, UnreadableError, encoding_of, head, line_encoding, opened, unpacked
from ray_app.data.reading.units import Chunk, Piece
from ray_app.data.values import Scalar

HEAD = 1 << 16
DELIMITERS = "\t,;|\x01"
EXCEL_TEXT = re.compile('="(.*)"', re.DOTALL)  # so that Excel leaves a number's zeros
STRAY = 'a stray quote: write "" for a quote inside quotes, and close what is opened'
NULL = "\\N"  # as MySQL, PostgreSQL and Hive write it
ABOVE = 10  # rows above a header: titles of exports
KNOWN = frozenset(folded(name) for name in (*ID_NAMES, *TEXT_NAMES))
SPOILED = 0.05  # share of rows that an encoding does not know from which it is not the file's
LETTERS = 100_000  # of cp949 that are looked at
RARE, FEW = 0.2, 5  # share and number of rare ones from which a text is not Korean
MARK = "\ufeff"
SYLLABLES, HANJA = 0xA1, 0xC8  # first byte of common letters in cp949, and last of those that are no Chinese ones
_TWO_BYTES = re.compile(b"[\x81-\xfe][\x41-\xfe]")


def describe(file: storage.FileInfo, kind: str, most: int) -> Description:
    """Scans a file of `kind` csv or jsonl. Raises UnreadableError where it is none."""
    data = head(file, HEAD)
    packed = data.startswith(GZIP)
    data = unpacked(data) if packed else data
    dialect = Dialect(names=(), encoding=encoding_of(data), packed=packed)
    begin = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    with opened(file.uri, file.version, dialect, begin) as source:
        if kind == "jsonl":
            return _scan_json(Lines(source, begin), dialect, most)
        header, dialect = _header(Lines(source, begin), dialect, file.uri)
    with opened(file.uri, file.version, dialect, header.start) as source:
        return _scan_csv(Lines(source, header.start), dialect, len(header.cells), most)


def rows(pieces: Sequence[Piece], layout: Layout) -> Iterator[list[Row]]:
    """The rows of each piece, which follow one another in one file. Raises UnreadableError."""
    dialect = layout.dialect
    assert dialect is not None
    first = pieces[0]
    with opened(first.file, first.version, dialect, first.start) as source:
        lines = Lines(source, first.start)
        found = _json_rows(lines, dialect) if layout.kind == "jsonl" else _csv_rows(lines, dialect)
        position = first.first - first.skip
        for piece in pieces:
            wanted: list[Row] = []
            while position < piece.first + piece.rows:
                row = next(found, None)
                if row is None:
                    raise UnreadableError(f"the file ends at row {position:,}")
                if position >= piece.first:
                    wanted.append(row)
                position += 1
            yield wanted


def numbered(file: storage.FileInfo, dialect: Dialect) -> Iterator[tuple[int, Row]]:
    """The rows of a CSV file with the numbers that a spreadsheet shows: titles and blank rows are counted."""
    with opened(file.uri, file.version, dialect) as source:
        header, _ = _header(Lines(source), dialect, file.uri)
    with opened(file.uri, file.version, dialect) as source:
        lines = Lines(source)
        _delimiter(lines, file.uri)  # a line `sep=;` is no row
        found = records(lines, dialect.delimiter, "latin-1", 0)
        above = sum(1 for _ in itertools.takewhile(lambda record: record.start < header.start, found)) + lines.blank
    with opened(file.uri, file.version, dialect, header.start) as source:
        lines = Lines(source, header.start)
        for i, row in enumerate(_csv_rows(lines, dialect, strict=dialect.delimiter != "\t"), 1):
            if i > 1:
                yield above + i + lines.blank, row


def _csv_rows(lines: Lines, dialect: Dialect, strict: bool = False) -> Iterator[Row]:
    """`strict`: a stray quote is an error; TSV knows no quotes."""
    width = len(dialect.names)
    for _, cells, error, stray in records(lines, dialect.delimiter, line_encoding(dialect), width):
        reason = STRAY if stray and strict else error
        if any(cell.strip() for cell in cells[width:]):
            reason = f"{len(cells)} cells under {width} names; quote cells with delimiters"
        elif cells and cells[0].strip() == dialect.names[0] and [cell.strip() for cell in cells] == list(dialect.names):
            reason = "the header again"  # of another file that was appended
        yield [_cell(cell) for cell in cells], reason


def _cell(cell: str) -> str | None:
    """A cell's value, without what programs put around one."""
    if cell.startswith('="') and (text := EXCEL_TEXT.fullmatch(cell)):
        return text[1]
    return None if cell == NULL else cell


def _json_rows(lines: Lines, dialect: Dialect) -> Iterator[Row]:
    for _, line in lines:
        if line.strip():
            value, error = _parsed(line, line_encoding(dialect))
            yield [value.get(name) for name in dialect.names], error


def _parsed(line: bytes, *encodings: str) -> tuple[dict[str, Scalar], str | None]:
    """A line's object by the first encoding that knows its bytes; empty where it is none, and why."""
    reason = f"not {encodings[0]}"
    for encoding in encodings:
        try:
            value = json.loads(line.decode(encoding).removeprefix(MARK), parse_float=_exact)
        except UnicodeDecodeError:
            continue
        except (ValueError, RecursionError) as error:
            return {}, f"not JSON ({error})"
        return (value, None) if isinstance(value, dict) else ({}, "not a JSON object")
    return {}, f"not JSON ({reason})"


def _exact(digits: str) -> float | str:
    """A number as a double, or its digits where a double does not hold them."""
    value = float(digits)
    short = len(digits) <= sys.float_info.dig and not math.isinf(value)
    return value if short or Decimal(digits) == Decimal(repr(value)) else digits


def _scan_json(lines: Lines, dialect: Dialect, most: int) -> Description:
    kinds: dict[str, ColumnKinds] = {}
    starts, spoiled = list[int](), Counter[str]()
    count = failed = 0
    first = ""  # why the first line is no JSON
    known = (line_encoding(dialect), *(("cp949",) if dialect.encoding == "utf-8" else ()))
    for start, line in lines:
        if not line.strip():
            continue
        if count % most == 0:
            starts.append(start)
        _vote(line, spoiled)
        value, error = _parsed(line, *known)
        count += 1
        failed += bool(error)
        first = first or error or ""
        for name, each in value.items():
            kinds.setdefault(name, ColumnKinds()).add(each)
        if failed == count == ABOVE:
            break
    if failed == count:  # a bad line costs itself only, unless there is no other
        raise UnreadableError(f"no JSON lines: {first}; write one object per line, as `jq -c '.[]'` does")
    encoding = _decide(spoiled, count) if dialect.encoding == "utf-8" else dialect.encoding
    types = tuple(kind.type for kind in kinds.values())
    dialect = replace(dialect, names=tuple(kinds), types=types, encoding=encoding)
    ranges: dict[str, tuple[object, object]] = {
        name: (kind.low, kind.high) for name, kind in kinds.items() if kind.type == "int64"
    }
    return Description(
        kind="jsonl", schema=schema_of(dialect), chunks=_chunks(starts, count, most), dialect=dialect, ranges=ranges
    )


def _header(lines: Lines, dialect: Dialect, uri: str) -> tuple[Record, Dialect]:
    """The record with the column names, and the dialect with its delimiter."""
    delimiter = _delimiter(lines, uri)
    above = list(itertools.islice(records(lines, delimiter, "latin-1", 0), ABOVE))
    if not above:
        raise UnreadableError("empty file: no row with column names")
    header = next(filter(_is_header, above), above[0])
    return header, replace(dialect, delimiter=delimiter)


def _scan_csv(lines: Lines, dialect: Dialect, width: int, most: int) -> Description:
    spoiled, starts = Counter[str](), list[int]()
    found = records(lines, dialect.delimiter, "latin-1", width)
    header = next(found)
    _vote("".join(header.cells).encode("latin-1"), spoiled)
    count = 0
    for record in found:
        _vote("".join(record.cells).encode("latin-1"), spoiled)
        if count % most == 0:
            starts.append(record.start)
        count += 1
    encoding = _decide(spoiled, count + 1) if dialect.encoding == "utf-8" else dialect.encoding
    dialect = replace(dialect, names=tuple(_name(cell, encoding) for cell in header.cells), encoding=encoding)
    return Description(kind="csv", schema=schema_of(dialect), chunks=_chunks(starts, count, most), dialect=dialect)


def _chunks(starts: Sequence[int], rows: int, most: int) -> tuple[Chunk, ...]:
    return tuple(Chunk(rows=min(most, rows - i * most), start=start) for i, start in enumerate(starts))


def _delimiter(lines: Lines, uri: str) -> str:
    """The delimiter that Excel's `sep=` names, else the one that the first lines have most of."""
    first: list[tuple[int, bytes]] = []
    for line in lines:
        first.append(line)
        if len(first) > ABOVE:
            break
    if first and first[0][1].removeprefix(MARK.encode())[:4].lower() == b"sep=":
        lines.put_back(first[1:])
        return first[0][1].removeprefix(MARK.encode()).decode("latin-1")[4:5]
    lines.put_back(first)
    header = next((line for _, line in first if _is_header(Record(0, _all_cells(line)))), first[0][1] if first else b"")
    text = b"".join(header.split(b'"')[::2]).decode("latin-1")
    return max(DELIMITERS, key=lambda mark: (text.count(mark), mark == "\t" and uri.lower().endswith(".tsv")))


def _all_cells(line: bytes) -> list[str]:
    """The cells of a line, whatever delimits them."""
    text = line.decode("latin-1").strip()
    for mark in DELIMITERS[1:]:
        text = text.replace(mark, DELIMITERS[0])
    return [cell.strip('"') for cell in text.split(DELIMITERS[0])]


def _is_header(record: Record) -> bool:
    """Whether a cell is a name that an id or a text has."""
    return any(folded(_name(cell, encoding)) in KNOWN for cell in record.cells for encoding in ("utf-8", "cp949"))


def _name(cell: str, encoding: str) -> str:
    encoding = encoding if encoding == "cp949" else "utf-8"
    return cell.encode("latin-1").decode(encoding, "replace").removeprefix(MARK).strip()


def _vote(data: bytes, spoiled: Counter[str]) -> None:
    """Counts a record for the encodings that do not know it, and the letters of some as cp949."""
    if data.isascii():
        return
    for encoding in ("utf-8", "cp949"):
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            spoiled[encoding] += 1
    if spoiled["letters"] < LETTERS and spoiled["utf-8"] > spoiled["cp949"]:
        letters = _TWO_BYTES.findall(data)
        spoiled["letters"] += len(letters)
        spoiled["rare"] += sum(lead < SYLLABLES or lead > HANJA or trail < SYLLABLES for lead, trail in letters)


def _decide(spoiled: Counter[str], count: int) -> str:
    """The encoding that knows more records. Raises UnreadableError where neither knows them."""
    encoding = "cp949" if spoiled["cp949"] < spoiled["utf-8"] else "utf-8"
    if encoding == "cp949" and spoiled["rare"] >= max(FEW, RARE * spoiled["letters"]):
        raise UnreadableError("neither UTF-8, UTF-16 nor Korean in cp949; save it as UTF-8")
    if spoiled[encoding] > max(1, SPOILED * count):
        raise UnreadableError(
            f"neither UTF-8, UTF-16 nor cp949: {spoiled[encoding]:,} of {count:,} rows are not; save it as UTF-8"
        )
    return encoding
