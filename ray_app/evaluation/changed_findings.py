"""What a catalog's findings become with another bundle: on a sample of its reviews, without labels.

In: two bundles and texts. Out: the share of reviews whose findings change, per keyword how often each finds it and how
often the feeling turns, and examples.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from ray_app.arrays import evenly
from ray_app.inference.analyzer import Analyzer
from ray_app.markdown import escape, table

if TYPE_CHECKING:
    from ray_app.inference.bundle import Bundle

EXAMPLES = 10
SHOWN = 80  # characters of an example
FEW = 5  # keywords of it
Signs = dict[str, int]  # keyword -> the sign of its score


class KeywordChange(TypedDict):
    """Reviews in which each bundle finds a keyword, in which both do, and of these in which the feeling turns."""

    old: int
    new: int
    both: int
    turned: int


class Example(TypedDict):
    """A review whose findings change: keyword -> sign by each bundle."""

    text: str
    old: Signs
    new: Signs


class Changes(TypedDict):
    """Of `reviews`, the share with any change, and with a feeling that turns from good to bad or back."""

    reviews: int
    changed: float
    turned: float
    keywords: dict[str, KeywordChange]
    examples: list[Example]


def changed_findings(old: "Bundle", new: "Bundle", texts: Sequence[str], device: str) -> Changes:
    """Runs both over the texts; findings are compared by keyword and sign."""
    before, after = (_signs(str(bundle.path), texts, device) for bundle in (old, new))
    pairs = list(zip(texts, before, after, strict=True))
    changed = [{"text": text, "old": a, "new": b} for text, a, b in pairs if a != b]
    turned = [any(_turned(a, b, name) for name in a) for _, a, b in pairs]
    names = list(dict.fromkeys([*old.meta.taxonomy.names, *new.meta.taxonomy.names]))
    return {
        "reviews": len(texts),
        "changed": round(len(changed) / max(1, len(texts)), 4),
        "turned": round(sum(turned) / max(1, len(texts)), 4),
        "keywords": {name: _change(name, before, after) for name in names},
        "examples": [changed[i] for i in evenly(len(changed), EXAMPLES)],
    }


def _change(name: str, before: Sequence[Signs], after: Sequence[Signs]) -> KeywordChange:
    return {
        "old": sum(name in signs for signs in before),
        "new": sum(name in signs for signs in after),
        "both": sum(name in a and name in b for a, b in zip(before, after, strict=True)),
        "turned": sum(_turned(a, b, name) for a, b in zip(before, after, strict=True)),
    }


def _turned(old: Signs, new: Signs, name: str) -> bool:
    return old.get(name, 0) * new.get(name, 0) < 0


def _signs(bundle: str, texts: Sequence[str], device: str) -> list[Signs]:
    analyze = Analyzer(bundle, device, highlights="off", opinions=False)
    return [
        {finding["keyword"]: int(np.sign(finding["score"])) for finding in analysis["findings"]}
        for analysis in analyze(texts)
    ]


def markdown(changes: Changes) -> list[str]:
    """Lines for people: the shares, a row per keyword, and examples."""
    rows = [
        (escape(name), row["old"], row["new"], row["both"], row["turned"]) for name, row in changes["keywords"].items()
    ]
    return [
        f"Of {changes['reviews']:,} reviews of the catalog the findings of {changes['changed']:.1%} change; in "
        f"{changes['turned']:.1%} a feeling turns.",
        "",
        *table(("keyword", "found before", "found after", "by both", "feeling turned"), rows),
        "",
        *(line for example in changes["examples"] for line in _example(example)),
    ]


def _example(example: Example) -> Iterator[str]:
    names = dict.fromkeys([*example["old"], *example["new"]])
    moved = [
        f"{escape(name)} {_sign(example['old'].get(name))} -> {_sign(example['new'].get(name))}"
        for name in names
        if example["old"].get(name) != example["new"].get(name)
    ]
    text, more = example["text"], f" and {len(moved) - FEW} more" if len(moved) > FEW else ""
    yield f"- {escape(text[:SHOWN])}{'…' if len(text) > SHOWN else ''}: {', '.join(moved[:FEW])}{more}"


def _sign(value: int | None) -> str:
    return "not found" if value is None else ("bad", "neutral", "good")[value + 1]
