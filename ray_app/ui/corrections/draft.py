"""A review's labels while they are being corrected. Without Streamlit.

In: the text and the model's findings, or an earlier decision. Out: labels, as they are saved. Words are known by their
number in the review, so that marking one is choosing it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ray_app.data.rows import FindingRow, HighlightRow, LabelRow
from ray_app.data.text import Span, words


@dataclass(frozen=True, kw_only=True)
class DraftLabel:
    """A label being corrected; `origin` numbers the model's finding that it began as (None: added)."""

    keyword: str
    score: int
    origin: int | None = None
    highlights: tuple[int, ...] = ()
    opinions: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A review with what the model found (`old`) and what stands now."""

    review_id: str
    text: str
    old: tuple[LabelRow, ...]
    labels: tuple[DraftLabel, ...]
    spans: tuple[Span, ...] = field(repr=False)

    def words(self) -> list[str]:
        """The review's words, in order."""
        return [self.text[start:end] for start, end in self.spans]

    def changed(self, number: int, label: DraftLabel) -> "Draft":
        """With another label in place of one."""
        return replace(self, labels=(*self.labels[:number], label, *self.labels[number + 1 :]))

    def without(self, number: int) -> "Draft":
        """Without one label."""
        return replace(self, labels=(*self.labels[:number], *self.labels[number + 1 :]))

    def added(self, keyword: str, score: int) -> "Draft":
        """With one more label."""
        return replace(self, labels=(*self.labels, DraftLabel(keyword=keyword, score=score)))

    def unused(self, keywords: Iterable[str], besides: int | None = None) -> list[str]:
        """Keywords that no label has yet, apart from one label's own."""
        used = {label.keyword for number, label in enumerate(self.labels) if number != besides}
        return [keyword for keyword in keywords if keyword not in used]

    def saved(self) -> list[tuple[int | None, LabelRow]]:
        """(The finding that it began as, label) of each."""
        return [(label.origin, _row(self.text, self.spans, label)) for label in self.labels]


def of_findings(review_id: str, text: str, findings: Sequence[FindingRow]) -> Draft:
    """What the model found, to be corrected."""
    spans = tuple(words([text])[0])
    labels = tuple(
        DraftLabel(
            keyword=finding["keyword"],
            score=int(finding["score"]),
            origin=number,
            highlights=_marked(spans, finding["highlight"]),
            opinions=_marked(spans, finding.get("opinion")),
        )
        for number, finding in enumerate(findings)
    )
    old = tuple(_row(text, spans, label) for label in labels)
    return Draft(review_id=review_id, text=text, old=old, labels=labels, spans=spans)


def resumed(draft: Draft, labels: Sequence[LabelRow]) -> Draft:
    """The draft with the labels of an earlier decision, each tied to the model's finding of its keyword."""
    origins: Mapping[str, int] = {label["keyword"]: number for number, label in enumerate(draft.old)}
    own = draft.words()
    return replace(
        draft,
        labels=tuple(
            DraftLabel(
                keyword=label["keyword"],
                score=label["score"],
                origin=origins.get(label["keyword"]),
                highlights=_found(own, label["highlights"]),
                opinions=_found(own, label["opinions"]),
            )
            for label in labels
        ),
    )


def _marked(spans: Sequence[Span], word: HighlightRow | None) -> tuple[int, ...]:
    if word is None:
        return ()
    return tuple(i for i, (start, end) in enumerate(spans) if start < word["end"] and word["start"] < end)


def _found(own: Sequence[str], said: Sequence[str] | None) -> tuple[int, ...]:
    return tuple(sorted({own.index(word) for word in said or () if word in own}))


def _row(text: str, spans: Sequence[Span], label: DraftLabel) -> LabelRow:
    named, felt = (
        [text[slice(*spans[number])] for number in numbers if number < len(spans)] or None
        for numbers in (label.highlights, label.opinions)
    )
    return {"keyword": label.keyword, "score": label.score, "highlights": named, "opinions": felt}
