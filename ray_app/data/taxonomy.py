"""Keywords with their tagging guideline, and the scale of scores.

In: a YAML file (the shipped one is `ray_app/sample/taxonomy.yaml`) or the keywords of labels. Out: a frozen Taxonomy.
Rules name the keyword that a cue word requires; `audit/guideline_rules.py` checks labels against them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ray_app.data.text import composed, is_blank
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
    """An exception of a rule: near one of these words, another keyword is required, or none (None).

    `within` is the distance in words; 0 means anywhere in the review.
    """

    near: tuple[str, ...]
    keyword: str | None = None
    within: int = 0


@dataclass(frozen=True)
class Rule:
    """A review that contains one of `cues` (any part of a word) needs `keyword`; the first matching `unless` wins."""

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
    """Keywords in the order of every probability list, and the ascending scale of scores.

    Raises UserError where keywords are missing or repeated, or scores, `overall` or a rule are invalid.
    """

    name: str
    keywords: tuple[Keyword, ...]
    scores: tuple[int, ...] = (-2, -1, 0, 1, 2)
    overall: str | None = None
    score_names: dict[int, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        check(self.keywords, f"taxonomy {self.name}: no keywords")
        for keyword in self.names:
            shown = not is_blank(keyword) and len(keyword.splitlines()) == 1
            check(shown, f"taxonomy {self.name}: keyword {keyword!r} is blank or has a line break; write one line")
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
                location = f"taxonomy {self.name}: rule {_few(rule.cues)}"
                hint = closest(str(name), self.names)
                check(name is None or name in self.names, f"{location}: unknown keyword {name!r}{hint}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the keywords, in order."""
        return tuple(keyword.name for keyword in self.keywords)

    @cached_property
    def index(self) -> dict[str, int]:
        """Keyword name -> position."""
        return {name: i for i, name in enumerate(self.names)}

    def to_dict(self) -> dict[str, object]:
        """Plain values that `from_dict` reads. Without rules there is no key `rules`, as before there were any."""
        content: dict[str, object] = {
            **asdict(self),
            "keywords": [{**asdict(k), "cues": list(k.cues)} for k in self.keywords],
            "scores": list(self.scores),
            "rules": [_rule_dict(rule) for rule in self.rules],
        }
        return content if self.rules else {key: value for key, value in content.items() if key != "rules"}


def from_dict(content: Mapping[str, Any], location: str) -> Taxonomy:
    """A taxonomy of plain values. Raises UserError naming `location` where a key is unknown, missing or invalid."""
    _check_keys(content, ("name", "keywords", "scores", "overall", "score_names", "rules"), location)
    try:
        check(not isinstance(content["keywords"], str), f"{location}: keywords must be a list")
        keywords = tuple(
            Keyword(
                **{
                    **k,
                    "name": composed(str(k["name"])),
                    "cues": tuple(composed(str(cue)) for cue in k.get("cues") or ()),
                }
            )
            if isinstance(k, dict)
            else Keyword(name=composed(str(k)))
            for k in content["keywords"]
        )
        return Taxonomy(
            name=content.get("name", "custom"),
            keywords=keywords,
            overall=content.get("overall"),
            scores=tuple(content.get("scores", (-2, -1, 0, 1, 2))),
            score_names={int(k): str(v) for k, v in (content.get("score_names") or {}).items()},
            rules=tuple(_rule(rule, f"{location}: rule {i}") for i, rule in enumerate(content.get("rules") or (), 1)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{location}: not a taxonomy ({error}); see {DEFAULT.name} for the form") from None


def _rule(raw: object, location: str) -> Rule:
    content = _mapping(raw, ("cues", "keyword", "unless"), ("cues", "keyword"), location)
    exceptions = content.get("unless") or ()
    check(isinstance(exceptions, list | tuple), f"{location}: unless must be a list")
    return Rule(
        _words(content["cues"], f"{location}: cues"),
        str(content["keyword"]),
        tuple(_unless(each, f"{location}: unless {i}") for i, each in enumerate(exceptions, 1)),
    )


def _unless(raw: object, location: str) -> Unless:
    content = _mapping(raw, ("near", "keyword", "within"), ("near",), location)
    within, keyword = content.get("within", 0), content.get("keyword")
    check(type(within) is int and within >= 0, f"{location}: within must be a number of words, 0 for the whole review")
    return Unless(_words(content["near"], f"{location}: near"), None if keyword is None else str(keyword), within)


def _mapping(raw: object, known: tuple[str, ...], needed: tuple[str, ...], location: str) -> dict[str, Any]:
    """A mapping with known keys only and with every needed one. Raises UserError."""
    if not isinstance(raw, dict):
        raise UserError(f"{location}: expected a mapping with {' and '.join(needed)}")
    _check_keys(raw, known, location)
    for key in needed:
        check(raw.get(key), f"{location}: no {key}")
    return raw


def _check_keys(content: Iterable[object], known: tuple[str, ...], location: str) -> None:
    for key in content:
        check(key in known, f"{location}: unknown key {key!r}{closest(str(key), known)}")


def _words(raw: object, location: str) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not all(isinstance(word, str) and word.strip() for word in raw):
        raise UserError(f"{location} must be a list of words")
    return tuple(raw)


def _rule_dict(rule: Rule) -> dict[str, object]:
    exceptions = [{**asdict(each), "near": list(each.near)} for each in rule.unless]
    return {"cues": list(rule.cues), "keyword": rule.keyword, "unless": exceptions}


def _few(words: tuple[str, ...], most: int = 4) -> str:
    """The first words of a longer list."""
    return "·".join(words[:most]) + ("…" if len(words) > most else "")


def load(path: str | Path = DEFAULT) -> Taxonomy:
    """Reads a taxonomy YAML file, by default the shipped one. Raises UserError where it cannot be read."""
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
    """The taxonomy of all keywords and scores in (keyword, score) pairs, for label sets of another domain.

    Raises UserError where there are none, or no valid scale of scores.
    """
    pairs = set(labels)
    check(pairs, "no labels to take a taxonomy from")
    names = sorted({keyword for keyword, _ in pairs})
    scores = sorted({score for _, score in pairs})
    return Taxonomy(name="from labels", keywords=tuple(Keyword(name=name) for name in names), scores=tuple(scores))
