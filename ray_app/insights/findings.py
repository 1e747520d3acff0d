"""Everything that a report says, as tables and a few figures. In: the Config. Out: a Report, to make pages of."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ray_app.data import analyses
from ray_app.data.analyses import Analyses
from ray_app.errors import check
from ray_app.inference import bundle_names, thresholds
from ray_app.inference.bundle import BundleSummary, read_summary
from ray_app.insights import against, changes, groups, overview, quality, quotes, star_drivers, words
from ray_app.insights.quotes import Wish
from ray_app.insights.reading import ingest
from ray_app.insights.reading.ingest import Facts
from ray_app.insights.store import Level, Row, Store
from ray_app.insights.tables import Tables

if TYPE_CHECKING:
    from ray_app.arrays import Doubles
    from ray_app.insights.options import Config

log = logging.getLogger(__name__)
QUOTED = 3  # of the worst, and of the best products
LEAST_RANKED = 10  # findings of a product that is listed among the best and worst
BY_PRODUCT = pa.schema(
    [
        ("product", pa.string()),
        ("keyword", pa.string()),
        ("reviews", pa.int64()),
        ("complaints", pa.int64()),
        ("share", pa.float64()),
        ("stars", pa.float64()),
        ("stars_low", pa.float64()),
        ("stars_high", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The tables, the figures around them, and what the texts need to know.

    `overall` is the keyword of overall satisfaction, if there is one; `ranking` the one that groups are ranked by.
    """

    title: str
    tables: Tables
    facts: Row
    overall: str | None
    ranking: str
    period: str


def collect(config: "Config") -> Report:
    """Reads the analyses and makes every table. Raises UserError where they, or what they are compared with, cannot be
    read."""
    source = _opened(config.analyses)
    place = bundle_names.maker_of(source.facts, config.bundle)
    bundle = _summary(place, source)
    other = _opened(config.against) if config.against and not config.against_days else None
    with Store() as store:
        read = _read(source, store, bundle, other is not None, config.placement)
        store.set_period(config.period)
        store.count()
        compared, notes, before = _against(config, source, store, other, read)
        overall = _overall(store, bundle)
        changed, series = changes.find(store, config.alpha)
        drivers, fit = star_drivers.fit(store, overall)
        compared_groups = groups.compare(store, config.alpha)
        unknown = quality.unknown_words(store, source, read.columns.get("text"), place) if place else None
        tables = Tables(
            keywords=overview.keywords(store),
            words=words.strongest(store),
            quotes=quotes.pick(store, source, read.columns, _wishes(store, changed, compared_groups, overall)),
            groups=compared_groups,
            trend=overview.trend(store, _products(changed)),
            changes=changed,
            star_drivers=drivers,
            star_drivers_by_product=_by_product(compared_groups, drivers),
            stars=overview.stars(store),
            quality=quality.figures(read, source.facts, unknown),
            drift=quality.drift(read, before, bundle.taxonomy if bundle else None),
            against=compared,
        )
        facts = {**_counted(store, read, source), "series": series, "alpha": config.alpha, "fit": fit}
        return _titled(config, tables, facts | {"against": notes}, overall, store.period)


def _opened(uri: str) -> Analyses:
    source = analyses.open_analyses(uri)
    if unfinished := analyses.unfinished(uri):
        log.warning("warning: %s", unfinished)
    return source


def _titled(config: "Config", tables: Tables, facts: dict[str, object], overall: str | None, period: str) -> Report:
    """The Report, with the figures that follow from its tables."""
    facts |= {
        "findings": sum(tables.keywords["findings"].to_pylist()),
        "compared": tables.groups.num_rows,
        "analyses": config.analyses,
    }
    name = config.title or config.analyses.rstrip("/").rpartition("/")[2]
    ranking = overall or (tables.keywords["keyword"].to_pylist() or [""])[0]
    return Report(title=name, tables=tables, facts=facts, overall=overall, ranking=ranking, period=period)


def _counted(store: Store, read: Facts, source: Analyses) -> dict[str, object]:
    """What the texts around the tables say of the analyses."""
    first, last = store.rows("SELECT min(day), max(day) FROM reviews")[0]
    return {
        "reviews": read.reviews,
        "first_day": first,
        "last_day": last,
        "products": len(store.names.get("product", ())),
        "columns": read.columns,
        "probabilities": bool(len(read.probabilities)),  # without them nobody knows what the model was unsure of
        "bundle": source.facts.get("bundle"),
    }


def _summary(place: str, source: Analyses) -> BundleSummary | None:
    """The bundle there, with the thresholds that the analyses were made with."""
    return thresholds.of_run(read_summary(place), source.facts) if place else None


def _read(source: Analyses, store: Store, bundle: BundleSummary | None, ids: bool, placement: str) -> Facts:
    taxonomy = bundle.taxonomy if bundle else None
    return ingest.ingest(source, store, taxonomy, bundle.thresholds if bundle else None, ids, placement)


