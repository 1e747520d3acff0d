"""What a labeling tool is given and what it gives back, whichever tool it is.

In: a batch of reviews with findings (or labels) to start from. Out: `LabelingTask`s to write; and `Annotation`s that
were read, with the labels that a tool's choices and highlighted spans stand for. Offsets are code points of the text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from ray_app.data.rows import FindingRow, LabelRow
from ray_app.data.schema import ANALYSIS
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import Span
from ray_app.errors import UserError, check, closest
from ray_app.labels.completions import KeywordScore, parse_pair
from ray_app.labels.offsets import inside
from ray_app.labels.rows import Row

CHUNK = 1_000  # rows of a batch that are Python objects at once
OPINION = ": opinion"  # after a keyword, the name of a span that says the feeling


@dataclass(frozen=True, kw_only=True)
class SuggestedLabel:
    """A keyword that a labeler starts from: its score, the spans of the words that name it (`spans`) and of those that
    say the feeling (`opinions`), and its probability by a model."""

    keyword: str
    score: int
    spans: tuple[Span, ...] = ()
    opinions: tuple[Span, ...] = ()
    probability: float | None = None

    def marked(self) -> Iterator[tuple[str, Span]]:
        """Every span under the name that tools without a control of their own for opinions show: `배송`, or
        `배송: opinion`."""
        yield from ((self.keyword, span) for span in self.spans)
        yield from ((self.keyword + OPINION, span) for span in self.opinions)


@dataclass(frozen=True, kw_only=True)
class LabelingTask:
    """A review to label, labels to start from, and metadata to show beside it, such as why it was chosen."""

    review_id: str
    text: str
    suggestions: tuple[SuggestedLabel, ...] = ()
    metadata: Row = field(default_factory=dict)

    @property
    def completion(self) -> str:
        """The suggestions as the hand-labeling format writes them."""
        return completion([{"keyword": label.keyword, "score": label.score} for label in self.suggestions])


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A labeler's row of a file: unchecked labels, or why there are none (`skipped`), or what is wrong (`error`)."""

    location: str
    review_id: object = None
    text: object = None
    labels: list[Row] = field(default_factory=list)
    labeler: str = ""
    labeled_at: datetime | None = None
    skipped: str = ""
    error: str = ""


def read_tasks(batch: pa.Table) -> Iterator[LabelingTask]:
    """The rows of a batch as tasks: suggestions from `labels` where a row has them, else from `findings`.

    Every other column but review_id, text and those of an analysis becomes metadata. Raises UserError where review_id
    or text is missing.
    """
    for name in ("review_id", "text"):
        check(name in batch.column_names, f"the batch has no column {name!r}{closest(name, batch.column_names)}")
    reserved = {"review_id", "text", "labels", *(name for name, _ in ANALYSIS)}
    for chunk in batch.to_batches(max_chunksize=CHUNK):
        for row in chunk.to_pylist():
            text, labels = row["text"], row.get("labels")
            suggestions = _of_labels(labels, text) if labels else _of_findings(row.get("findings") or ())
            metadata = {name: value for name, value in row.items() if name not in reserved and value is not None}
            yield LabelingTask(
                review_id=str(row["review_id"]), text=text, suggestions=tuple(suggestions), metadata=metadata
            )


def _of_findings(findings: Iterable[FindingRow]) -> Iterator[SuggestedLabel]:
    for finding in findings:
        highlight, opinion = (
            ((word["start"], word["end"]),) if word else () for word in (finding["highlight"], finding.get("opinion"))
        )
        yield SuggestedLabel(
            keyword=finding["keyword"],
            score=finding["score"],
            spans=highlight,
            opinions=opinion,
            probability=finding["probability"],
        )


def _of_labels(labels: Iterable[LabelRow], text: str) -> Iterator[SuggestedLabel]:
    """A label's words become spans where the text contains them."""
    for label in labels:
        yield SuggestedLabel(
            keyword=label["keyword"],
            score=label["score"],
            spans=_spans(label["highlights"], text),
            opinions=_spans(label.get("opinions"), text),
        )


def _spans(words: Iterable[str] | None, text: str) -> tuple[Span, ...]:
    """Where the text first contains each of the words."""
    starts = [(text.find(word), len(word)) for word in map(str.strip, words or ()) if word]
    return tuple((start, start + length) for start, length in starts if start >= 0)


def completion(labels: Iterable[KeywordScore | LabelRow]) -> str:
    """Labels as the hand-labeling format writes them: `스타일 1, 만족도 2`."""
    return ", ".join(choice(label["keyword"], label["score"]) for label in labels)


def choice(keyword: str, score: int) -> str:
    """A keyword with its score as one of a tool's flat list of choices: `배송 -1`."""
    return f"{keyword} {score}"


def parse_choices(choices: Iterable[object], taxonomy: Taxonomy) -> Iterator[tuple[str, int]]:
    """(keyword, score) of each `배송 -1`. Raises UserError where it is not such a choice."""
    offered = {choice(name, score): (name, score) for name in taxonomy.names for score in taxonomy.scores}
    for text in map(str, choices):
        pair = parse_pair(text) if text not in offered else None
        yield (pair["keyword"], pair["score"]) if pair else offered[text]


def to_labels(
    text: str,
    pairs: Iterable[tuple[str, int | str]],
    spans: Iterable[tuple[object, object, object]],
    taxonomy: Taxonomy,
) -> list[Row]:
    """Unchecked labels of (keyword, score) pairs, with the words in (keyword, start, end) spans as their highlights,
    or as their opinions where the keyword of a span ends in OPINION. Spans that lie in the text in UTF-16 units only
    are taken for such.

    Raises UserError at a span outside the text, or one whose keyword is unknown or has no score. Keywords and scores
    of pairs are checked later, with all labels, by `reader.checked_row`.
    """
    words: dict[object, list[str]] = {}
    spans = list(spans)
    places = inside(text, [(start, end) for _, start, end in spans])
    for name, *ends in spans:
        check(isinstance(name, str), f"unknown keyword {name!r}")
        start, end = (places.get(one, one) if isinstance(one, int) else one for one in ends)
        if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= len(text):
            raise UserError(f"{name}: the span {start}-{end} is outside the text of {len(text)} characters")
        words.setdefault(name, []).append(text[start:end].strip())
    labels: list[Row] = [{"keyword": keyword, "score": score} for keyword, score in pairs]
    scored = {label["keyword"] for label in labels}
    for name in words:
        keyword = name.removesuffix(OPINION) if isinstance(name, str) and name not in taxonomy.names else name
        check(keyword in taxonomy.names, f"unknown keyword {keyword!r}{closest(str(keyword), taxonomy.names)}")
        told = keyword in scored
        check(told, f"{keyword}: words are highlighted but no score is given; choose one or remove the highlight")
    distinct = {name: list(dict.fromkeys(filter(None, spanned))) for name, spanned in words.items()}
    return [
        label
        | {
            "highlights": distinct.get(label["keyword"]) or None,
            "opinions": distinct.get(f"{label['keyword']}{OPINION}") or None,
        }
        for label in labels
    ]


def parse_time(value: object) -> datetime | None:
    """A tool's time (ISO 8601, or seconds since 1970) in UTC; None where there is none. Raises UserError."""
    if value in (None, ""):
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        time = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        raise UserError(f"{value!r} is not a time such as 2026-11-22T09:30:00Z") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
