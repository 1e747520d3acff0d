"""What the rows of the tables hold, as Python sees them; `schema.py` has the same as Arrow columns."""

from typing import NotRequired, TypedDict


class LabelRow(TypedDict):
    """A keyword that a labeled review speaks of, its score, and the words that a person accepts for it (None: unknown):
    `highlights` name the keyword, `opinions` say the feeling."""

    keyword: str
    score: int
    highlights: list[str] | None
    opinions: list[str] | None


class LabeledRow(TypedDict):
    """A labeled review; `split` is train, validation, test, or None where the labels do not say."""

    review_id: str
    text: str
    labels: list[LabelRow]
    split: str | None


class HighlightRow(TypedDict):
    """A word of the review: code points [start, end) of the original text, and the drop in probability without it, of
    the keyword for a highlight, of the sign of its score for an opinion; by attention, the share that lies on it."""

    word: str
    start: int
    end: int
    drop: float


class FindingRow(TypedDict):
    """A keyword found in a review, with its score, the word that names it and the word that says the feeling."""

    keyword: str
    probability: float
    score: int
    score_probabilities: list[float]
    highlight: HighlightRow | None
    opinion: NotRequired[HighlightRow | None]  # analyses of releases before 0.2 have none


class AnalysisRow(TypedDict):
    """The result for one review; the columns that were kept lie beside these."""

    review_id: str | None  # None online, where a request gives none
    keyword_probabilities: list[float]
    findings: list[FindingRow]
    truncated: bool


def same_feeling(score: int, other: int) -> bool:
    """Whether two scores have the same sign, so that the words for the one feeling may stand for the other."""
    return (score > 0) - (score < 0) == (other > 0) - (other < 0)


def with_words(label: LabelRow, before: LabelRow | None) -> LabelRow:
    """The label, with the words that it had before where it comes without any; opinions only of the same feeling."""
    if before is None:
        return label
    unturned = same_feeling(label["score"], before["score"])
    return {
        **label,
        "highlights": label["highlights"] or before["highlights"],
        "opinions": label["opinions"] or (before["opinions"] if unturned else None),
    }