def _against(
    config: "Config", source: Analyses, store: Store, other: Analyses | None, read: Facts
) -> tuple[pa.Table, Row, "Doubles | None"]:
    """(COMPARED, what it is, the histogram of probabilities to compare with: the reference's, else the other run's)."""
    now = len(read.probabilities)
    earlier = quality.read_reference(config.reference, now) if config.reference else None
    if days := config.against_days:
        check(store.periods, f"--against {config.against}: the analyses kept no dates; run jobs.analyze --keep date")
        return against.periods(store, *days), {"kind": "days", "text": config.against, "same_model": True}, earlier
    if other is None:
        return against.COMPARED.empty_table(), {}, earlier
    same = source.facts.get("bundle") is not None and source.facts.get("bundle") == other.facts.get("bundle")
    place = bundle_names.maker_of(other.facts, "")
    with Store() as before:
        then = _read(other, before, _summary(place, other), True, config.placement)
        table, shared = against.runs(store, before, same)
    notes = {"kind": "run", "text": config.against, "same_model": same, "shared": shared}
    return table, notes, then.probabilities if earlier is None else earlier


def _overall(store: Store, bundle: BundleSummary | None) -> str | None:
    """The keyword of overall satisfaction: by the bundle's taxonomy, else by its name in the shipped one."""
    from ray_app.data import taxonomy

    name = (bundle.taxonomy if bundle else taxonomy.load()).overall
    return name if name in store.keywords else None


def _products(changed: pa.Table) -> dict[str, set[str]]:
    """Product -> keywords that changed, whose course the report draws."""
    found: dict[str, set[str]] = {}
    for row in changed.to_pylist()[:200]:
        if row["level"] == "product":
            found.setdefault(row["value"], set()).add(row["keyword"])
    return found


def _wishes(store: Store, changed: pa.Table, compared: pa.Table, overall: str | None) -> list[Wish]:
    """What to quote: every keyword's signs, changes, groups that stand out, the best and worst, contradictions."""
    wishes = [
        Wish(
            about="change",
            level=row["level"],
            value=row["value"],
            keyword=row["keyword"],
            sign="negative",
            since=(row["since"] - date(1970, 1, 1)).days,
            count=2,
        )
        for row in changed.to_pylist()[:30]
        if row["direction"] == "worse"
    ]
    for row in groups.outliers(compared)[:20]:
        level: Level = row["level"]
        wishes.append(
            Wish(about="group", level=level, value=row["value"], keyword=row["keyword"], sign="negative", count=2)
        )
    keywords = [name for name in store.keywords if name != overall]
    if (best := _best(store)) is not None:
        wishes += [Wish(about="stars", keyword=name, sign="negative", where=f"rating >= {best}") for name in keywords]
        low = f"rating <= {overview.LOW * max(5.0, best)}"
        wishes += [Wish(about="low stars", keyword=name, sign="positive", where=low) for name in keywords]
    if overall or keywords:
        wishes += _extremes(compared, overall or keywords[0])
    for keyword in store.keywords:
        wishes += [Wish(about="keyword", keyword=keyword, sign=sign, count=2) for sign in ("negative", "positive")]
    return wishes


def _extremes(compared: pa.Table, ranking: str) -> list[Wish]:
    """A review of each of the worst and of the best products."""
    rows = list(groups.ranked(compared, "product", ranking, LEAST_RANKED))
    ends = [("negative", rows[:QUOTED]), ("positive", rows[QUOTED:][-QUOTED:][::-1])]
    return [
        Wish(about="ranking", level="product", value=row["value"], keyword=ranking, sign=sign)
        for sign, some in ends
        for row in some
    ]


def _best(store: Store) -> float | None:
    """The highest rating that occurs; None where there is none above 0."""
    return store.rows("SELECT max(rating)::DOUBLE FROM reviews WHERE rating > 0")[0][0]  # type: ignore[no-any-return]


def _by_product(compared: pa.Table, drivers: pa.Table) -> pa.Table:
    """BY_PRODUCT: what each keyword's complaints cost a product, in stars of its mean: the share of its reviews that
    complain, drawn towards the other products', times the effect; the largest loss first."""
    effects = drivers.filter(pc.field("sign") == "negative").select(["keyword", "effect", "effect_low", "effect_high"])
    mine = compared.filter((pc.field("level") == "product") & (pc.field("negative") > 0))
    mine = mine.join(effects, "keyword", join_type="inner")
    ends = [
        pc.multiply(mine[f"effect_{one}"], mine[f"complaints_{other}"])
        for one in ("low", "high")
        for other in ("low", "high")
    ]
    columns = {
        "product": mine["value"],
        "keyword": mine["keyword"],
        "reviews": mine["reviews"],
        "complaints": mine["negative"],
        "share": mine["complaints"],
        "stars": pc.multiply(mine["effect"], mine["complaints"]),
        "stars_low": pc.min_element_wise(*ends),
        "stars_high": pc.max_element_wise(*ends),
    }
    table = pa.table({name: pc.cast(column, BY_PRODUCT.field(name).type) for name, column in columns.items()})
    return table.sort_by([("stars", "ascending"), ("product", "ascending"), ("keyword", "ascending")])


def best_and_worst(report: Report, level: str, keyword: str, most: int) -> tuple[Sequence[Row], int]:
    """(Up to 2 x `most` GROUPS rows of a level, the worst first, best last; how many could be ranked)."""
    rows = list(groups.ranked(report.tables.groups, level, keyword, LEAST_RANKED))  # type: ignore[arg-type]
    return (rows if len(rows) <= 2 * most else [*rows[:most], *rows[-most:]]), len(rows)
