"""Labeled reviews, in every format they come in, as one checked table.

In: Parquet, JSONL, or CSV/TSV with a `Completion` column (`스타일 1, 만족도 2`), or the name of a shipped set.
Out: a LABELED table. A bad label is named with its file and row; `--on-bad-label` says whether it stops the job.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict, TypeGuard, TypeVar

import pyarrow as pa

from ray_app.data.column_names import ID_NAMES, TEXT_NAMES, folded
from ray_app.data.rows import LabeledRow, LabelRow
from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import Taxonomy, from_labels, load
from ray_app.data.text import composed, is_blank
from ray_app.data.values import integral
from ray_app.errors import UserError, check, closest
from ray_app.labels.rows import Row, Rows, UnreadableRow, check_readable, id_of, read_lines, read_parquet, rows

SPLITS = ("train", "validation", "test")
SHIPPED = ("sample", "test-mixed")  # label sets that lie in the package: to train and test on, and mixed test reviews
TAKE_FROM_LABELS = "; --taxonomy labels takes the keywords from the labels"
NOTHING = "-"  # the completion of a review that speaks of no keyword
_TYPED = str.maketrans(  # what keyboards and spreadsheets make of digits, signs and separators
    {
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\uff0d\ufe63", "-"),
        **dict.fromkeys("\uff0c\u3001\uff64;\uff1b", ","),
        "\uff0b": "+",
        "\u3000": " ",
    }
)
_SEPARATOR = re.compile("[,;\uff0c\u3001\uff64\uff1b]")
_LONE = re.compile("[\ud800-\udfff]")
T = TypeVar("T")
_PAIR = re.compile(r"^(?P<keyword>.*[^\d\s.+−-])\s*(?P<score>[+-]?\d{1,9})$")


class KeywordScore(TypedDict):
    """A keyword and its score, as `배송 -1` writes them; neither is checked against a taxonomy yet."""

    keyword: str
    score: int


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
    raw = _raw_rows(uri)
    return _checked_labels(uri, raw, _taxonomy(taxonomy, (row for _, row in raw)), on_bad_label, TAKE_FROM_LABELS)


def read_labels_with(uri: str, taxonomy: Taxonomy, on_bad_label: str = "fail") -> Labels:
    """Reads and checks labels with a taxonomy that is already loaded, such as a bundle's own."""
    return _checked_labels(uri, _raw_rows(uri), taxonomy, on_bad_label)


def _checked_labels(
    uri: str, raw: list[tuple[str, Row]], taxonomy: Taxonomy, on_bad_label: str, remedy: str = ""
) -> Labels:
    check(on_bad_label in ("fail", "drop"), f"--on-bad-label {on_bad_label}: write fail or drop")
    checked, dropped = [], []
    seen: dict[str, str] = {}
    for location, row in raw:
        try:
            checked.append(checked_row(row, taxonomy, seen, location))
        except UserError as error:
            if on_bad_label == "fail":
                hint = remedy if str(error).startswith("unknown keyword") else ""
                raise UserError(f"{location}: {error}{hint} (or --on-bad-label drop)") from None
            dropped.append(f"{location}: {error}")
    check(checked, f"{uri}: every one of {len(raw)} rows is bad; the first: {(dropped or [''])[0]}")
    return Labels(pa.Table.from_pylist(checked, schema=LABELED), taxonomy, tuple(dropped))


def parse_completion(text: str) -> list[KeywordScore] | None:
    """`스타일 1, 만족도2, 신축성 -1` -> pairs; NOTHING -> no pairs; an empty text -> None: nobody has labeled it yet.

    Raises UserError at an item that is no keyword and whole number.
    """
    text = composed(text)
    if text.translate(_TYPED).strip() == NOTHING:
        return []
    return [parse_pair(item) for item in filter(None, (item.strip() for item in _SEPARATOR.split(text)))] or None


def parse_pair(text: str) -> KeywordScore:
    """`배송 -1` -> its keyword and score. Raises UserError."""
    text = composed(text)
    match = _PAIR.match(text.translate(_TYPED))  # letter for letter, so that places in it are those in the text
    if not match:
        raise UserError(f"{text!r} is not a keyword and a score such as '배송 -1'")
    return {"keyword": text[slice(*match.span("keyword"))].strip(), "score": int(match["score"])}


