"""Rows of Parquet, JSONL, CSV, TSV and xlsx files, each with the location at which a person finds it: `FILE row N`.

In: a file, folder or glob. Out: (location, row) one by one; one error's text for all bad rows. A row that cannot be
read is an UnreadableRow, which says why. Rows count from 1; in tables with a header from 2, because that is row 1, as
a spreadsheet shows it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ray_app import storage
from ray_app.data.values import python_values
from ray_app.errors import UserError, check
from ray_app.labels.spreadsheet import decoded, read_cells

PARQUET, LINES, SHEETS = ".parquet", (".jsonl", ".ndjson"), (".csv", ".tsv", ".txt", ".xlsx")
SHOWN = 10  # problems that are listed
PLACES = 5  # rows of one problem that are named
DROP = " (or --on-bad-label drop)"
Row = dict[str, object]
Rows = Iterator[tuple[str, Row]]  # (location, row)


class UnreadableRow(dict[str, object]):
    """A row that cannot be read, why, and what of it could be told."""

    def __init__(self, reason: str, row: Row | None = None) -> None:
        super().__init__(row or {})
        self.reason = reason


def check_readable(row: Mapping[str, object]) -> None:
    """Raises UserError where the row could not be read."""
    if isinstance(row, UnreadableRow):
        raise UserError(row.reason)


def rows(uri: str, what: str, read: Callable[[str], Rows] | None = None) -> Rows:
    """(location, row) of every row of a file, folder or glob.

    Args:
        what: what the rows are, for the message about a file of another kind.
        read: reads one file, where its columns must be checked or renamed.

    Raises UserError where no file exists, or at a file that is not of a known kind or cannot be read.
    """
    check(uri.strip(), f"no {what} are named; name a file or folder")  # else the current folder would be read
    files = storage.list_files(uri)
    check(files, f"{uri}: no files there")
    for file in files:
        known = suffix_of(file.uri) in (*LINES, *SHEETS, PARQUET)
        check(known, f"{file.uri}: {what} are read from {', '.join((PARQUET, *LINES, *SHEETS))}{_hint(file.uri, what)}")
        yield from read(file.uri) if read else table_rows(file.uri)[1]


def _hint(uri: str, what: str) -> str:
    """What a file of another kind is for."""
    tool = what == "labels" and suffix_of(uri) == ".json"
    return f"; answers of a labeling tool join by python -m jobs.acquire merge --answers {uri}" if tool else ""


def table_rows(uri: str) -> tuple[list[str], list[tuple[str, Row]], bool]:
    """The names of one file's columns, its rows, and whether it is a sheet (CSV, TSV, xlsx), whose cells are texts."""
    suffix = suffix_of(uri)
    if suffix == PARQUET:
        table = storage.read_parquet(uri)
        columns = [python_values(column) for column in table.columns]
        found = [
            (f"{uri} row {i}", dict(zip(table.column_names, values, strict=True)))
            for i, values in enumerate(zip(*columns, strict=True), 1)
        ]
        return table.column_names, found, False
    if suffix in LINES:
        lines = list(read_jsonl(uri))
        return list(dict.fromkeys(name for _, row in lines for name in row)), lines, False
    names, cells = read_lines(uri)
    return names, [(location, _row(names, each, error)) for location, each, error in cells], True


def _row(names: Sequence[str], cells: Sequence[str], error: str | None) -> Row:
    row: Row = dict(zip(names, cells, strict=False))
    return UnreadableRow(error, row) if error else row


def suffix_of(uri: str) -> str:
    """`.csv` of `a/reviews.CSV` and of `a/reviews.csv.gz`."""
    name = uri.lower().removesuffix(".gz")
    return name[name.rfind(".") :]


def read_jsonl(uri: str) -> Rows:
    """Objects of one file; blank lines are skipped."""
    for i, line in enumerate(decoded(uri).split("\n"), 1):
        if not line.strip():
            continue
        yield f"{uri} row {i}", _object(line)


def _object(line: str) -> Row:
    try:
        row = json.loads(line)
        if "\\ud" in line.lower():  # an escape that may be half a character, which no file can hold
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return UnreadableRow("half a character in it; write the whole, or leave it out")
    except (ValueError, RecursionError) as error:
        return UnreadableRow(f"not JSON ({error})")
    return row if isinstance(row, dict) else UnreadableRow("not a JSON object")


def read_lines(uri: str) -> tuple[list[str], list[tuple[str, list[str], str | None]]]:
    """The names in the header of a CSV or TSV file or workbook, and of every row that is not blank its location, its
    cells and why these cannot be told."""
    names, lines = read_cells(uri)
    return names, [(f"{uri} row {i}", cells, error) for i, cells, error in lines if any(cells) or error]


def id_of(location: str) -> str:
    """An id for a row without one: `reviews.csv-2` of `a/reviews.csv row 2`."""
    file, _, number = location.rpartition(" row ")
    return f"{file.rsplit('/', 1)[-1]}-{number}"


class BadRow(NamedTuple):
    """A row, `FILE row N`, and what is wrong with it."""

    location: str
    problem: str


def report(bad: Sequence[BadRow], unknown: str = "", remedy: str = DROP) -> str:
    """The first bad row as one line with the remedy; below it the others, problem by problem.

    `unknown`: what to add for an unknown keyword.
    """
    first = bad[0]
    hint = unknown if first.problem.startswith("unknown keyword") else ""
    lines = [f"{first.location}: {first.problem}{hint}{remedy}"]
    if len(bad) == 1:
        return lines[0]
    places: dict[tuple[str, str], list[str]] = {}
    for each in bad:
        file, _, number = each.location.rpartition(" row ")
        places.setdefault((file, each.problem), []).append(number)
    lines.append(f"all {len(bad):,} bad rows:")
    listed = list(places.items())
    lines += [f"  {file} row {_numbers(rows)}: {problem}" for (file, problem), rows in listed[:SHOWN]]
    left = sum(len(rows) for _, rows in listed[SHOWN:])
    return "\n".join([*lines, *([f"  and {left:,} more rows"] if left else [])])


def _numbers(rows: Sequence[str]) -> str:
    """`3, 7, 9 and 12 more`."""
    more = f" and {len(rows) - PLACES:,} more" if len(rows) > PLACES else ""
    return ", ".join(rows[:PLACES]) + more
