"""What costs stars: the effect of every keyword's sign on the rating, with its uncertainty, and how often it strikes.

In: a Store with ratings. Out: a row per keyword and sign. The rating is regressed on which keywords a review praises,
names or criticizes, beside one level per product and one per period: a linear model, because its coefficients are
stars, which add up and can be multiplied by a frequency; for the mean of a rating between 1 and 5 it needs no normal
errors. Its errors are clustered by product (Liang and Zeger 1986), so that reviews of one product may be alike. An
ordered model of a sample (`ordered.py`) stands beside it, by which one sees how little hangs on that choice. The
overall keyword is left out: it says the rating in words, and beside it nothing else would cost anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from scipy import special

from ray_app.arrays import Doubles, Ints
from ray_app.insights import ordered
from ray_app.insights.store import SCORES, SIDES, Row, Store

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DRIVERS = pa.schema(
    [
        ("keyword", pa.string()),
        ("sign", pa.string()),
        ("reviews", pa.int64()),
        ("share", pa.float64()),
        ("effect", pa.float64()),
        ("effect_low", pa.float64()),
        ("effect_high", pa.float64()),
        ("impact", pa.float64()),
        ("impact_low", pa.float64()),
        ("impact_high", pa.float64()),
        ("odds_ratio", pa.float64()),
        ("ordered_effect", pa.float64()),
        ("ordered_low", pa.float64()),
        ("ordered_high", pa.float64()),
    ]
)
LEAST = 30  # reviews with a keyword and sign, below which it has no effect of its own
ALWAYS = 0.995  # of the reviews: a keyword found in so many has one sign fewer to estimate
LEAST_RATED = 200  # reviews with a rating
MOST_GROUPS = 50_000  # products with a level of their own: those with the most reviews
CLUSTERS = 40  # fewer products than that are no clusters: then reviews are dealt into as many groups
ORDERED, MOST_RATINGS, FIRM = 60_000, 11, 10.0  # reviews and ratings of the ordered model; reviews of a firm level
MOST_STEPS = 40  # periods with a level of their own; more are joined


@dataclass(frozen=True)
class _Block:
    """Some rated reviews: [n] group, cluster and rating; (row, column) of the findings; [n] column of the period."""

    group: Ints
    cluster: Ints
    rating: Doubles
    row: Ints
    column: Ints
    step: Ints


class _Model:
    """The least-squares fit of ratings with a level per group, by sums over blocks of reviews."""

    def __init__(self, columns: int, groups: int, clusters: int) -> None:
        self.columns, self.clusters = columns, clusters
        self.gram, self.moment = np.zeros((columns, columns)), np.zeros(columns)
        self.sums, self.ratings, self.counts = np.zeros((groups, columns)), np.zeros(groups), np.zeros(groups)
        self.present = np.zeros(columns)

    def add(self, block: _Block) -> None:
        """Takes a block's sums."""
        design = self.design(block)
        self.gram += (design.T @ design).toarray()
        self.moment += design.T @ block.rating
        groups = len(self.counts)
        self.counts += np.bincount(block.group, minlength=groups)
        self.ratings += np.bincount(block.group, block.rating, groups)
        self.present += np.asarray(design.sum(0))[0]
        self.sums += self._by(design, block.group, np.ones(len(block.group)), groups)

    def fit(self, tried: Ints) -> Doubles:
        """The coefficients of the `tried` columns; 0 for the others."""
        n = np.maximum(self.counts, 1)
        self.tried = tried
        within = self.gram - self.sums.T @ (self.sums / n[:, None])
        moment = self.moment - self.sums.T @ (self.ratings / n)
        self.inverse = np.linalg.pinv(within[np.ix_(tried, tried)], hermitian=True)
        self.effects = np.zeros(self.columns)
        self.effects[tried] = self.inverse @ moment[tried]
        self.level = (self.ratings - self.sums @ self.effects) / n
        self.scores = np.zeros((self.clusters, self.columns))
        return self.effects

    def residuals(self, block: _Block) -> None:
        """Takes what a block adds to the errors; after `fit`."""
        design = self.design(block)
        error = block.rating - design @ self.effects - self.level[block.group]
        self.scores += self._by(design, block.cluster, error, self.clusters)
        means = self.sums / np.maximum(self.counts, 1)[:, None]
        lost = np.bincount(block.group, error, len(self.counts))
        if self.clusters != len(self.counts):  # within a group of its own errors add up to 0
            table = np.zeros((self.clusters, len(self.counts)))
            np.add.at(table, (block.cluster, block.group), error)
            self.scores -= table @ means
        else:
            self.scores -= lost[:, None] * means

    def errors(self) -> Doubles:
        """The standard error of every coefficient."""
        scores = self.scores[:, self.tried]
        correction = self.clusters / max(1, self.clusters - 1)
        covariance = self.inverse @ (scores.T @ scores) @ self.inverse * correction
        errors = np.zeros(self.columns)
        errors[self.tried] = np.sqrt(np.maximum(np.diag(covariance), 0))
        return errors

    def design(self, block: _Block) -> "csr_matrix":
        """[n, columns] 1 where a review has the finding, or is of the period; a few of each row."""
        from scipy.sparse import csr_matrix

        row = np.concatenate([block.row, np.arange(len(block.group))])
        column = np.concatenate([block.column, block.step])
        design = csr_matrix((np.ones(len(row)), (row, column)), (len(block.group), self.columns))
        design.sum_duplicates()
        design.data[:] = 1.0
        return design

    def _by(self, design: "csr_matrix", key: Ints, weight: Doubles, keys: int) -> Doubles:
        """[keys, columns] the sums of the design's rows times `weight` by key."""
        each = np.diff(design.indptr)
        cells = np.repeat(key * self.columns, each) + design.indices
        sums = np.bincount(cells, np.repeat(weight, each), keys * self.columns)
        return np.asarray(sums, np.float64).reshape(keys, self.columns)


