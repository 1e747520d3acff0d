"""What a review can speak of and how strongly it can feel: keywords with their tagging guideline, and the score scale.
Rules say which keyword a word calls for; `guidelines.py` holds labels against them.

In: a YAML file (the shipped one is `ray_app/sample/taxonomy.yaml`) or the keywords of labels. Out: a frozen Taxonomy.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ray_app.errors import UserError, check, closest

DEFAULT = Path(__file__).parents[1] / "sample" / "taxonomy.yaml"


@dataclass(frozen=True, kw_only=True)
class Keyword:
    """An aspect category: its name and its tagging guideline."""

    name: str
    belongs: str = ""
    excludes: str = ""
    cues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unless:
    """What a rule asks instead where one of `near` stands within so many words of it, 0: anywhere.

    `keyword` None: nothing is asked there.
    """

    near: tuple[str, ...]
    keyword: str | None = None
    within: int = 0


@dataclass(frozen=True)
class Rule:
    """A review that says one of `cues` (any part of a word) is to carry `keyword`; the first fitting `unless` wins."""

    cues: tuple[str, ...]
    keyword: str
    unless: tuple[Unless, ...] = ()

    @property
    def title(self) -> str:
        """`구김·구겨 -> 소재, near 배송·택배 -> 배송`."""
        others = (f", near {_few(each.near)} -> {each.keyword or 'nothing'}" for each in self.unless)
        return f"{_few(self.cues)} -> {self.keyword}{''.join(others)}"


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """Keywords in the order of every probability list, and the ascending scale of scores."""

    name: str
    keywords: tuple[Keyword, ...]
    scores: tuple[int, ...] = (-2, -1, 0, 1, 2)
    overall: str | None = None
    score_names: dict[int, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        check(self.keywords, f"taxonomy {self.name}: no keywords")
        check(len(set(self.names)) == len(self.names), f"taxonomy {self.name}: a keyword is named twice")
        check(
            all(type(score) is int and -128 <= score < 128 for score in self.scores)
            and len(self.scores) >= 2
            and list(self.scores) == sorted(set(self.scores)),
            f"taxonomy {self.name}: scores must be ascending integers in -128..127, got {list(self.scores)}",
        )
        check(self.overall in (None, *self.names), f"taxonomy {self.name}: overall {self.overall!r} is not a keyword")
        for rule in self.rules:
            for name in (rule.keyword, *(each.keyword for each in rule.unless)):
                known = name is None or name in self.names
                where = f"taxonomy {self.name}: rule {_few(rule.cues)}"
                check(known, f"{where}: unknown keyword {name!r}{closest(str(name), self.names)}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(keyword.name for keyword in self.keywords)

    @cached_property
    def index(self) -> dict[str, int]:
        """Keyword name -> position."""
        return {name: i for i, name in enumerate(self.names)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back. Without rules there is no word of them, as there was none once."""
        content = {
            **asdict(self),
            "keywords": [{**asdict(k), "cues": list(k.cues)} for k in self.keywords],
            "scores": list(self.scores),
            "rules": [_rule_dict(rule) for rule in self.rules],
        }
        return content if self.rules else {key: value for key, value in content.items() if key != "rules"}


def from_dict(content: dict[str, Any], place: str) -> Taxonomy:
    """Raises UserError naming `place` where a key is unknown or missing."""
    known = ("name", "keywords", "scores", "overall", "score_names", "rules")
    for key in content:
        check(key in known, f"{place}: unknown key {key!r}{closest(str(key), known)}")
    try:
        check(not isinstance(content["keywords"], str), f"{place}: keywords must be a list")
        keywords = tuple(
            Keyword(**{**k, "cues": tuple(k.get("cues", ()))}) if isinstance(k, dict) else Keyword(name=str(k))
            for k in content["keywords"]
        )
        return Taxonomy(
            name=content.get("name", "custom"),
            keywords=keywords,
            overall=content.get("overall"),
            scores=tuple(content.get("scores", (-2, -1, 0, 1, 2))),
            score_names={int(k): str(v) for k, v in (content.get("score_names") or {}).items()},
            rules=tuple(_rule(rule, f"{place}: rule {i}") for i, rule in enumerate(content.get("rules") or (), 1)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{place}: not a taxonomy ({error}); see {DEFAULT.name} for the form") from None


def _rule(content: Any, place: str) -> Rule:
    _known(content, ("cues", "keyword", "unless"), ("cues", "keyword"), place)
    others = content.get("unless") or ()
    check(isinstance(others, list | tuple), f"{place}: unless must be a list")
    return Rule(
        _words(content["cues"], f"{place}: cues"),
        str(content["keyword"]),
        tuple(_unless(each, f"{place}: unless {i}") for i, each in enumerate(others, 1)),
    )


def _unless(content: Any, place: str) -> Unless:
    _known(content, ("near", "keyword", "within"), ("near",), place)
    within, keyword = content.get("within", 0), content.get("keyword")
    check(type(within) is int and within >= 0, f"{place}: within must be a number of words, 0 for the whole review")
    return Unless(_words(content["near"], f"{place}: near"), None if keyword is None else str(keyword), within)


def _known(content: Any, known: tuple[str, ...], needed: tuple[str, ...], place: str) -> None:
    check(isinstance(content, dict), f"{place}: expected a mapping with {' and '.join(needed)}")
    for key in content:
        check(key in known, f"{place}: unknown key {key!r}{closest(str(key), known)}")
    for key in needed:
        check(content.get(key), f"{place}: no {key}")


def _words(content: Any, place: str) -> tuple[str, ...]:
    good = isinstance(content, list | tuple) and all(isinstance(word, str) and word.strip() for word in content)
    check(good, f"{place} must be a list of words")
    return tuple(content)


def _rule_dict(rule: Rule) -> dict[str, Any]:
    others = [{**asdict(each), "near": list(each.near)} for each in rule.unless]
    return {"cues": list(rule.cues), "keyword": rule.keyword, "unless": others}


def _few(words: tuple[str, ...], most: int = 4) -> str:
    return "·".join(words[:most]) + ("…" if len(words) > most else "")


def load(path: str | Path = DEFAULT) -> Taxonomy:
    """Reads a taxonomy YAML file."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"taxonomy {path}: {' '.join(str(error).split())}") from None
    check(isinstance(content, dict), f"taxonomy {path}: expected a mapping with `keywords`")
    return from_dict(content, str(path))


def dump(taxonomy: Taxonomy) -> str:
    """YAML text that `load` reads."""
    return str(yaml.safe_dump(taxonomy.to_dict(), allow_unicode=True, sort_keys=False))


def from_labels(labels: Iterable[tuple[str, int]]) -> Taxonomy:
    """The taxonomy that (keyword, score) pairs themselves span, for label sets of another domain."""
    pairs = set(labels)
    check(pairs, "no labels to take a taxonomy from")
    names = sorted({keyword for keyword, _ in pairs})
    scores = sorted({score for _, score in pairs})
    return Taxonomy(name="from labels", keywords=tuple(Keyword(name=name) for name in names), scores=tuple(scores))
