"""Rows that a template turns into prompts and completions, in every format they come in, checked.

In: labelled reviews (see `labels.py`), or a table as Parquet, JSONL, CSV/TSV whose columns a template names, or the
word `sample`. Out: plain rows. A bad row is named with its file and row; `--on-bad-row` says whether it stops the job.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray_app import storage
from ray_app.data.columns import parse_columns
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import is_blank
from ray_app.errors import UserError, check, closest
from ray_app.labels import reader
from ray_app.labels.spreadsheet import read_cells
from ray_app.lm.templates import Template, check_readable
from ray_app.sample import FOLDER

Row = dict[str, Any]


@dataclass(frozen=True)
class PromptRows:
    """Checked rows, each with `id` and `split`; the taxonomy of labelled reviews; lines that say what was dropped."""

    rows: tuple[Row, ...]
    taxonomy: Taxonomy | None
    dropped: tuple[str, ...]

    def split(self, *names: str | None) -> list[Row]:
        """The rows whose split is one of `names` (None: rows without one)."""
        return [row for row in self.rows if row["split"] in names]


def read(
    uri: str, template: Template, taxonomy: str | Taxonomy = "default", columns: str = "", on_bad_row: str = "fail"
) -> PromptRows:
    """Reads what a template reads.

    Args:
        uri: a file, folder or glob, or `sample`.
        taxonomy: for labelled reviews, as `labels.read` takes it, or one at hand.
        columns: `question=질문,answer=답변` where a table names its columns otherwise.
        on_bad_row: `fail` raises UserError at the first bad row, `drop` leaves it out and says so.
    """
    if template.reads == "table":
        return _table(uri, template, column_names(columns, template), on_bad_row)
    found = reader.read_labels_with(uri, taxonomy, on_bad_row) if isinstance(taxonomy, Taxonomy) else None
    found = found or reader.read_labels(uri, str(taxonomy), on_bad_row)
    check_readable(template, found.taxonomy)
    order = found.taxonomy.index
    rows = (
        {**row, "id": row["review_id"], "labels": sorted(row["labels"], key=lambda label: order[label["keyword"]])}
        for row in found.table.to_pylist()
    )
    return PromptRows(tuple(rows), found.taxonomy, found.dropped)


def column_names(text: str, template: Template) -> dict[str, str]:
    """`question=질문,answer=답변` -> field to column, every other field being its own column's name."""
    known = (*template.columns, "id", "split")
    return {name: name for name in known} | parse_columns(text, known)


def _table(uri: str, template: Template, columns: Mapping[str, str], on_bad_row: str) -> PromptRows:
    kept, dropped, count = [], [], 0
    for place, raw in _raw_rows(uri, template):
        count += 1
        try:
            kept.append(_checked(raw, template, columns, place))
        except UserError as error:
            check(on_bad_row == "drop", f"{place}: {error} (or --on-bad-row drop)")
            dropped.append(f"{place}: {error}")
    check(count, f"{uri}: no rows there")
    check(kept, f"{uri}: every one of {count} rows is bad; the first: {(dropped or [''])[0]}")
    return PromptRows(tuple(kept), None, tuple(dropped))


def _checked(raw: Mapping[str, Any], template: Template, columns: Mapping[str, str], place: str) -> Row:
    check("error" not in raw, raw.get("error", ""))
    row: Row = {}
    for name in template.columns:
        column = columns[name]
        check(column in raw, f"no column {column!r}{closest(column, raw)}; name it with --columns {name}=COLUMN")
        value = raw[column]
        value = str(value) if isinstance(value, int | float) and value == value else value
        check(isinstance(value, str) and not is_blank(value), f"null or empty {column}")
        row[name] = value
    split = raw.get(columns["split"]) or None
    check(split in (None, *reader.SPLITS), f"unknown split {split!r}; known: {', '.join(reader.SPLITS)}")
    identity = raw.get(columns["id"])
    return {**row, "id": place if identity in (None, "") else str(identity), "split": split}


def _raw_rows(uri: str, template: Template) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, raw row) of every file; the place is `file row N` as a person counts in that file."""
    if uri == "sample":
        path = FOLDER / f"{template.name}.jsonl"
        check(path.is_file(), f"--data sample: no sample of {template.name!r} is shipped; name a file")
        yield from ((place.replace(str(path), "sample"), row) for place, row in reader.read_jsonl(str(path)))
        return
    readers = {".parquet": _parquet, ".jsonl": reader.read_jsonl, ".ndjson": reader.read_jsonl}
    readers |= {".csv": _csv, ".tsv": _csv}
    for file in storage.list_files(uri):
        suffix = file.uri[file.uri.rfind(".") :].lower()
        check(suffix in readers, f"{file.uri}: rows are read from {', '.join(readers)}")
        yield from readers[suffix](file.uri)


def _parquet(uri: str) -> Iterator[tuple[str, Row]]:
    for i, row in enumerate(storage.read_parquet(uri).to_pylist(), 1):
        yield f"{uri} row {i}", row


def _csv(uri: str) -> Iterator[tuple[str, Row]]:
    """Rows count from 2: the header is row 1, as a spreadsheet shows it."""
    lines = read_cells(uri)
    header = [name.strip() for name in (lines or [[]])[0]]
    for i, cells in enumerate(lines[1:], 2):
        if not any(cells):
            continue
        row: Row = dict(zip(header, cells, strict=False))
        if any(cells[len(header) :]):
            row = {"error": f"{len(cells)} cells under {len(header)} names; quote commas"}
        yield f"{uri} row {i}", row
