"""Labels compared with the rules of the taxonomy.

In: texts and the keywords that their labels name. Out: per rule, where it applies and whether the labels follow it. A
rule reads words alone: it can tell that labels contradict the guideline, not that they are wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray_app.arrays import Flags
from ray_app.data.taxonomy import Rule, Taxonomy
from ray_app.data.text import words

EVERY_REVIEW = "every review carries {}"


@dataclass(frozen=True, kw_only=True)
class RuleMatch:
    """A rule applies to a review (its position): the keyword it requires, because of which word ("" for none), and
    whether the labels have that keyword."""

    review: int
    keyword: str
    word: str
    followed: bool


@dataclass(frozen=True)
class CheckedRule:
    """A rule, the keywords it may require, and its matches."""

    title: str
    keywords: tuple[str, ...]
    matches: tuple[RuleMatch, ...]

    @property
    def broken(self) -> tuple[RuleMatch, ...]:
        """The matches that the labels do not follow."""
        return tuple(match for match in self.matches if not match.followed)

    @property
    def share_followed(self) -> float:
        """Share of the matches that the labels follow, 1 where there are none."""
        return 1 - len(self.broken) / max(1, len(self.matches))


def check_labels(texts: Sequence[str], labeled: Flags, taxonomy: Taxonomy) -> list[CheckedRule]:
    """Checks every rule of the taxonomy; the first rule is that every review carries the overall keyword, if any.

    `labeled` [reviews, keywords] says which keywords each review's labels name.
    """
    split_texts = [[text[start:end] for start, end in spans] for text, spans in zip(texts, words(texts), strict=True)]
    checked = [_overall_rule(taxonomy.overall, labeled, taxonomy)] if taxonomy.overall else []
    for rule in taxonomy.rules:
        matches = [
            RuleMatch(
                review=review, keyword=keyword, word=word, followed=bool(labeled[review, taxonomy.index[keyword]])
            )
            for review, text_words in enumerate(split_texts)
            for keyword, word in required_keywords(text_words, rule).items()
        ]
        keywords = [rule.keyword, *(exception.keyword for exception in rule.unless if exception.keyword)]
        checked.append(CheckedRule(rule.title, tuple(dict.fromkeys(keywords)), tuple(matches)))
    return checked


def required_keywords(text_words: Sequence[str], rule: Rule) -> dict[str, str]:
    """Keyword -> the first word because of which the rule requires it, in a review of these words."""
    required: dict[str, str] = {}
    for keyword, word in _cue_words(text_words, rule):
        if keyword is not None:
            required.setdefault(keyword, word)
    return required


def _cue_words(text_words: Sequence[str], rule: Rule) -> Iterator[tuple[str | None, str]]:
    """Per word that holds a cue: the keyword of the first exception that applies, else the rule's; None for none."""
    for i, word in enumerate(text_words):
        if _contains(word, rule.cues):
            yield next((u.keyword for u in rule.unless if _near(text_words, i, u.near, u.within)), rule.keyword), word


def _near(text_words: Sequence[str], i: int, near: Sequence[str], within: int) -> bool:
    """Whether a word at most `within` words from word i contains one of `near`; 0 looks at the whole review."""
    window = text_words[max(0, i - within) : i + within + 1] if within else text_words
    return any(_contains(word, near) for word in window)


def _contains(word: str, cues: Sequence[str]) -> bool:
    return any(cue in word for cue in cues)


def _overall_rule(overall: str, labeled: Flags, taxonomy: Taxonomy) -> CheckedRule:
    """Every review must carry the overall keyword."""
    matches = (
        RuleMatch(review=i, keyword=overall, word="", followed=bool(has_overall))
        for i, has_overall in enumerate(labeled[:, taxonomy.index[overall]])
    )
    return CheckedRule(EVERY_REVIEW.format(overall), (overall,), tuple(matches))
