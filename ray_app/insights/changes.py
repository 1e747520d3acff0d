"""Since when customers complain more, or less: of the catalog, of every category, mall and product, corrected together.

In: a Store. Out: a row per change. A product is judged against the rest of the catalog in the same periods, so that
what the season, or a whole shop, does to everyone is reported once, for the catalog, and not for each product.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_app.arrays import Doubles, Ints
from ray_app.insights.change_points import (
    Changes,
    dispersion,
    exposures,
    find_changes,
    find_level_shifts,
    likelihood_ratio,
    step,
)
from ray_app.insights.statistics import false_discovery
from ray_app.insights.store import LEVELS, SCORES, Level, Row, Store

CHANGES = pa.schema(
    [
        ("level", pa.string()),
        ("value", pa.string()),
        ("keyword", pa.string()),
        ("since", pa.date32()),
        ("until", pa.date32()),
        ("direction", pa.string()),
        ("complaints_before", pa.int64()),
        ("reviews_before", pa.int64()),
        ("complaints_after", pa.int64()),
        ("reviews_after", pa.int64()),
        ("share_before", pa.float64()),
        ("share_after", pa.float64()),
        ("ratio", pa.float64()),
        ("p", pa.float64()),
        ("q", pa.float64()),
    ]
)
LEAST_REVIEWS = 20  # of a group whose series are looked at
LEAST_RATIO = 1.25  # a change smaller than that is of no use to anyone, however sure
LEAST_COMPLAINTS = 5  # on the side that has more of them
SURE, SEASONAL = 1e-3, 0.05  # a change so sure is looked at again beside a season; too weak a step there is none
BLOCK = 4_000  # groups in memory at once
_Daily = tuple[Ints, Doubles, Doubles]  # days since 1970 that have reviews, ascending; complaints, reviews


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Candidates of some series: their group and keyword, first period after the change, and probability."""

    level: Level
    value: Ints
    keyword: Ints
    at: Ints
    sign: Ints
    p: Doubles
    tested: int


def find(store: Store, alpha: float) -> tuple[pa.Table, int]:
    """(CHANGES with q <= alpha, the surest first; how many series were long enough to be tested)."""
    if store.periods < 3:
        return CHANGES.empty_table(), 0
    found = [part for level in LEVELS if store.has(level) for part in _level(store, level)]
    if not found:
        return CHANGES.empty_table(), 0
    q = np.split(false_discovery(np.concatenate([part.p for part in found])), np.cumsum([len(p.p) for p in found])[:-1])
    rows, tested = [], sum(part.tested for part in found)
    for level in LEVELS:
        some = [
            (part, int(i), float(own[i]))
            for part, own in zip(found, q, strict=True)
            if part.level == level
            for i in np.flatnonzero(own <= alpha)
        ]
        if some:
            days = _daily(store, level, {(int(part.value[i]), int(part.keyword[i])) for part, i, _ in some})
            rows += [_row(store, part, i, own, days) for part, i, own in some]
    kept = [row for row in rows if row is not None]
    kept.sort(key=lambda row: (row["q"], row["p"], row["level"], row["value"]))
    return pa.Table.from_pylist(kept, CHANGES), tested


def _level(store: Store, level: Level) -> Iterator[_Found]:
    reviews, _ = store.totals(level)
    enough = np.flatnonzero(reviews >= LEAST_REVIEWS)
    all_reviews, all_counts = store.series("all", np.zeros(1, np.int64))
    for start in range(0, len(enough), BLOCK):
        values = enough[start : start + BLOCK]
        trials, counts = store.series(level, values)
        for keyword in range(len(store.keywords)):
            hits = counts[:, keyword, :, 0]
            if level == "product":
                expected = exposures(trials, all_counts[0, keyword, :, 0] - hits, all_reviews[0] - trials)
                changes = find_changes(hits, expected, dispersion(hits, expected))
                _keep_lasting(changes, hits, expected, per_year(store))
            else:
                changes = find_level_shifts(hits, trials, per_year(store))
            number = np.full(len(values), keyword)
            yield _Found(
                level=level,
                value=values,
                keyword=number,
                at=changes.at,
                sign=changes.sign,
                p=changes.tails,
                tested=changes.tested,
            )


def per_year(store: Store) -> float:
    """Periods of a year."""
    return 12.0 if store.period == "month" else 52.2


