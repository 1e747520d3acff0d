"""Labels held against the taxonomy's rules. In: texts and the keywords their labels name. Out: per rule what was asked.

A rule reads words alone: it can say that labels contradict the guideline, not that they are wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray_app.arrays import Flags
from ray_app.data.taxonomy import Rule, Taxonomy
from ray_app.data.text import words

EVERY = "every review carries {}"


@dataclass(frozen=True, kw_only=True)
class RuleCall:
    """A review (its position), the keyword a rule asks of it, the word that says so, and whether the labels have it."""

    review: int
    keyword: str
    word: str
    obeyed: bool


@dataclass(frozen=True)
class Checked:
    """A rule and all it asked; `obeyed` is the share that its reviews' labels follow."""

    title: str
    keywords: tuple[str, ...]
    demands: tuple[RuleCall, ...]

    @property
    def broken(self) -> tuple[RuleCall, ...]:
        return tuple(demand for demand in self.demands if not demand.obeyed)

    @property
    def obeyed(self) -> float:
        return 1 - len(self.broken) / max(1, len(self.demands))


def check_labels(texts: Sequence[str], named: Flags, taxonomy: Taxonomy) -> list[Checked]:
    """Every rule of the taxonomy, and before them that each review carries the overall keyword where there is one.

    `named` [reviews, keywords] says which keywords each review's labels name.
    """
    split = [[text[start:end] for start, end in spans] for text, spans in zip(texts, words(texts), strict=True)]
    checked = [_overall(taxonomy.overall, named, taxonomy)] if taxonomy.overall else []
    for rule in taxonomy.rules:
        demands = [
            RuleCall(review=review, keyword=keyword, word=word, obeyed=bool(named[review, taxonomy.index[keyword]]))
            for review, said in enumerate(split)
            for keyword, word in asked(said, rule).items()
        ]
        asks = [rule.keyword, *(each.keyword for each in rule.unless if each.keyword)]
        checked.append(Checked(rule.title, tuple(dict.fromkeys(asks)), tuple(demands)))
    return checked


def asked(said: Sequence[str], rule: Rule) -> dict[str, str]:
    """keyword -> the first word that asks for it, in a review of these words."""
    found: dict[str, str] = {}
    for keyword, word in _each(said, rule):
        if keyword is not None:
            found.setdefault(keyword, word)
    return found


def _each(said: Sequence[str], rule: Rule) -> Iterator[tuple[str | None, str]]:
    for at, word in enumerate(said):
        if _holds(word, rule.cues):
            yield next((u.keyword for u in rule.unless if _near(said, at, u.near, u.within)), rule.keyword), word


def _near(said: Sequence[str], at: int, near: Sequence[str], within: int) -> bool:
    beside = said[max(0, at - within) : at + within + 1] if within else said
    return any(_holds(word, near) for word in beside)


def _holds(word: str, parts: Sequence[str]) -> bool:
    return any(part in word for part in parts)


def _overall(overall: str, named: Flags, taxonomy: Taxonomy) -> Checked:
    has = named[:, taxonomy.index[overall]]
    return Checked(
        EVERY.format(overall),
        (overall,),
        tuple(RuleCall(review=i, keyword=overall, word="", obeyed=bool(on)) for i, on in enumerate(has)),
    )
