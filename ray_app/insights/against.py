"""Two periods, or two runs, compared: what moved, and whether the customers moved or the model did.

In: the Store of a report, and the days or the Store of what it is compared with. Out: a row per keyword. The reviews
that both runs analyzed say what another model makes of the same texts; the rest of a difference is the customers'.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import special

from ray_app.arrays import Doubles
from ray_app.errors import check
from ray_app.insights.statistics import false_discovery
from ray_app.insights.store import SCORES, Store

COMPARED = pa.schema(
    [
        ("keyword", pa.string()),
        ("reviews_before", pa.int64()),
        ("reviews_now", pa.int64()),
        ("complaints_before", pa.float64()),
        ("complaints_now", pa.float64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("q", pa.float64()),
        ("by_model", pa.float64()),
        ("by_model_low", pa.float64()),
        ("by_model_high", pa.float64()),
        ("by_customers", pa.float64()),
        ("by_customers_low", pa.float64()),
        ("by_customers_high", pa.float64()),
    ]
)
LEAST_SHARED = 100  # reviews in both runs that say what the model's part is
OTHER = "other"  # the other run's database, attached


@dataclass(frozen=True)
class _Counts:
    """[keywords] reviews with a complaint, of so many reviews."""

    hits: Doubles
    reviews: int


def periods(store: Store, first: int, last: int, since: int, until: int) -> pa.Table:
    """COMPARED: the reviews of the days first to last (since 1970) before, those of the days since to until now; one
    model, so its part is 0. Raises UserError where either has none."""
    before = _counts(store, "reviews", f"day BETWEEN {first} AND {last}")
    now = _counts(store, "reviews", f"day BETWEEN {since} AND {until}")
    check(
        before.reviews and now.reviews,
        f"--against: {before.reviews} reviews on its days, {now.reviews} on those beside them; name others",
    )
    nothing = np.zeros(len(store.keywords))
    return _table(store, before, now, (nothing, nothing))


def runs(store: Store, other: Store, same_model: bool) -> tuple[pa.Table, int]:
    """(COMPARED, how many reviews both runs have): the other run's reviews before, this run's now."""
    store.attach(other, OTHER)
    before, now = _counts(store, f"{OTHER}.reviews", "true", other), _counts(store, "reviews", "true")
    shared = int(store.rows(f"SELECT count(*) FROM reviews JOIN {OTHER}.reviews USING (id)")[0][0])
    model: tuple[Doubles, Doubles] | None = None
    if same_model:
        model = (np.zeros(len(store.keywords)), np.zeros(len(store.keywords)))
    elif shared >= LEAST_SHARED:
        model = _model(store, other, shared)
    table = _table(store, before, now, model)
    store.detach(OTHER)
    return table, shared


def _counts(store: Store, table: str, where: str, of: Store | None = None) -> _Counts:
    names = (of or store).keywords
    hits = np.zeros(len(store.keywords))
    sql = f"""SELECT code // {SCORES}, count(*) FROM (SELECT unnest(codes) AS code FROM {table} WHERE {where})
        WHERE code % {SCORES} < 2 GROUP BY 1"""
    for number, count in store.rows(sql):
        if names[number] in store.keywords:
            hits[store.keywords.index(names[number])] = count
    return _Counts(hits, int(store.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0]))


def _model(store: Store, other: Store, shared: int) -> tuple[Doubles, Doubles]:
    """([keywords] difference that the model makes on the same reviews, its standard error), paired (McNemar 1947)."""
    difference, error = np.zeros(len(store.keywords)), np.zeros(len(store.keywords))
    for number, keyword in enumerate(store.keywords):
        mine = _complains("a", number)
        theirs = _complains("b", other.keywords.index(keyword)) if keyword in other.keywords else "false"
        sql = f"""SELECT count(*) FILTER ({mine} AND NOT {theirs}), count(*) FILTER ({theirs} AND NOT {mine})
            FROM reviews a JOIN {OTHER}.reviews b USING (id)"""
        more, fewer = map(float, store.rows(sql)[0])
        difference[number] = (more - fewer) / shared
        error[number] = np.sqrt(max(more + fewer - (more - fewer) ** 2 / shared, 0.25)) / shared
    return difference, error


def _complains(table: str, keyword: int) -> str:
    return f"list_has_any({table}.codes, [{keyword * SCORES}, {keyword * SCORES + 1}]::USMALLINT[])"


def _table(store: Store, before: _Counts, now: _Counts, model: tuple[Doubles, Doubles] | None) -> pa.Table:
    old, new = (counts.hits / max(1, counts.reviews) for counts in (before, now))
    variance = sum(
        (share * (1 - share) + 1 / (4 * max(1, counts.reviews))) / max(1, counts.reviews)
        for share, counts in ((old, before), (new, now))
    )
    error = np.sqrt(variance)
    q = false_discovery(2 * special.ndtr(-np.abs(new - old) / error))
    columns: dict[str, object] = {
        "keyword": store.keywords,
        "reviews_before": [before.reviews] * len(old),
        "reviews_now": [now.reviews] * len(old),
        "complaints_before": old,
        "complaints_now": new,
        "q": q,
        **_interval("difference", new - old, error),
    }
    if model is not None:
        columns |= _interval("by_model", *model)
        columns |= _interval("by_customers", new - old - model[0], np.hypot(error, model[1]))
    empty = [None] * len(old)
    table = pa.table({field.name: pa.array(columns.get(field.name, empty), field.type) for field in COMPARED})
    return table.take(pa.array(np.argsort(-np.abs(new - old), kind="stable")))


def _interval(name: str, value: Doubles, error: Doubles) -> dict[str, object]:
    return {name: value, f"{name}_low": value - 1.96 * error, f"{name}_high": value + 1.96 * error}
