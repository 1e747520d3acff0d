"""Products, categories and malls compared: who satisfies, who does not, and who stands out beyond chance.

In: a Store. Out: one row per group and keyword. Satisfaction is the share of positive ones among the findings that are
positive or negative; complaints are the share of reviews with a negative finding. Both are drawn towards the other
groups' (`statistics.py`), so that a product with three reviews does not top a list.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_app.arrays import Doubles
from ray_app.insights.statistics import beta_priors, credible, false_discovery, upper_tails
from ray_app.insights.store import LEVELS, Level, Row, Store

GROUPS = pa.schema(
    [
        ("level", pa.string()),
        ("value", pa.string()),
        ("keyword", pa.string()),
        ("reviews", pa.int64()),
        ("negative", pa.int64()),
        ("neutral", pa.int64()),
        ("positive", pa.int64()),
        ("satisfaction", pa.float64()),
        ("satisfaction_low", pa.float64()),
        ("satisfaction_high", pa.float64()),
        ("complaints", pa.float64()),
        ("complaints_low", pa.float64()),
        ("complaints_high", pa.float64()),
        ("usual_complaints", pa.float64()),
        ("p", pa.float64()),
        ("q", pa.float64()),
        ("stands_out", pa.bool_()),
    ]
)


def compare(store: Store, alpha: float) -> pa.Table:
    """A GROUPS row per category, mall and product and keyword that it has findings of.

    `usual_complaints` is what the other groups have, `p` the probability of so many complaints or more were the group
    one of them, and `q` the same after correction for how many groups and keywords of a level are compared; with
    q <= alpha it `stands_out`.
    """
    tables = [_level(store, level, alpha) for level in LEVELS[1:] if store.has(level)]
    return pa.concat_tables(tables) if tables else GROUPS.empty_table()


def _level(store: Store, level: Level, alpha: float) -> pa.Table:
    if not store.keywords:
        return GROUPS.empty_table()
    reviews, counts = store.totals(level)
    tables = [_keyword(reviews, counts[:, number]) for number in range(len(store.keywords))]
    q = false_discovery(np.concatenate([table["p"] for table in tables]))
    pieces, first = [], 0
    for name, table in zip(store.keywords, tables, strict=True):
        some = np.flatnonzero(counts[:, store.keywords.index(name)].sum(1) > 0)
        columns: Row = {key: values[some] for key, values in table.items()}
        own = q[first : first + len(reviews)][some]
        first += len(reviews)
        columns |= {"q": own, "stands_out": own <= alpha, "level": [level] * len(some), "keyword": [name] * len(some)}
        columns["value"] = [store.names[level][i] for i in some]
        pieces.append(pa.table({field.name: pa.array(columns[field.name], field.type) for field in GROUPS}))
    return pa.concat_tables(pieces)


def _keyword(reviews: Doubles, counts: Doubles) -> dict[str, Doubles]:
    """The figures of one keyword, one per group. reviews [groups]; counts [groups, 3 sides]."""
    negative, neutral, positive = counts.T
    decided = negative + positive
    satisfaction = credible(positive, decided, *beta_priors(positive, decided))
    a, b = beta_priors(negative, reviews)
    complaints = credible(negative, reviews, a, b)
    return {
        "reviews": reviews.astype(np.int64),
        "negative": negative.astype(np.int64),
        "neutral": neutral.astype(np.int64),
        "positive": positive.astype(np.int64),
        **dict(zip(("satisfaction", "satisfaction_low", "satisfaction_high"), satisfaction, strict=True)),
        **dict(zip(("complaints", "complaints_low", "complaints_high"), complaints, strict=True)),
        "usual_complaints": a / (a + b),
        "p": upper_tails(negative, reviews, a, b),
    }


def outliers(groups: pa.Table) -> list[Row]:
    """The GROUPS rows that stand out: products first, which explain most of their categories and malls, then by q."""
    order = ("product", "category", "mall")
    rows = groups.filter(groups["stands_out"]).to_pylist()
    return sorted(rows, key=lambda row: (order.index(row["level"]), row["q"], row["p"]))


def ranked(groups: pa.Table, level: Level, keyword: str, least: int) -> Iterator[Row]:
    """Groups of a level by their satisfaction with a keyword, the worst first, of those with `least` findings."""
    mine = groups.filter((pc.field("level") == level) & (pc.field("keyword") == keyword))
    rows = [row for row in mine.to_pylist() if row["negative"] + row["positive"] >= least]
    yield from sorted(rows, key=lambda row: (row["satisfaction"], -row["reviews"]))