def _taxonomy(choice: str, raw: Iterable[Row]) -> Taxonomy:
    """The taxonomy that `--taxonomy` names; of raw labels only those that are valid count."""
    if choice != "labels":
        return load() if choice in ("default", "sample") else load(choice)
    pairs = []
    for row in raw:
        labels = row.get("labels")
        for label in labels if isinstance(labels, list) else ():
            if isinstance(label, dict) and isinstance(label.get("keyword"), str) and _is_whole(label.get("score")):
                pairs.append((_trimmed(label["keyword"]), int(label["score"])))
    return from_labels(pairs)


def checked_row(row: Mapping[str, object], taxonomy: Taxonomy, seen: dict[str, str], location: str) -> LabeledRow:
    """A raw row as a row of LABELED.

    `seen` maps the id of every row before to its location; this row's is added. Raises UserError without the location.
    """
    check_readable(row)
    review_id, text, raw = row.get("review_id"), row.get("text"), row.get("labels")
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
    check(keyword in taxonomy.names, f"unknown keyword {keyword!r}{closest(str(keyword), taxonomy.names)}")
    if not _is_whole(score) or int(score) not in taxonomy.scores:
        scale = ", ".join(map(str, taxonomy.scores))
        raise UserError(f"{keyword}: score {score!r} is out of range; the scale is {scale}")
    highlights, opinions = (_words(label, name, keyword) for name in ("highlights", "opinions"))
    return {"keyword": str(keyword), "score": int(score), "highlights": highlights, "opinions": opinions}


def _trimmed(keyword: T) -> T | str:
    """A keyword trimmed and in composed letters, where it is a text."""
    return composed(keyword.strip()) if isinstance(keyword, str) else keyword


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


def _raw_rows(uri: str) -> list[tuple[str, Row]]:
    """(location, raw row) of every file, or of a shipped set. Raises UserError where there is none."""
    raw = list(_shipped_rows(uri) if uri in SHIPPED else rows(uri, "labels", read_completions, _read_parquet))
    check(raw, f"{uri}: no labeled reviews there")
    return raw


def _shipped_rows(name: str) -> Rows:
    from ray_app.sample import mixed_test_reviews, written_reviews

    for i, row in enumerate(written_reviews() if name == "sample" else mixed_test_reviews(), 1):
        yield f"{name} row {i}", dict(row)


def _read_parquet(uri: str) -> Rows:
    return read_parquet(uri, ("review_id", "text", "labels"), ("split",))


def read_completions(uri: str) -> Rows:
    """Raw rows of a CSV or TSV file in the hand-labeling format: a text, its `Completion`, and an id where it has one.

    `split`, `labeller` and `labelled_at` are None where the file has no such column. Raises UserError where it lacks
    the text or the `Completion` column.
    """
    header, lines = read_lines(uri)
    completion = _find_name(header, ("completion",))
    text = _find_name(header, (*TEXT_NAMES, "prompt"))
    check(completion and text, f"{uri}: needs a text column and a Completion column, has {', '.join(header)}")
    identity = _find_name(header, ID_NAMES)
    for location, cells, error in lines:
        row = dict(zip(header, cells, strict=False))
        parsed: Row = {
            "review_id": integral(row.get(identity, "")) if identity else id_of(location),
            "text": row.get(text or ""),
            "split": row.get("split"),
            "labeller": row.get("labeller"),
            "labelled_at": row.get("labelled_at"),
        }
        try:
            check(not error, error or "")
            parsed["labels"] = parse_completion(row.get(completion or "", ""))
        except UserError as problem:
            parsed = UnreadableRow(str(problem), parsed)
        yield location, parsed


def _find_name(header: list[str], names: Iterable[str]) -> str | None:
    """The first of `names` that the header has, as the header writes it."""
    by_fold = {folded(name): name for name in header}
    return next((by_fold[folded(name)] for name in names if folded(name) in by_fold), None)
