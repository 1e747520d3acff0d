"""Rows that a template turns into prompts and completions, in every format they come in, checked.

In: labeled reviews (see `labels/reader.py`), or a table as Parquet, JSONL, CSV/TSV whose columns a template names, or
the word `sample`. Out: plain rows. A bad row is named with its file and row; `--on-bad-row` says whether it stops the
job.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ray_app.data.columns import parse_columns
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import is_blank
from ray_app.errors import UserError, check, closest
from ray_app.labels import reader
from ray_app.labels.rows import BadRow, Row, Rows, read_jsonl, report, rows
from ray_app.labels.rows import check_readable as check_row
from ray_app.lm.templates import Template, check_readable
from ray_app.sample import FOLDER


@dataclass(frozen=True)
class PromptRows:
    """Checked rows, each with `id` and `split`; the taxonomy of labeled reviews; a line per dropped row."""

    rows: tuple[Row, ...]
    taxonomy: Taxonomy | None
    dropped: tuple[str, ...]

    def split(self, *names: str | None) -> list[Row]:
        """The rows whose split is one of `names` (None: rows without one)."""
        return [row for row in self.rows if row["split"] in names]


def read(
    uri: str, template: Template, taxonomy: str | Taxonomy = "default", columns: str = "", on_bad_row: str = "fail"
) -> PromptRows:
    """Reads the rows of a template.

    Args:
        uri: a file, folder or glob, or `sample`.
        taxonomy: for labeled reviews, as `reader.read_labels` takes it, or one that is already loaded.
        columns: `question=질문,answer=답변` where a table has other column names.
        on_bad_row: `fail` raises UserError at the first bad row, `drop` leaves it out and reports it.
    """
    if template.reads == "table":
        return _read_table(uri, template, column_names(columns, template), on_bad_row)
    if isinstance(taxonomy, Taxonomy):
        labels = reader.read_labels_with(uri, taxonomy, on_bad_row)
    else:
        labels = reader.read_labels(uri, taxonomy, on_bad_row)
    check_readable(template, labels.taxonomy)
    order = labels.taxonomy.index
    reviews = (
        {**row, "id": row["review_id"], "labels": sorted(row["labels"], key=lambda label: order[label["keyword"]])}
        for row in labels.table.to_pylist()
    )
    return PromptRows(tuple(reviews), labels.taxonomy, labels.dropped)


def column_names(text: str, template: Template) -> dict[str, str]:
    """`question=질문,answer=답변` -> column per field, by default of the same name. Raises UserError."""
    fields = (*template.columns, "id", "split")
    return {name: name for name in fields} | parse_columns(text, fields)


def _read_table(uri: str, template: Template, columns: Mapping[str, str], on_bad_row: str) -> PromptRows:
    checked: list[Row] = []
    bad: list[BadRow] = []
    count = 0
    for location, raw in _sample_rows(template) if uri == "sample" else rows(uri, "rows"):
        count += 1
        try:
            checked.append(_checked(raw, template, columns, location))
        except UserError as error:
            bad.append(BadRow(location, str(error)))
    check(count, f"{uri}: no rows there")
    if bad and on_bad_row != "drop":
        raise UserError(report(bad, remedy=" (or --on-bad-row drop)"))
    dropped = tuple(f"{each.location}: {each.problem}" for each in bad)
    check(checked, f"{uri}: every one of {count} rows is bad; the first: {(dropped or ('',))[0]}")
    return PromptRows(tuple(checked), None, dropped)


def _checked(raw: Row, template: Template, columns: Mapping[str, str], location: str) -> Row:
    """A row with the template's columns, `id` and `split`. Raises UserError without the location."""
    check_row(raw)
    row: Row = {}
    for name in template.columns:
        column = columns[name]
        check(column in raw, f"no column {column!r}{closest(column, raw)}; name it with --columns {name}=COLUMN")
        value = raw[column]
        value = str(value) if isinstance(value, int | float) and value == value else value  # NaN stays, and is refused
        check(isinstance(value, str) and not is_blank(value), f"null or empty {column}")
        row[name] = value
    split = raw.get(columns["split"]) or None
    check(split in (None, *reader.SPLITS), f"unknown split {split!r}; known: {', '.join(reader.SPLITS)}")
    identity = raw.get(columns["id"])
    return {**row, "id": location if identity in (None, "") else str(identity), "split": split}


def _sample_rows(template: Template) -> Rows:
    """The shipped rows of a template; their locations are `sample row N`. Raises UserError where none are shipped."""
    path = FOLDER / f"{template.name}.jsonl"
    check(path.is_file(), f"--data sample: no sample of {template.name!r} is shipped; name a file")
    for location, row in read_jsonl(str(path)):
        yield location.replace(str(path), "sample"), row
