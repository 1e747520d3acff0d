"""Analyses with known changes, bad products and star drivers -> how many of them a report finds, and what it invents.

python -m tests.experiments.planted_insights find --seeds 10
python -m tests.experiments.planted_insights none --seeds 10
python -m tests.experiments.planted_insights write --reviews 10000000 --products 5000 --output runs/ten-million
"""

import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.arrays import Doubles, Ints
from ray_app.cli import main
from ray_app.data import analyses
from ray_app.data.schema import FINDING, HIGHLIGHT
from ray_app.data.taxonomy import load
from ray_app.insights import changes, groups, star_drivers
from ray_app.insights.reading import ingest
from ray_app.insights.store import Store
from ray_app.options import Options, option

FIRST_DAY, DAYS = np.datetime64("2024-01-01"), 731
NAMES = load().names
COMPLAINTS, PRAISE = 0.05, 0.16  # shares of reviews with a negative and a positive finding of a keyword
NOISE = 0.004  # spread of a keyword's complaints over products: the Beta's 1 / (a + b + 1)
SEASON = 0.25  # how much complaints of all products move together over the year
EFFECTS = {("배송", -1): -0.9, ("사이즈", -1): -0.6, ("품질", -1): -1.1, ("가격", -1): -0.3, ("디자인", 1): 0.25}
STEMS = [chr(0xAC00 + 588 * first + 28 * middle) for first in range(0, 19, 2) for middle in range(0, 21, 3)]
ENDINGS = ("어요", "네요", "고", "았어요", "은데")
NEAR = 31  # days between a change and where it is said to be


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of this script."""

    reviews: int = option(200_000, "reviews per seed", least=1)
    products: int = option(300, "products", least=1)
    seeds: int = option(10, "seeds; for `write`, the seed", least=0)
    first_seed: int = option(0, "the first of them", least=0)
    file_rows: int = option(200_000, "rows per file", least=1)
    output: str = option("", "folder that `write` writes")


@dataclass
class Truth:
    """What was planted: (product, keyword) -> day of its change, (product, keyword) of bad products, true shares."""

    changes: dict[tuple[int, int], int] = field(default_factory=dict)
    bad: set[tuple[int, int]] = field(default_factory=set)
    shares: Doubles = field(default_factory=lambda: np.zeros((0, 0)))  # [products, keywords] before any change
    factor: Doubles = field(default_factory=lambda: np.zeros(0))
    popularity: Doubles = field(default_factory=lambda: np.zeros(0))
    level: Doubles = field(default_factory=lambda: np.zeros(0))


def plant(config: Config, seed: int, planted: bool) -> Truth:
    """Draws the products; plants 20 changes (8% to 24%) and 10 bad products (22%) among those with 1,000 reviews."""
    rng = np.random.default_rng([seed, 1])
    weight = rng.lognormal(0, 1, config.products)
    a = COMPLAINTS * (1 / NOISE - 1)
    shares = rng.beta(a, (1 / NOISE - 1) - a, (config.products, len(NAMES)))
    truth = Truth(shares=shares, popularity=weight / weight.sum(), level=rng.normal(0, 0.15, config.products))
    if planted:
        large = np.flatnonzero(truth.popularity * config.reviews >= 1_000)
        cells = rng.permutation(np.array([(p, k) for p in large for k in range(len(NAMES))]))
        for product, keyword in cells[:20]:
            truth.changes[int(product), int(keyword)] = int(rng.integers(DAYS // 4, 3 * DAYS // 4))
            shares[product, keyword] = 0.08
        for product, keyword in cells[20:30]:
            truth.bad.add((int(product), int(keyword)))
            shares[product, keyword] = 0.22
    return truth


def table(config: Config, seed: int, truth: Truth, first: int) -> pa.Table:
    """The analyses of one file."""
    rng = np.random.default_rng([seed, 2, first])
    rows = min(config.file_rows, config.reviews - first)
    product = rng.choice(len(truth.popularity), rows, p=truth.popularity)
    day = rng.integers(0, DAYS, rows)
    wave = 1 + SEASON * np.sin(2 * np.pi * day[:, None] / 365 + np.arange(len(NAMES)))
    negative = truth.shares[product] * wave
    for (p, k), since in truth.changes.items():
        negative[(product == p) & (day >= since), k] *= 3
    draw = rng.random((rows, len(NAMES)))
    sign = np.where(draw < negative, -1, np.where(draw > 1 - PRAISE, 1, 0)).astype(np.int8)
    stars = 3.9 + truth.level[product]
    for (name, side), effect in EFFECTS.items():
        stars = stars + effect * (sign[:, NAMES.index(name)] == side)
    rating = np.floor(np.clip(stars, 1, 5) + rng.random(rows)).astype(np.int8)
    row, keyword = np.nonzero(sign)
    return _columns(rng, first, product, day, rating.astype(np.int64), sign.astype(np.int64), row, keyword)


def _columns(
    rng: np.random.Generator,
    first: int,
    product: Ints,
    day: Ints,
    rating: Ints,
    sign: Ints,
    row: Ints,
    keyword: Ints,
) -> pa.Table:
    rows = len(product)
    probabilities = np.where(sign != 0, rng.beta(8, 1, sign.shape) * 0.5 + 0.5, rng.beta(0.5, 12, sign.shape) * 0.5)
    probabilities = probabilities.round(4).astype(np.float32)
    score = (sign[row, keyword] * (1 + (rng.random(len(row)) < 0.4))).astype(np.int8)
    words = np.array([f"{a}{b}{c}" for a in "늦작얇크좋예쁜길짧두꺼" for b in STEMS for c in ENDINGS])
    texts = np.array([f"{a} 입어 보니 {b}" for a in words[:40] for b in words[:40]])
    word = HIGHLIGHT.field("word").type
    shown = pa.StructArray.from_arrays(
        [
            pa.array(words[rng.integers(0, len(words), len(row))], word),
            pa.array(np.zeros(len(row), np.int32)),
            pa.array(np.full(len(row), 3, np.int32)),
            pa.array(np.full(len(row), 0.5, np.float32)),
        ],
        fields=list(HIGHLIGHT),
    )
    five = np.full((len(row), 5), 0.1, np.float32)
    five[np.arange(len(row)), score + 2] = 0.6
    lists = pa.FixedSizeListArray.from_arrays(pa.array(five.reshape(-1)), 5).cast(pa.list_(pa.float32()))
    names = np.array(NAMES, object)[keyword]
    columns = [pa.array(names), pa.array(probabilities[row, keyword]), pa.array(score), lists, shown, shown]
    findings = pa.StructArray.from_arrays(columns, fields=list(FINDING))
    offsets = pa.array(np.searchsorted(row, np.arange(rows + 1)).astype(np.int32))
    every = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.reshape(-1)), len(NAMES))
    return pa.table(
        {
            "review_id": pa.array([f"r{first + i:09d}" for i in range(rows)]),
            "text": pa.array(texts[rng.integers(0, len(texts), rows)]),
            "product": pa.array(np.array([f"상품 {i}" for i in range(product.max() + 1)], object)[product]),
            "mall": pa.array(np.array(["두루마당", "온결스토어", "하늬옷방"], object)[rng.integers(0, 3, rows)]),
            "category": pa.array(np.array(["상의", "하의", "아우터", "신발"], object)[product % 4]),
            "rating": pa.array(rating, pa.int8()),
            "created_at": pa.array(FIRST_DAY + day, pa.date32()).cast(pa.timestamp("us")),
            "keyword_probabilities": every.cast(pa.list_(pa.float32())),
            "findings": pa.ListArray.from_arrays(offsets, findings),
            "truncated": pa.array(np.zeros(rows, bool)),
        }
    )


def write_analyses(config: Config, seed: int, truth: Truth, folder: Path) -> None:
    """OUTPUT/data/*.parquet, in row groups as a run's output has them."""
    (folder / "data").mkdir(parents=True)
    for first in range(0, config.reviews, config.file_rows):
        made = table(config, seed, truth, first)
        pq.write_table(made, folder / "data" / f"{first:010d}.parquet", 50_000, compression="zstd")


def write(config: Config) -> None:
    """Writes the planted analyses of one seed."""
    write_analyses(config, config.seeds, plant(config, config.seeds, True), Path(config.output))


def measure(config: Config, planted: bool) -> Counter[str]:
    """Sums over the seeds; printed per seed too."""
    sums: Counter[str] = Counter()
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        with tempfile.TemporaryDirectory() as folder, Store() as store:
            truth = plant(config, seed, planted)
            write_analyses(config, seed, truth, Path(folder))
            source = analyses.open_analyses(folder)
            ingest.ingest(source, store, load(), None)
            store.set_period("auto")
            store.count()
            one = _judged(store, truth)
        print(f"seed {seed}: " + ", ".join(f"{name} {value}" for name, value in one.items()), flush=True)
        sums.update(one)
    return sums


def _judged(store: Store, truth: Truth) -> dict[str, int]:
    found, series = changes.find(store, 0.01)
    names = {f"상품 {i}": i for i in range(len(truth.popularity))}
    hits: set[tuple[int, int]] = set()
    near: set[tuple[int, int]] = set()
    wrong = 0
    for row in found.to_pylist():
        cell = (names.get(row["value"], -1), NAMES.index(row["keyword"]))
        since = (row["since"] - FIRST_DAY.item()).days
        if cell in truth.changes:
            hits |= {cell} if row["direction"] == "worse" else set()
            near |= {cell} if abs(since - truth.changes[cell]) <= NEAR else set()
        elif row["level"] == "product":  # a planted change is seen in its category and mall too
            wrong += 1
    compared = groups.compare(store, 0.01).to_pylist()
    standing = {
        (names[row["value"]], NAMES.index(row["keyword"]))
        for row in compared
        if row["level"] == "product" and row["stands_out"]
    }
    covered, intervals = _coverage(store, truth, compared, names)
    return {
        "changes": len(truth.changes),
        "changes found": len(hits),
        "dated": len(near),
        "false changes": wrong,
        "series": series,
        "bad": len(truth.bad),
        "bad found": len(standing & truth.bad),
        "false bad": len(standing - truth.bad - set(truth.changes)),
        "compared": sum(row["level"] == "product" for row in compared),
        "shares covered": covered,
        "shares": intervals,
        **_effects(store),
    }


def _coverage(store: Store, truth: Truth, compared: list[dict[str, object]], names: dict[str, int]) -> tuple[int, int]:
    """How many 95% intervals of products' complaints hold the true share, of those without a change."""
    inside = total = 0
    for row in compared:
        cell = (names.get(str(row["value"]), -1), NAMES.index(str(row["keyword"])))
        if row["level"] == "product" and cell not in truth.changes:
            low, high = row["complaints_low"], row["complaints_high"]
            inside += bool(low <= truth.shares[cell] <= high)
            total += 1
    return inside, total


def _effects(store: Store) -> dict[str, int]:
    """Planted effects within their intervals, intervals of others that hold 0, planted effects told from 0."""
    rows, _ = star_drivers.fit(store, None)
    counts: Counter[str] = Counter()
    for row in rows.to_pylist():
        effect = EFFECTS.get((row["keyword"], {"negative": -1, "positive": 1}.get(row["sign"], 0)), 0.0)
        kind = "planted effects" if effect else "other effects"
        counts[kind] += 1
        counts[f"{kind} covered"] += row["effect_low"] <= effect <= row["effect_high"]
        counts["effects found"] += bool(effect) and row["effect_low"] * row["effect_high"] > 0
    return dict(counts)


def find(config: Config) -> None:
    """What of the planted is found."""
    _print(measure(config, True))


def none(config: Config) -> None:
    """What is found where nothing was planted."""
    _print(measure(config, False))


def _print(sums: Counter[str]) -> None:
    for part, whole in (
        ("changes found", "changes"),
        ("dated", "changes"),
        ("bad found", "bad"),
        ("shares covered", "shares"),
    ):
        print(f"{part}: {sums[part]} of {sums[whole]} ({sums[part] / max(1, sums[whole]):.3f})")
    for kind in ("planted effects", "other effects"):
        print(f"{kind} within their 95% intervals: {sums[f'{kind} covered']} of {sums[kind]}")
    print(f"planted effects told from 0: {sums['effects found']} of {sums['planted effects']}")
    print(f"false changes per 1,000 series: {1_000 * sums['false changes'] / max(1, sums['series']):.3f}")
    print(f"false bad per 1,000 compared: {1_000 * sums['false bad'] / max(1, sums['compared']):.3f}")


if __name__ == "__main__":
    assert len(sys.argv) > 1, __doc__
    main(
        Config,
        find,
        __doc__ or "",
        find=(Config, find, "What is found of what was planted."),
        none=(Config, none, "What is found where nothing was planted."),
        write=(Config, write, "Writes planted analyses."),
    )
