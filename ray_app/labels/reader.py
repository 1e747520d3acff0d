"""Labeled reviews, in every format they come in, as one checked table.

In: Parquet, JSONL, CSV, TSV or xlsx, labels in a list, in a `Completion` (`스타일 1, 만족도 2`) or in a column per
keyword; or the name of a shipped set.
Out: a LABELED table. A bad label is named with its file and row; `--on-bad-label` says whether it stops the job.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

import pyarrow as pa

from ray_app.data.rows import LabeledRow, LabelRow
from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import Taxonomy, from_labels, load
from ray_app.data.text import composed, is_blank
from ray_app.data.values import text_of
from ray_app.errors import UserError, check, closest
from ray_app.labels.layout import raw_rows
from ray_app.labels.rows import BadRow, Row, Rows, check_readable, report, rows, table_rows

SPLITS = ("train", "validation", "test")
SHIPPED = ("sample", "test-mixed")  # label sets that lie in the package: to train and test on, and mixed test reviews
TAKE_FROM_LABELS = "; --taxonomy labels takes the keywords from the labels"
UNSEEN = " \t\r\n\u200b\u200c\u200d\u2060\ufeff\u00a0\u3000"  # what copying leaves around a keyword
_LONE = re.compile("[\ud800-\udfff]")
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """A checked LABELED table, the taxonomy it was read with, and a line per dropped row."""

    table: pa.Table
    taxonomy: Taxonomy
    dropped: tuple[str, ...]

    def split(self, *names: str | None) -> pa.Table:
        """The rows whose split is one of `names` (None: rows without one)."""
        splits = self.table["split"].to_pylist()
        return self.table.take(pa.array([i for i, split in enumerate(splits) if split in names], pa.int64()))


def read_labels(uri: str, taxonomy: str = "default", on_bad_label: str = "fail") -> Labels:
    """Reads and checks labels.

    Args:
        uri: a file, a folder or glob of files, or one of SHIPPED.
        taxonomy: `default`, `labels` (whatever keywords and scores the labels have) or a YAML file.
        on_bad_label: `fail` raises UserError at the first bad row, `drop` leaves it out and reports it.
    """
    if taxonomy != "labels":
        return read_labels_with(uri, _named_taxonomy(taxonomy), on_bad_label, TAKE_FROM_LABELS)
    raw = _raw_rows(uri, None)
    return _checked_labels(uri, raw, _taxonomy_of(uri, raw), on_bad_label)


def read_labels_with(
    uri: str, taxonomy: Taxonomy, on_bad_label: str = "fail", remedy: str = "", partial: bool = False
) -> Labels:
    """Reads and checks labels with a taxonomy that is already loaded, such as a bundle's own.

    `remedy`: of an unknown keyword. `partial`: the labels are of some keywords only, so that the overall one may lack.
    """
    return _checked_labels(uri, _raw_rows(uri, taxonomy), taxonomy, on_bad_label, remedy, partial)


def taxonomy_of(uri: str, choice: str) -> Taxonomy:
    """The taxonomy that `--taxonomy` names for labels."""
    return _taxonomy_of(uri, _raw_rows(uri, None)) if choice == "labels" else _named_taxonomy(choice)


def _checked_labels(
    uri: str,
    raw: list[tuple[str, Row]],
    taxonomy: Taxonomy,
    on_bad_label: str,
    remedy: str = "",
    partial: bool = False,
) -> Labels:
    check(on_bad_label in ("fail", "drop"), f"--on-bad-label {on_bad_label}: write fail or drop")
    checked: list[LabeledRow] = []
    bad: list[BadRow] = []
    without: list[str] = []
    seen: dict[str, str] = {}
    for location, row in raw:
        try:
            checked.append(checked_row(row, taxonomy, seen, location))
        except UserError as error:
            bad.append(BadRow(location, str(error)))
            continue
        if taxonomy.overall not in (None, *(label["keyword"] for label in checked[-1]["labels"])):
            without.append(location)
    if bad and on_bad_label == "fail":
        raise UserError(report(bad, remedy))
    lines = tuple(f"{each.location}: {each.problem}" for each in bad)
    check(checked, f"{uri}: every one of {len(raw)} rows is bad; the first: {(lines or ('',))[0]}")
    if without and not partial:
        tell_without_overall(taxonomy, without, len(raw))
    _tell_contradictions(uri, checked)
    return Labels(pa.Table.from_pylist(checked, schema=LABELED), taxonomy, lines)


def tell_without_overall(taxonomy: Taxonomy, locations: Sequence[str], rows: int) -> None:
    """A warning that reviews lack the overall keyword, which every review has."""
    log.warning(
        "%s of %s labeled reviews lack %s, the taxonomy's overall keyword, which every review has; the first: %s",
        f"{len(locations):,}",
        f"{rows:,}",
        taxonomy.overall,
        locations[0],
    )


def _tell_contradictions(uri: str, rows: Sequence[LabeledRow]) -> None:
    """A warning where reviews of one text have other labels: no model can learn both."""
    said: dict[str, tuple[str, frozenset[tuple[str, int]]]] = {}
    clashes: list[tuple[str, str]] = []
    for row in rows:
        labels = frozenset((label["keyword"], label["score"]) for label in row["labels"])
        first, before = said.setdefault(row["text"].strip(), (row["review_id"], labels))
        if labels != before:
            clashes.append((first, row["review_id"]))
    if clashes:
        log.warning(
            "%s: %s reviews have the text of another one and other labels, such as %s and %s; decide, or audit them",
            *(uri, f"{len(clashes):,}", *clashes[0]),
        )


def _named_taxonomy(choice: str) -> Taxonomy:
    return load() if choice in ("default", "sample") else load(choice)


def _taxonomy_of(uri: str, raw: Iterable[tuple[str, Row]]) -> Taxonomy:
    """The taxonomy of raw labels, of those that are valid. Raises UserError where there are none, or too few."""
    pairs: list[tuple[str, int]] = []
    problem = ""
    for location, row in raw:
        try:
            check_readable(row)
        except UserError as error:
            problem = problem or f"; {location}: {error}"
            continue
        labels = row.get("labels")
        for label in labels if isinstance(labels, list) else ():
            named = isinstance(label, dict) and isinstance(label.get("keyword"), str)
            if named and not is_blank(label["keyword"]) and _is_whole(label.get("score")):
                pairs.append((_trimmed(label["keyword"]), int(label["score"])))
    check(pairs, f"{uri}: no labels to take a taxonomy from{problem}")
    scores = sorted({score for _, score in pairs})
    check(
        len(scores) > 1,
        f"{uri}: --taxonomy labels: every score is {scores[0]}, which makes no scale; name a taxonomy with its scores",
    )
    return from_labels(pairs)


def checked_row(row: Mapping[str, object], taxonomy: Taxonomy, seen: dict[str, str], location: str) -> LabeledRow:
    """A raw row as a row of LABELED.

    `seen` maps the id of every row before to its location; this row's is added. Raises UserError without the location.
    """
    check_readable(row)
    review_id, text, raw = row.get("review_id"), row.get("text"), row.get("labels")
    check(not isinstance(review_id, (bool, list, dict)), f"review_id {review_id!r} is no id")
    review_id = text_of(review_id) if isinstance(review_id, float) else review_id  # as catalogs write it
    check(review_id is not None and str(review_id).strip(), "null review_id")
    check(str(review_id) not in seen, f"review_id {review_id!r} was seen at {seen.get(str(review_id))} already")
    if not isinstance(text, str) or is_blank(text):
        raise UserError("null or empty text")
    check(not _LONE.search(text), "text has half a character (a lone surrogate)")
    if not isinstance(raw, list):
        raise UserError("no labels")
    overall = taxonomy.overall
    check(raw or not overall, f"no labels: every review has at least {overall}, the taxonomy's overall keyword")
    split = row.get("split") or None
    check(split in (None, *SPLITS), f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    labels = [_checked_label(label, taxonomy) for label in raw]
    names = [label["keyword"] for label in labels]
    twice = next((name for name in names if names.count(name) > 1), None)
    check(twice is None, f"duplicate keyword {twice!r}")
    seen[str(review_id)] = location
    return {
        "review_id": str(review_id),
        "text": composed(text),
        "labels": labels,
        "split": None if split is None else str(split),
    }


def _checked_label(label: object, taxonomy: Taxonomy) -> LabelRow:
    if not isinstance(label, dict):
        raise UserError(f"label {label!r} is not a keyword and a score")
    keyword, score = _trimmed(label.get("keyword")), label.get("score")
    check(not isinstance(keyword, str) or not is_blank(keyword), "a label without a keyword")
    check(keyword in taxonomy.names, f"unknown keyword {keyword!r}{closest(str(keyword), taxonomy.names)}")
    if not _is_whole(score) or int(score) not in taxonomy.scores:
        scale = ", ".join(map(str, taxonomy.scores))
        raise UserError(f"{keyword}: score {score!r} is out of range; the scale is {scale}")
    highlights, opinions = (_words(label, name, keyword) for name in ("highlights", "opinions"))
    return {"keyword": str(keyword), "score": int(score), "highlights": highlights, "opinions": opinions}


def _trimmed(keyword: T) -> T | str:
    """A keyword trimmed and in composed letters, where it is a text."""
    return composed(keyword.strip(UNSEEN)) if isinstance(keyword, str) else keyword


def _words(label: Mapping[str, object], name: str, keyword: object) -> list[str] | None:
    """A label's list of words, or None where it gives none. Raises UserError where it is something else."""
    words = label.get(name)
    if words is None:
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{keyword}: {name} must be a list of words")
    return [composed(word) for word in words]


def _is_whole(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()


def _raw_rows(uri: str, taxonomy: Taxonomy | None) -> list[tuple[str, Row]]:
    """(location, raw row) of every file, or of a shipped set. Raises UserError where there is none."""
    if uri in SHIPPED:
        return list(_shipped_rows(uri))
    raw = list(rows(uri, "labels", lambda file: read_answers(file, taxonomy)))
    check(raw, f"{uri}: no labeled reviews there")
    return raw


def _shipped_rows(name: str) -> Rows:
    from ray_app.sample import mixed_test_reviews, written_reviews

    for i, row in enumerate(written_reviews() if name == "sample" else mixed_test_reviews(), 1):
        yield f"{name} row {i}", dict(row)


def read_answers(uri: str, taxonomy: Taxonomy | None) -> Rows:
    """Raw rows of one file of labels, for `checked_row`, with `labeller` and `labelled_at` where it has such columns.

    `taxonomy`: the keywords that columns may be named after; None: whatever columns hold scores. Raises UserError
    where the file lacks a text or labels.
    """
    names, found, sheet = table_rows(uri)
    return raw_rows(uri, names, found, taxonomy, sheet) if found else iter(())