def fit(store: Store, overall: str | None) -> tuple[pa.Table, dict[str, float]]:
    """(DRIVERS, the largest loss first; figures of the fit). Empty without ratings, or where all are alike."""
    rated = store.rows("SELECT count(*), avg(rating), stddev_pop(rating) FROM reviews WHERE rating IS NOT NULL")[0]
    count, mean, deviation = int(rated[0]), rated[1], rated[2]
    if count < LEAST_RATED or not deviation:
        return DRIVERS.empty_table(), {}
    signs = len(store.keywords) * len(SIDES)
    steps = min(max(store.periods, 1), MOST_STEPS)
    groups = min(len(store.names.get("product", ())) or 1, MOST_GROUPS) + 1
    clustered = groups > CLUSTERS
    model = _Model(signs + steps, groups, groups if clustered else 5 * CLUSTERS)
    for block in _blocks(store, groups, steps, clustered):
        model.add(block)
    tried = model.present >= LEAST
    tried[[i for i in range(signs) if store.keywords[i // len(SIDES)] == overall]] = False
    tried[signs + int(model.present[signs:].argmax())] = False  # the period that the others are compared with
    tried[_baselines(model.present[:signs], count)] = False
    effects = model.fit(np.flatnonzero(tried))
    for block in _blocks(store, groups, steps, clustered):
        model.residuals(block)
    margin = model.errors() * special.stdtrit(model.clusters - 1, 0.975)
    rows = [_row(store, int(i), effects[i], margin[i], model.present[i], count) for i in np.flatnonzero(tried[:signs])]
    sample = _blocks(store, groups, steps, clustered, f"hash(pos) <= {int(min(1.0, ORDERED / count) * (2**64 - 1))}")
    figures = {"rated": count, "mean": float(mean), "clusters": model.clusters if clustered else 0}
    figures["ordered"] = _add_ordered(rows, model, list(sample), np.flatnonzero(tried), signs)
    rows.sort(key=lambda row: row["impact"])
    return pa.Table.from_pylist(rows, DRIVERS), figures


def _add_ordered(rows: list[Row], model: _Model, blocks: list[_Block], tried: Ints, signs: int) -> int:
    """Adds the ordered model's effects to the rows, which are of the first of the `tried` columns; returns of how many
    reviews they are, 0 where it cannot be fitted. The linear model's level of its product stands for each product."""
    rating = np.concatenate([block.rating for block in blocks]).round() if blocks else np.zeros(0)
    if not rows or not 1 < len(np.unique(rating)) <= MOST_RATINGS:
        return 0
    group = np.concatenate([block.group for block in blocks])
    design = np.concatenate([model.design(block)[:, tried].toarray() for block in blocks])
    drawn = model.counts / (model.counts + FIRM)  # a level of three reviews is hardly one
    level = ((model.level - model.level @ model.counts / model.counts.sum()) * drawn)[group]
    effects = int((tried < signs).sum())
    enough = design.sum(0) >= LEAST  # of the sample
    kept = np.flatnonzero(enough)
    columns = [design[:, kept], *([level[:, None]] if level.std() > 0 else [])]
    cluster = np.concatenate([block.cluster for block in blocks])
    found = ordered.fit(np.concatenate(columns, 1), rating, cluster, int(enough[:effects].sum()))
    if found is None:
        return 0
    for row, log_odds, effect, error in zip(
        [rows[i] for i in kept if i < effects], found.log_odds, found.effect, found.error, strict=True
    ):
        row |= {"odds_ratio": float(np.exp(log_odds)), "ordered_effect": effect}
        row |= {"ordered_low": effect - 1.96 * error, "ordered_high": effect + 1.96 * error}
    return len(rating)


def _baselines(present: Doubles, count: int) -> list[int]:
    """The most frequent sign of each keyword that (nearly) every review has: what its other signs are compared with."""
    by_keyword = present.reshape(-1, len(SIDES))
    always = np.flatnonzero(by_keyword.sum(1) >= ALWAYS * count)
    return [int(keyword * len(SIDES) + by_keyword[keyword].argmax()) for keyword in always]


def _row(store: Store, column: int, effect: float, margin: float, found: float, count: int) -> Row:
    share = found / count
    return {
        "keyword": store.keywords[column // len(SIDES)],
        "sign": SIDES[column % len(SIDES)],
        "reviews": int(found),
        "share": share,
        "effect": effect,
        "effect_low": effect - margin,
        "effect_high": effect + margin,
        "impact": effect * share,
        "impact_low": (effect - margin) * share,
        "impact_high": (effect + margin) * share,
        **dict.fromkeys(("odds_ratio", "ordered_effect", "ordered_low", "ordered_high")),
    }


def _blocks(store: Store, groups: int, steps: int, clustered: bool, where: str = "true") -> Iterator[_Block]:
    """The rated reviews of SQL `where`; a product beyond the groups shares the last one."""
    order = np.arange(max(len(store.names.get("product", ())), 1), dtype=np.int64)
    if len(order) > groups - 1:
        by_size = np.argsort(-store.totals("product")[0], kind="stable")
        order[by_size] = np.minimum(np.arange(len(order)), groups - 1)
    number = store.number("day") if store.periods else "0"
    signs, wide = len(store.keywords) * len(SIDES), -(-max(store.periods, 1) // steps)
    sql = f"SELECT pos, product, rating, {number} AS period, codes FROM reviews WHERE rating IS NOT NULL AND {where}"
    for batch in store.batches(sql):
        product = batch["product"].to_numpy(zero_copy_only=False).astype(np.int64)
        group = np.where(product < 0, groups - 1, order[np.maximum(product, 0)])
        lists = batch["codes"]
        lengths = np.diff(lists.offsets.to_numpy()).astype(np.int64)
        codes = lists.flatten().to_numpy().astype(np.int64)
        period = batch["period"].fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        position = batch["pos"].to_numpy().astype(np.int64)
        yield _Block(
            group=group,
            cluster=group if clustered else position % (5 * CLUSTERS),
            rating=batch["rating"].to_numpy(zero_copy_only=False).astype(np.float64),
            row=np.repeat(np.arange(len(group)), lengths),
            column=codes // SCORES * len(SIDES) + np.sign(codes % SCORES - 2) + 1,
            step=signs + np.minimum(period // wide, steps - 1),
        )
