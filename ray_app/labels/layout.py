"""Which columns of a table of labels hold what: a list of labels, all of them in one text, or a column per keyword.

In: the names and rows of a table of any format. Out: raw rows with `review_id`, `text`, `labels` and, where it has such
columns, `split`, `labeller` and `labelled_at`. Names may be English or Korean (`data/column_names.py`).
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ray_app.data.column_names import ID_NAMES, LABEL_NAMES, TEXT_NAMES, folded
from ray_app.data.reading.cells import ERRORS
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import composed
from ray_app.data.values import integral
from ray_app.errors import UserError, check, closest
from ray_app.labels import keyword_columns
from ray_app.labels.completions import is_nothing, parse_completion, parse_score
from ray_app.labels.rows import Row, Rows, UnreadableRow, id_of

OTHER_TOOLS = (  # columns that exports of labeling tools have, and labels do not
    ({"annotations", "data"}, "Label Studio's tasks, saved line by line: export them as JSON (.json), then"),
    ({"answer", "_task_hash"}, "Prodigy's answers:"),
    ({"cats", "entities"}, "doccano's documents:"),
)
_ROUNDED = re.compile(r"\d(\.\d+)?[eE]\+\d+")  # what Excel makes of a long number


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of one table, each None where there is none; `keywords` are column -> keyword.

    `numbered`: rows without an id column take file and row for it. `sheet`: cells are what a spreadsheet makes of them.
    """

    review_id: str | None
    text: str | None
    listed: str | None
    completion: str | None
    keywords: Mapping[str, str] = field(default_factory=dict)
    scale: Sequence[int] = ()
    more: Mapping[str, str] = field(default_factory=dict)
    numbered: bool = False
    sheet: bool = False

    def used(self) -> set[str]:
        """The columns that a row of `reader.checked_row` stands for: beside it they would say the same, until labels
        change."""
        roles = (self.review_id, self.text, self.listed, self.completion)
        return {name for name in (*roles, *self.keywords, *self.more.values()) if name}

    def row(self, location: str, raw: Row) -> Row:
        """A row as `reader.checked_row` takes it."""
        row: Row = {name: None if blank(raw.get(column)) else raw[column] for name, column in self.more.items()}
        row["review_id"] = id_of(location) if self.numbered else raw.get(self.review_id or "")
        row["text"] = raw.get(self.text or "")
        if isinstance(raw, UnreadableRow):
            return UnreadableRow(raw.reason, row)
        try:
            if self.sheet:
                row["review_id"] = _sheet_id(row["review_id"])
                check(row["text"] not in ERRORS, f"text is {row['text']}, an error of the spreadsheet")
            row["labels"] = self._labels(raw)
        except UserError as error:
            return UnreadableRow(str(error), row)
        return row

    def _labels(self, raw: Row) -> object:
        """The labels that a row gives, None for none. Raises UserError where they cannot be read."""
        if self.listed:
            return _listed(raw.get(self.listed))
        typed = raw.get(self.completion) if self.completion else None
        given = parse_completion(typed) if isinstance(typed, str) else None
        if not self.keywords:
            return given
        told = self._told(raw)
        twice = given is not None and told is not None and _pairs(given) != _pairs(told)
        check(not twice, f"{self.completion} says {typed!r}, and the keywords' columns something else; leave one")
        return told if given is None else given

    def _told(self, raw: Row) -> list[Row] | None:
        """What the keywords' columns of a row say; None where all are blank. Raises UserError naming every bad cell."""
        labels: list[Row] = []
        wrong: list[str] = []
        nothing = False
        for column, keyword in self.keywords.items():
            cell = raw.get(column)
            nothing = nothing or is_nothing(cell)
            try:
                score = None if is_nothing(cell) else parse_score(cell)
            except ValueError:
                wrong.append(f"column {column!r}: {cell!r} is no score")
                continue
            if score is not None and self.scale and score not in self.scale:
                wrong.append(f"column {column!r}: {score} is out of range")
            elif score is not None:
                labels.append({"keyword": keyword, "score": score})
        scale = ", ".join(map(str, self.scale)) or "whole numbers"
        check(not wrong, f"{'; '.join(wrong)}; write {scale}, or leave the cell blank")
        return labels if labels or nothing else None


