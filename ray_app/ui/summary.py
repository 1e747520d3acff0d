"""What counts of findings add up to. In: cells (keyword, score, period or None, findings). Out: rows for charts."""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import Any

Cells = Iterable[tuple[str, int, date | None, int]]


def by_keyword(cells: Cells) -> list[tuple[str, list[tuple[int, int]]]]:
    """(keyword, [(score, findings)] by score), the most frequent keyword first."""
    counts: dict[str, Counter[int]] = {}
    for keyword, score, _, count in cells:
        counts.setdefault(keyword, Counter())[score] += count
    order = sorted(counts, key=lambda name: (-counts[name].total(), name))
    return [(name, sorted(counts[name].items())) for name in order]


def totals(cells: Cells) -> tuple[int, int, int]:
    """Findings with a negative, neutral and positive score."""
    sums = Counter[str]()
    for _, score, _, count in cells:
        sums[_side(score)] += count
    return sums["negative"], sums["neutral"], sums["positive"]


def decided(cells: Cells) -> str:
    """The keyword worth a first look: the one with most negative findings, but for the one that every review has."""
    names = by_keyword(cells)
    rest = names[1:] or names
    return max(rest, key=lambda item: sum(n for score, n in item[1] if score < 0))[0]


def trend(cells: Cells, keyword: str) -> list[dict[str, Any]]:
    """Per period and side (positive, negative) the share of the keyword's findings, with their count, by period."""
    counts: dict[date, Counter[str]] = {}
    for name, score, period, count in cells:
        if name == keyword and period:
            counts.setdefault(period, Counter())[_side(score)] += count
    return [
        {"period": day.isoformat(), "side": side, "share": sides[side] / sides.total(), "count": sides.total()}
        for day, sides in sorted(counts.items())
        for side in ("positive", "negative")
    ]


def _side(score: int) -> str:
    return "negative" if score < 0 else "positive" if score > 0 else "neutral"