def _keep_lasting(changes: Changes, hits: Doubles, expected: Doubles, year: float) -> None:
    """Drops what a product's own season explains as well as a change would; a series too short to tell stays."""
    for i in np.flatnonzero(changes.tails < SURE):
        if step(hits[i], expected[i], year, int(changes.at[i]))[1] > SEASONAL:  # NaN is not
            changes.tails[i] = 1.0


def _row(store: Store, found: _Found, i: int, q: float, daily: Mapping[tuple[int, int], _Daily]) -> Row | None:
    """A change with its day and counts; None where it is too small to matter, or its shares say the opposite."""
    days, hits, trials = daily[int(found.value[i]), int(found.keyword[i])]
    cut = _day(store, days, hits, trials, int(found.at[i]))
    before = (int(hits[:cut].sum()), int(trials[:cut].sum()))
    after = (int(hits[cut:].sum()), int(trials[cut:].sum()))
    shares = [(complaints + 0.5) / (reviews + 1) for complaints, reviews in (before, after)]
    ratio = shares[1] / shares[0]
    enough = max(before[0], after[0]) >= LEAST_COMPLAINTS and min(before[1], after[1]) > 0
    if max(ratio, 1 / ratio) < LEAST_RATIO or not enough:
        return None
    if (ratio > 1) != (found.sign[i] > 0):  # what was tested moved the other way beside the season and the others
        return None
    names = store.names.get(found.level)
    return {
        "level": found.level,
        "value": names[found.value[i]] if names else "",
        "keyword": store.keywords[found.keyword[i]],
        "since": int(days[cut]),
        "until": int(days[-1]),
        "direction": "worse" if ratio > 1 else "better",
        "complaints_before": before[0],
        "reviews_before": before[1],
        "complaints_after": after[0],
        "reviews_after": after[1],
        "share_before": before[0] / before[1],
        "share_after": after[0] / after[1],
        "ratio": ratio,
        "p": float(found.p[i]),
        "q": q,
    }


def _daily(store: Store, level: Level, cells: set[tuple[int, int]]) -> dict[tuple[int, int], _Daily]:
    """The days of every (value, keyword) of a level; one pass over the reviews for all of them."""
    column = "0" if level == "all" else level
    values, keywords = ({cell[part] for cell in cells} for part in (0, 1))
    only = f"{column} IN ({', '.join(map(str, sorted(values)))}) AND day IS NOT NULL"
    trials = store.columns(f"SELECT {column} AS value, day, count(*) AS n FROM reviews WHERE {only} GROUP BY ALL")
    codes = ", ".join(str(keyword * SCORES + score) for keyword in sorted(keywords) for score in range(2))
    hits = store.columns(
        f"""SELECT value, day, code // {SCORES} AS keyword, count(*) AS n
        FROM (SELECT {column} AS value, day, unnest(codes) AS code FROM reviews WHERE {only})
        WHERE code IN ({codes}) GROUP BY ALL"""
    )
    first = store.first_day
    width = int(trials["day"].max()) - first + 1
    found: dict[tuple[int, int], _Daily] = {}
    for value in values:
        mine = trials["value"] == value
        counted = np.bincount(trials["day"][mine].astype(int) - first, trials["n"][mine], width)
        some = np.flatnonzero(counted).astype(np.int64)
        for keyword in {keyword for one, keyword in cells if one == value}:
            bad = (hits["value"] == value) & (hits["keyword"] == keyword)
            complaints = np.bincount(hits["day"][bad].astype(int) - first, hits["n"][bad], width)
            found[value, keyword] = (some + first, complaints[some].astype(float), counted[some].astype(float))
    return found


def _day(store: Store, days: Ints, hits: Doubles, trials: Doubles, period: int) -> int:
    """The row of the most likely first day after the change, within one period of where it was found."""
    starts = np.array(store.period_days())
    ratio = likelihood_ratio(hits[None], trials[None])[0]
    low, high = starts[max(0, period - 1)], starts[min(period + 1, len(starts) - 1)]
    near = np.flatnonzero((days[1:] > low) & (days[1:] < high)) + 1
    if not len(near):
        return int(np.clip(np.searchsorted(days, starts[period]), 1, len(days) - 1))
    return int(near[ratio[near - 1].argmax()])
