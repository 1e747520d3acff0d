"""What a labelling tool is given and what it gives back, whichever tool it is.

In: a batch of reviews with findings (or labels) to start from. Out: `Review`s to write; and `Answer`s that were read,
with the labels that a tool's choices and highlighted spans amount to. Offsets are code points of the text as given.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ray_app.data.schema import ANALYSIS
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import Span
from ray_app.errors import UserError, check, closest
from ray_app.labels.reader import parse_pair


@dataclass(frozen=True, kw_only=True)
class KeywordMark:
    """A keyword of a review: its score, the spans of the words that carry it, and how sure a model is of it."""

    keyword: str
    score: int
    spans: tuple[Span, ...] = ()
    probability: float | None = None


@dataclass(frozen=True, kw_only=True)
class LabelingTask:
    """A review to label: what a labeller starts from, and what is known of it besides (why it was chosen, say)."""

    review_id: str
    text: str
    marks: tuple[KeywordMark, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def completion(self) -> str:
        return completion([{"keyword": mark.keyword, "score": mark.score} for mark in self.marks])


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One labeller's row of a file, at `place`: labels, or why there are none (`skipped`), or what is wrong with it."""

    place: str
    review_id: Any = None
    text: Any = None
    labels: list[dict[str, Any]] = field(default_factory=list)
    labeller: str = ""
    labelled_at: datetime | None = None
    skipped: str = ""
    error: str = ""


def reviews(batch: pa.Table) -> Iterator[LabelingTask]:
    """The rows of a batch: review_id, text; marks from `labels` where it has them, else from `findings`; the rest is
    told beside the review. Raises UserError where review_id or text is missing."""
    for name in ("review_id", "text"):
        check(name in batch.column_names, f"the batch has no column {name!r}{closest(name, batch.column_names)}")
    own = {"review_id", "text", "labels", *(name for name, _ in ANALYSIS)}
    for part in batch.to_batches(max_chunksize=1_000):
        for row in part.to_pylist():
            text = row["text"]
            marks = _labeled(row["labels"], text) if row.get("labels") else _found(row.get("findings") or ())
            about = {name: value for name, value in row.items() if name not in own and value is not None}
            yield LabelingTask(review_id=str(row["review_id"]), text=text, marks=tuple(marks), about=about)


def _found(findings: Iterable[dict[str, Any]]) -> Iterator[KeywordMark]:
    for finding in findings:
        highlight = finding["highlight"]
        spans = ((highlight["start"], highlight["end"]),) if highlight else ()
        yield KeywordMark(
            keyword=finding["keyword"], score=finding["score"], spans=spans, probability=finding["probability"]
        )


def _labeled(labels: Iterable[dict[str, Any]], text: str) -> Iterator[KeywordMark]:
    for label in labels:
        starts = [(text.find(word), len(word)) for word in map(str.strip, label["highlights"] or ()) if word]
        yield KeywordMark(
            keyword=label["keyword"],
            score=label["score"],
            spans=tuple((at, at + size) for at, size in starts if at >= 0),
        )


def completion(labels: Iterable[Mapping[str, Any]]) -> str:
    """Labels as the hand-labelling format writes them: `스타일 1, 만족도 2`."""
    return ", ".join(choice(label["keyword"], label["score"]) for label in labels)


def choice(keyword: str, score: int) -> str:
    """How a keyword with its score is offered where a tool has one flat list of choices: `배송 -1`."""
    return f"{keyword} {score}"


def chosen(choices: Iterable[Any], taxonomy: Taxonomy) -> Iterator[tuple[str, Any]]:
    """(keyword, score) of each `배송 -1`. Raises UserError where it is not such a choice."""
    offered = {choice(name, score): (name, score) for name in taxonomy.names for score in taxonomy.scores}
    for text in map(str, choices):
        pair = parse_pair(text) if text not in offered else None
        yield (pair["keyword"], pair["score"]) if pair else offered[text]


def labels_of(
    text: str, pairs: Iterable[tuple[str, Any]], spans: Iterable[tuple[str, Any, Any]], taxonomy: Taxonomy
) -> list[dict[str, Any]]:
    """Labels of (keyword, score) and (keyword, start, end): a keyword's highlighted words become its `highlights`.

    Raises UserError at a span outside the text or of a keyword without a score. Keywords and scores are checked where
    all labels are.
    """
    words: dict[str, list[str]] = {}
    for keyword, start, end in spans:
        whole = isinstance(start, int) and isinstance(end, int)
        check(
            whole and 0 <= start < end <= len(text),
            f"{keyword}: the span {start}-{end} is outside the text of {len(text)} characters",
        )
        words.setdefault(keyword, []).append(text[start:end].strip())
    labels = [{"keyword": keyword, "score": score} for keyword, score in pairs]
    for keyword in words:
        check(keyword in taxonomy.names, f"unknown keyword {keyword!r}{closest(str(keyword), taxonomy.names)}")
        named = any(label["keyword"] == keyword for label in labels)
        check(named, f"{keyword}: words are highlighted but no score is given; choose one or remove the highlight")
    found = {keyword: list(dict.fromkeys(filter(None, marked))) for keyword, marked in words.items()}
    return [label | {"highlights": found.get(str(label["keyword"])) or None} for label in labels]


def moment(value: Any) -> datetime | None:
    """A time as the tools write it (ISO 8601, or seconds since 1970) in UTC; None of nothing. Raises UserError."""
    if value in (None, ""):
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        when = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        raise UserError(f"{value!r} is not a time such as 2026-11-22T09:30:00Z") from None
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