def raw_rows(
    uri: str, names: Sequence[str], rows: Sequence[tuple[str, Row]], taxonomy: Taxonomy | None, sheet: bool = False
) -> Rows:
    """The rows of a table as `reader.checked_row` takes them.

    Args:
        taxonomy: the keywords that columns may be named after; None: whatever columns hold scores.
        sheet: from CSV, TSV or a workbook, which turn ids into numbers.

    Raises UserError where the table lacks a text or labels, a column is there twice, or its name is a keyword's
    misspelled.
    """
    if all(isinstance(row, UnreadableRow) for _, row in rows):
        yield from rows  # what is wrong with them says more than the columns that they seem to have
        return
    layout = layout_of(uri, names, rows, taxonomy, sheet)
    for location, row in rows:
        yield location, layout.row(location, row)


def layout_of(
    uri: str, names: Sequence[str], rows: Sequence[tuple[str, Row]], taxonomy: Taxonomy | None, sheet: bool = False
) -> Layout:
    """What the columns of a table hold; arguments and errors as in `raw_rows`."""
    columns = {name for name in names if name}
    for needed, what in OTHER_TOOLS:
        tool = needed <= columns and not columns & {"labels"}
        check(not tool, f"{uri}: {what} python -m jobs.acquire merge --answers {uri} makes labels of them")
    found = {role: _find(uri, names, own) for role, own in LABEL_NAMES.items()}
    listed, completion = _labels_columns(found.pop("labels"), found.pop("completion"), rows, sheet)
    taken = {listed, completion, *found.values()}
    keywords = {folded(name) for name in taxonomy.names} if taxonomy else set()
    others = [name for name in names if name not in taken and folded(name) not in keywords]
    text = _find(uri, others, (*TEXT_NAMES, "prompt")) or _find(uri, names, TEXT_NAMES)
    review_id = _find(uri, others, ID_NAMES)
    free = [name for name in names if name not in (*taken, text, review_id)]
    own = {} if listed else keyword_columns.find(uri, free, rows, taxonomy, completion is not None)
    _check_found(uri, names, text, bool(listed or completion or own), sheet)
    check(review_id or not listed, f"{uri}: no column 'review_id'{closest('review_id', names)}")
    return Layout(
        review_id=review_id,
        text=text,
        listed=listed,
        completion=completion,
        keywords=own,
        scale=taxonomy.scores if taxonomy else (),
        more={role: name for role, name in found.items() if name},
        numbered=review_id is None,
        sheet=sheet,
    )


def _check_found(uri: str, names: Sequence[str], text: str | None, labels: bool, sheet: bool) -> None:
    """Raises UserError where there is no text column or nothing that holds labels."""
    if sheet:
        has = f"needs a text column and a Completion column, has {', '.join(names)}"
        check(text and labels, f"{uri}: {has}; a column per keyword does as well")
        return
    for name, there in (("text", text), ("labels", labels)):
        check(there, f"{uri}: no column {name!r}{closest(name, names)}")


def _find(uri: str, header: Iterable[str], names: Iterable[str]) -> str | None:
    """The first of `names` that the header has, as the header writes it. Raises UserError where two columns are it."""
    by_fold: dict[str, list[str]] = {}
    for name in header:
        by_fold.setdefault(folded(name), []).append(name)
    alike = next((by_fold[folded(name)] for name in names if folded(name) in by_fold), [])
    check(len(alike) < 2, f"{uri}: {len(alike)} columns are called {alike[0] if alike else ''!r}; rename one")
    return alike[0] if alike else None


def _labels_columns(
    labels: str | None, completion: str | None, rows: Sequence[tuple[str, Row]], sheet: bool
) -> tuple[str | None, str | None]:
    """The column with lists of labels, and the one in which they are typed: values say which a column `labels` is."""
    if labels is None:
        return None, completion
    values = [row.get(labels) for _, row in rows]
    lists = any(isinstance(value, (list, dict)) for value in values)
    typed = not lists and (sheet or any(isinstance(value, str) for value in values))
    return (None, completion or labels) if typed else (labels, completion)


def _listed(value: object) -> object:
    """Labels as a list; those of a mapping `{"배송": -1}` too."""
    if not isinstance(value, dict):
        return value
    if "keyword" in value:
        return [value]
    return [{"keyword": keyword, "score": score} for keyword, score in value.items() if score is not None]


def _pairs(labels: Iterable[Mapping[str, object]]) -> dict[str, object]:
    return {composed(str(label["keyword"])): label["score"] for label in labels}


def _sheet_id(value: object) -> object:
    """An id as it was before a spreadsheet made a number of it. Raises UserError where digits were lost."""
    if blank(value):
        return None
    check(not _ROUNDED.fullmatch(str(value)), f"review_id {value} lost digits in a spreadsheet; write ids as text")
    return integral(str(value))


def blank(value: object) -> bool:
    """Whether a cell holds nothing: null, an empty text, or pandas' NaN."""
    return value in (None, "") or (isinstance(value, float) and math.isnan(value))
