"""The catalog as a whole: keywords by score, over time, and where the text contradicts the stars.

In: a Store. Out: tables, one row per keyword, per keyword and period, and per star.
"""

import numpy as np
import pyarrow as pa

from ray_app.insights.statistics import wilson
from ray_app.insights.store import LEVELS, SCORES, Level, Store

KEYWORDS = pa.schema(
    [
        ("keyword", pa.string()),
        ("reviews", pa.int64()),
        ("findings", pa.int64()),
        ("share", pa.float64()),
        *((f"score_{name}", pa.int64()) for name in ("minus_2", "minus_1", "0", "plus_1", "plus_2")),
        ("complaints", pa.float64()),
        ("complaints_low", pa.float64()),
        ("complaints_high", pa.float64()),
        ("satisfaction", pa.float64()),
    ]
)
TREND = pa.schema(
    [
        ("level", pa.string()),
        ("value", pa.string()),
        ("keyword", pa.string()),
        ("since", pa.date32()),
        ("reviews", pa.int64()),
        ("negative", pa.int64()),
        ("neutral", pa.int64()),
        ("positive", pa.int64()),
        ("complaints", pa.float64()),
        ("complaints_low", pa.float64()),
        ("complaints_high", pa.float64()),
    ]
)
STARS = pa.schema(
    [
        ("rating", pa.float64()),
        ("reviews", pa.int64()),
        ("with_complaints", pa.int64()),
        ("with_praise", pa.int64()),
        ("complaints", pa.float64()),
    ]
)
MOST_GROUPS = 50  # categories or malls whose course is kept
TOP, LOW = 0.9, 0.4  # of the highest rating: what counts as the best, and as a bad one


def keywords(store: Store) -> pa.Table:
    """KEYWORDS, the one with the most complaints first."""
    reviews = int(store.rows("SELECT count(*) FROM reviews")[0][0])
    counts = np.zeros((len(store.keywords), SCORES), np.int64)
    for code, count in store.rows("SELECT code, count(*) FROM (SELECT unnest(codes) AS code FROM reviews) GROUP BY 1"):
        counts[code // SCORES, code % SCORES] = count
    negative, found = counts[:, :2].sum(1), counts.sum(1)
    low, high = wilson(negative.astype(float), np.full(len(counts), float(reviews)))
    rows = []
    for i in np.argsort(-negative, kind="stable"):
        if not found[i]:
            continue
        decided = negative[i] + counts[i, 3:].sum()
        scores = dict(zip([f.name for f in KEYWORDS][4 : 4 + SCORES], counts[i].tolist(), strict=True))
        rows.append(
            {
                "keyword": store.keywords[i],
                "reviews": reviews,
                "findings": int(found[i]),
                "share": found[i] / reviews,
                **scores,
                "complaints": negative[i] / reviews,
                "complaints_low": low[i],
                "complaints_high": high[i],
                "satisfaction": counts[i, 3:].sum() / decided if decided else None,
            }
        )
    return pa.Table.from_pylist(rows, KEYWORDS)


def trend(store: Store, products: dict[str, set[str]]) -> pa.Table:
    """TREND of the catalog, the 50 largest categories and malls, and of the given products' keywords."""
    tables = [_trend(store, level) for level in LEVELS[:3] if store.has(level)]
    if products:
        tables.append(_trend(store, "product", products))
    return pa.concat_tables(tables) if store.periods else TREND.empty_table()


def _trend(store: Store, level: Level, only: dict[str, set[str]] | None = None) -> pa.Table:
    if not store.periods:
        return TREND.empty_table()
    names = store.names.get(level) or [""]
    wanted = sorted(names.index(name) for name in only) if only else _largest(store, level)
    reviews, counts = store.series(level, np.array(wanted, np.int64))
    days = store.period_days()[:-1]
    rows = []
    for row, value in enumerate(wanted):
        for number, keyword in enumerate(store.keywords):
            if only and keyword not in only[names[value]]:
                continue
            negative = counts[row, number, :, 0]
            low, high = wilson(negative, reviews[row])
            for period in np.flatnonzero(reviews[row]):
                sides = counts[row, number, period].astype(int).tolist()
                rows.append(
                    {
                        "level": level,
                        "value": names[value],
                        "keyword": keyword,
                        "since": days[period],
                        "reviews": int(reviews[row, period]),
                        **dict(zip(("negative", "neutral", "positive"), sides, strict=True)),
                        "complaints": negative[period] / reviews[row, period],
                        "complaints_low": low[period],
                        "complaints_high": high[period],
                    }
                )
    return pa.Table.from_pylist(rows, TREND)


def _largest(store: Store, level: Level) -> list[int]:
    """The groups of a level with the most reviews, in the order of their numbers."""
    return sorted(int(i) for i in np.argsort(-store.totals(level)[0], kind="stable")[:MOST_GROUPS])


def stars(store: Store) -> pa.Table:
    """STARS: per rating, how many reviews complain of a keyword and how many praise one."""
    side = "len(list_filter(codes, lambda c: c % 5 {} 2)) > 0"
    sql = f"""SELECT round(rating) AS rating, count(*) AS reviews, count(*) FILTER ({side.format("<")}),
        count(*) FILTER ({side.format(">")}) FROM reviews WHERE rating IS NOT NULL
        GROUP BY 1 ORDER BY 1 DESC LIMIT 20"""
    rows = [
        {
            "rating": rating,
            "reviews": reviews,
            "with_complaints": negative,
            "with_praise": positive,
            "complaints": negative / reviews,
        }
        for rating, reviews, negative, positive in reversed(store.rows(sql))
    ]
    return pa.Table.from_pylist(rows, STARS)


def best_rating(table: pa.Table) -> float:
    """The scale's upper end: the highest rating that occurs, at least 5."""
    return float(max([5.0, *table["rating"].to_pylist()]))
