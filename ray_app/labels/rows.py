"""Rows of Parquet, JSONL, CSV and TSV files, each with the location at which a person finds it: `FILE row N`.

In: a file, folder or glob. Out: (location, row) one by one. A row that cannot be read has the key `error`, which says
why. Rows count from 1; in CSV and TSV from 2, because the header is row 1, as a spreadsheet shows it.
"""

import json
from collections.abc import Callable, Iterator, Sequence

from ray_app import storage
from ray_app.errors import UserError, check, closest
from ray_app.labels.spreadsheet import decoded, read_cells

Row = dict[str, object]
Rows = Iterator[tuple[str, Row]]  # (location, row)


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
    files = storage.list_files(uri)
    check(files, f"{uri}: no files there")
    for file in files:
        suffix = suffix_of(file.uri)
        check(suffix in readers, f"{file.uri}: {what} are read from {', '.join(readers)}")
        yield from readers[suffix](file.uri)


def suffix_of(uri: str) -> str:
    """`.csv` of `a/reviews.CSV`."""
    return uri[uri.rfind(".") :].lower()


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
        try:
            row = json.loads(line)
        except ValueError as error:
            row = {"error": f"not JSON ({error})"}
        yield f"{uri} row {i}", row if isinstance(row, dict) else {"error": "not a JSON object"}


def read_csv(uri: str) -> Rows:
    """Rows of one CSV or TSV file by the names in its header."""
    names, lines = read_lines(uri)
    for location, cells in lines:
        row: Row = dict(zip(names, cells, strict=False))
        try:
            check_width(cells, names)
        except UserError as error:
            row = {"error": str(error)}
        yield location, row


def read_lines(uri: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The names in the header of a CSV or TSV file, and (location, cells) of every line that is not blank."""
    header, *lines = read_cells(uri) or [[]]
    names = [name.strip() for name in header]
    return names, [(f"{uri} row {i}", cells) for i, cells in enumerate(lines, 2) if any(cells)]


def check_width(cells: Sequence[str], names: Sequence[str]) -> None:
    """Raises UserError where a cell has no name above it."""
    check(not any(cells[len(names) :]), f"{len(cells)} cells under {len(names)} names; quote commas")


def id_of(location: str) -> str:
    """An id for a row without one: `reviews.csv-2` of `a/reviews.csv row 2`."""
    file, _, number = location.rpartition(" row ")
    return f"{file.rsplit('/', 1)[-1]}-{number}"
