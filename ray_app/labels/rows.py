"""Rows of Parquet, JSONL, CSV, TSV and xlsx files, each with the location at which a person finds it: `FILE row N`.

In: a file, folder or glob. Out: (location, row) one by one. A row that cannot be read is an UnreadableRow, which says
why. Rows count from 1; in tables with a header from 2, because that is row 1, as a spreadsheet shows it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from ray_app import storage
from ray_app.errors import UserError, check, closest
from ray_app.labels.spreadsheet import decoded, read_cells

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


def rows(
    uri: str, what: str, csv: Callable[[str], Rows] | None = None, parquet: Callable[[str], Rows] | None = None
) -> Rows:
    """(location, row) of every row of a file, folder or glob.

    Args:
        what: what the rows are, for the message about a file of another kind.
        csv, parquet: reads one file of that kind where its columns must be checked or renamed.

    Raises UserError where no file exists, or at a file that is not of a known kind or cannot be read.
    """
    csv, parquet = csv or read_csv, parquet or read_parquet
    readers = {".parquet": parquet, ".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": csv, ".tsv": csv}
    readers |= {".txt": csv, ".xlsx": csv}
    files = storage.list_files(uri)
    check(files, f"{uri}: no files there")
    for file in files:
        suffix = suffix_of(file.uri)
        check(suffix in readers, f"{file.uri}: {what} are read from {', '.join(readers)}")
        yield from readers[suffix](file.uri)


def suffix_of(uri: str) -> str:
    """`.csv` of `a/reviews.CSV` and of `a/reviews.csv.gz`."""
    name = uri.lower().removesuffix(".gz")
    return name[name.rfind(".") :]


def read_parquet(uri: str, required: Sequence[str] = (), optional: Sequence[str] = ()) -> Rows:
    """Rows of one file with these columns, with all columns where none is required. Raises UserError."""
    table = storage.read_parquet(uri)
    for name in required:
        check(name in table.column_names, f"{uri}: no column {name!r}{closest(name, table.column_names)}")
    if required:
        table = table.select([name for name in (*required, *optional) if name in table.column_names])
    for i, row in enumerate(table.to_pylist(), 1):
        yield f"{uri} row {i}", row


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


def read_csv(uri: str) -> Rows:
    """Rows of one CSV or TSV file or workbook by the names in its header."""
    names, lines = read_lines(uri)
    for location, cells, error in lines:
        yield location, UnreadableRow(error) if error else dict(zip(names, cells, strict=False))


def read_lines(uri: str) -> tuple[list[str], list[tuple[str, list[str], str | None]]]:
    """The names in the header of a CSV or TSV file or workbook, and of every row that is not blank its location, its
    cells and why these cannot be told."""
    names, lines = read_cells(uri)
    return names, [(f"{uri} row {i}", cells, error) for i, cells, error in lines if any(cells) or error]


def id_of(location: str) -> str:
    """An id for a row without one: `reviews.csv-2` of `a/reviews.csv row 2`."""
    file, _, number = location.rpartition(" row ")
    return f"{file.rsplit('/', 1)[-1]}-{number}"
