"""What counts of findings add up to. In: cells (keyword, score, period or None, findings). Out: rows for charts."""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import Literal, TypedDict

from ray_app.ui.queries import Cell

ORDERS = ("frequent", "trouble", "share")  # of the bars: by findings, by negative ones, by their share
PRIOR = 20  # findings that the share of the others counts as: two complaints of two are no trouble yet
Side = Literal["negative", "neutral", "positive"]
Cells = Iterable[Cell]


class TrendRow(TypedDict):
    """The share of one side among a keyword's findings of one period, and how many findings these are."""

    period: str  # its first day, ISO
    side: Side
    share: float
    count: int


def by_keyword(cells: Cells) -> list[tuple[str, list[tuple[int, int]]]]:
    """(keyword, [(score, findings)] by score), the most frequent keyword first."""
    counts: dict[str, Counter[int]] = {}
    for keyword, score, _, count in cells:
        counts.setdefault(keyword, Counter())[score] += count
    order = sorted(counts, key=lambda name: (-counts[name].total(), name))
    return [(name, sorted(counts[name].items())) for name in order]


def ordered(rows: list[tuple[str, list[tuple[int, int]]]], order: str) -> list[tuple[str, list[tuple[int, int]]]]:
    """Rows of `by_keyword` in one of ORDERS."""
    if order == ORDERS[0]:
        return rows
    bad = {name: sum(n for score, n in scores if score < 0) for name, scores in rows}
    found = {name: sum(n for _, n in scores) for name, scores in rows}
    usual = sum(bad.values()) / max(1, sum(found.values()))
    if order == ORDERS[1]:
        return sorted(rows, key=lambda row: -bad[row[0]])
    return sorted(rows, key=lambda row: -(bad[row[0]] + PRIOR * usual) / (found[row[0]] + PRIOR))


def totals(cells: Cells) -> tuple[int, int, int]:
    """Findings with a negative, neutral and positive score."""
    sums = Counter[Side]()
    for _, score, _, count in cells:
        sums[_side(score)] += count
    return sums["negative"], sums["neutral"], sums["positive"]


def most_criticized(cells: Cells) -> str:
    """The keyword with the most negative findings, apart from the most frequent one (overall satisfaction)."""
    names = by_keyword(cells)
    candidates = names[1:] or names
    return max(candidates, key=lambda item: sum(n for score, n in item[1] if score < 0))[0]


def trend(cells: Cells, keyword: str) -> list[TrendRow]:
    """Rows by period, a positive and a negative one each."""
    counts: dict[date, Counter[Side]] = {}
    for name, score, period, count in cells:
        if name == keyword and period:
            counts.setdefault(period, Counter())[_side(score)] += count
    sides: tuple[Side, Side] = ("positive", "negative")
    return [
        {"period": day.isoformat(), "side": side, "share": sums[side] / sums.total(), "count": sums.total()}
        for day, sums in sorted(counts.items())
        for side in sides
    ]


def _side(score: int) -> Side:
    return "negative" if score < 0 else "positive" if score > 0 else "neutral"
