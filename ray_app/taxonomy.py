"""What a review can speak of and how strongly it can feel: keywords with their tagging guideline, and the score scale.

In: a YAML file (the shipped one is `ray_app/sample/taxonomy.yaml`) or the keywords of labels. Out: a frozen Taxonomy.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ray_app.config import UserError, check, closest

DEFAULT = Path(__file__).parent / "sample" / "taxonomy.yaml"


@dataclass(frozen=True)
class Keyword:
    """An aspect category: its name and its tagging guideline."""

    name: str
    belongs: str = ""
    excludes: str = ""
    cues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taxonomy:
    """Keywords in the order of every probability list, and the ascending scale of scores."""

    name: str
    keywords: tuple[Keyword, ...]
    scores: tuple[int, ...] = (-2, -1, 0, 1, 2)
    overall: str | None = None
    score_names: dict[int, str] = field(default_factory=dict)

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

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(keyword.name for keyword in self.keywords)

    @cached_property
    def index(self) -> dict[str, int]:
        """Keyword name -> position."""
        return {name: i for i, name in enumerate(self.names)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back."""
        return {
            **asdict(self),
            "keywords": [{**asdict(k), "cues": list(k.cues)} for k in self.keywords],
            "scores": list(self.scores),
        }


def from_dict(content: dict[str, Any], place: str) -> Taxonomy:
    """Raises UserError naming `place` where a key is unknown or missing."""
    known = ("name", "keywords", "scores", "overall", "score_names")
    for key in content:
        check(key in known, f"{place}: unknown key {key!r}{closest(str(key), known)}")
    try:
        check(not isinstance(content["keywords"], str), f"{place}: keywords must be a list")
        keywords = tuple(
            Keyword(**{**k, "cues": tuple(k.get("cues", ()))}) if isinstance(k, dict) else Keyword(str(k))
            for k in content["keywords"]
        )
        return Taxonomy(
            name=content.get("name", "custom"),
            keywords=keywords,
            overall=content.get("overall"),
            scores=tuple(content.get("scores", (-2, -1, 0, 1, 2))),
            score_names={int(k): str(v) for k, v in (content.get("score_names") or {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{place}: not a taxonomy ({error}); see {DEFAULT.name} for the form") from None


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
    return Taxonomy("from labels", tuple(map(Keyword, names)), tuple(scores))
