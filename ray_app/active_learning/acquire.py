"""Which reviews of a catalog to label next: those the model is unsure of, that are rare or unlike the others.

In: analyses, and what is labelled already. Out: `batch.parquet`, the same for labelling tools, `acquire.json`. No model
runs. It streams through the analyses in this process without Ray, which would only carry rows that numpy handles faster
than they can be carried: once over ids and strata to count them, so that every quota and with it the memory is known,
once over the probabilities.
"""

import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ray_app.errors import check
from ray_app.options import Options, as_dict, option

STRATEGIES = ("mix", "boundary", "rare", "outlier", "random", "diverse")
AUTOMATIC = {"boundary": 0.6, "rare": 0.2, "outlier": 0.2}
SHOWN = 20  # strata that are printed; all are in acquire.json
ALWAYS = ("boundary", "unsure_keyword", "unsure_score")  # told of every chosen review, as they cost nothing
INNER = ("keyword_probabilities", "truncated", "embedding")  # columns of analyses that tell a labeller nothing


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.acquire`."""

    analyses: str = option("runs/quickstart/analyses", "folder that jobs.analyze wrote", "Data", common=True)
    output: str = option("runs/batch", "folder to write; must be empty", "Data", common=True)
    labels: str = option(
        "",
        "labeled reviews: not chosen again, and what `rare` compares with",
        "Data",
        common=True,
        formerly=("labelled",),
    )
    input: str = option(
        "",
        "the catalog, for its texts, where the analyses were made without --keep text",
        "Data",
        common=True,
        formerly=("reviews",),
    )
    columns: str = option("", "its column names where they are not found: review_id=NAME,text=NAME", "Data")
    bundle: str = option("", "bundle whose thresholds count; default: the one the analyses name, else 0.5", "Data")
    taxonomy: str = option("", "keywords to label with: a YAML file; default: the bundle's, else the labels'", "Data")
    formats: tuple[str, ...] = option(
        ("label-studio", "prodigy", "doccano", "csv"), "labeling tools to write for", "Data", common=True
    )
    budget: int = option(200, "reviews to choose", "Selection", least=1, common=True)
    strategy: str = option("mix", "one criterion, or several by --mix", "Selection", STRATEGIES, common=True)
    mix: str = option("", "shares; default: boundary=0.6,rare=0.2,outlier=0.2, where possible", "Selection")
    stratify: tuple[str, ...] = option(
        (), "columns whose values the batch has in the catalog's proportions", "Selection", common=True
    )
    floor: int = option(0, "least reviews of every keyword, by the model's findings", "Selection", least=0)
    alike: float = option(
        0.8, "share of common trigrams from which two texts are near-duplicates", "Selection", above=0, most=1
    )
    seed: int = option(0, "seed of what is drawn at random", "Selection", common=True)
    merge: str = option("", "now a sub-command: jobs.acquire merge", "Former options")
    batch: str = option("", "see jobs.acquire merge", "Former options")
    round: str = option("", "see jobs.acquire merge", "Former options")
    resolve: str = option("", "see jobs.acquire merge", "Former options")
    on_bad_label: str = option("", "see jobs.acquire merge", "Former options")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(not self.merge, f"--merge is now a sub-command: python -m jobs.acquire merge --answers {self.merge} …")
        for name in ("batch", "round", "resolve", "on_bad_label"):
            check(not getattr(self, name), f"--{name.replace('_', '-')}: an option of python -m jobs.acquire merge")
        check(self.strategy == "mix" or not self.mix, f"--mix and --strategy {self.strategy}: write one of them")


def run(config: Config) -> dict[str, Any]:
    """Chooses, writes, prints; returns the report."""
    from ray_app.active_learning import candidates
    from ray_app.data import analyses
    from ray_app.labels import reader

    began = time.monotonic()
    source = analyses.open_analyses(config.analyses)
    known = reader.read_labels(config.labels, "labels", "drop") if config.labels else None
    for line in known.dropped if known else ():
        print(f"not taken for labeled: {line}")
    model = candidates.model(source, config.bundle)
    shares = _shares(config, source, known)
    _check(config, source, model)
    pool = _pool(config, source, known, model, shares)
    chosen = _choose(config, pool, known, shares)
    batch = _table(source, pool, chosen)
    report = _report(config, pool, chosen, batch, shares, time.monotonic() - began)
    _write(config, batch, report, label_taxonomy(config.taxonomy, model or known))
    return report


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Names of the values and of the strata, the strata's sizes in the catalog, candidates with their texts, and
    floors: a name, the candidates that count for it, and how many of them there must be."""

    names: tuple[str, ...]
    strata: list[str]
    sizes: Any
    rows: Any
    texts: list[str]
    floors: list[tuple[str, list[int], int]]


def _shares(config: Config, source: Any, known: Any) -> dict[str, float]:
    """Criterion -> its share of the batch. Raises UserError where a criterion lacks what it needs."""
    from ray_app.active_learning.criteria import CRITERIA
    from ray_app.active_learning.quotas import parse_mix

    embedded = "" if "embedding" in source.columns else "analyses made with --embeddings"
    texts = "" if known and "text" in source.columns else "--labels, and analyses made with --keep text"
    lacks = {"rare": texts, "outlier": embedded, "diverse": embedded}
    if config.strategy != "mix" or config.mix:
        shares = parse_mix(config.mix or f"{config.strategy}=1", CRITERIA)
        for name in shares:
            check(not lacks.get(name), f"{name} needs {lacks.get(name)}")
        return shares
    for name in filter(lacks.get, AUTOMATIC):
        print(f"no share for {name}: it needs {lacks[name]}")
    return parse_mix(",".join(f"{name}={part}" for name, part in AUTOMATIC.items() if not lacks.get(name)), CRITERIA)


def _check(config: Config, source: Any, model: Any) -> None:
    """What would otherwise be found out after minutes."""
    from ray_app import storage
    from ray_app.errors import closest
    from ray_app.labels import labeling_tools

    for name in config.stratify:
        source.require(name, f"--stratify {name}", f"analyse with --keep {name}, or leave it out")
    for name in ("keyword_probabilities", "findings"):
        source.require(name, "--analyses", "name a folder that python -m jobs.analyze wrote")
    texts = "text" in source.columns or config.input
    check(texts, f"{source.uri}: no texts there; name the catalog with --input, or analyse with --keep text")
    if config.floor:
        check(model, "--floor: keywords have their names in a bundle; name it with --bundle")
        least = config.floor * len(model.taxonomy.names) if model else 0
        check(least <= config.budget, f"--floor {config.floor}: {least} reviews in all, over --budget {config.budget}")
    for name in config.formats:
        check(
            name in labeling_tools.FORMATS, f"--formats {name}: no such format{closest(name, labeling_tools.FORMATS)}"
        )
    check(storage.is_empty(config.output), f"--output {config.output}: not empty; remove it or name another folder")


def _pool(config: Config, source: Any, known: Any, model: Any, shares: dict[str, float]) -> Pool:
    import numpy as np

    from ray_app.active_learning import candidates as pool
    from ray_app.active_learning.criteria import Rarity
    from ray_app.active_learning.scoring import CandidateScorer, hashes

    done = np.sort(hashes(known.table["review_id"], config.seed)) if known else np.zeros(0, np.uint64)
    strata, sizes, sample = pool.count_strata(source, config.stratify, done, config.seed)
    said = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    print(f"{sizes.sum():,} reviews without labels in {len(sizes):,} strata; {said}", flush=True)
    names = tuple(dict.fromkeys([*ALWAYS, *shares]))
    thresholds = model.thresholds if model else None
    rarity = Rarity(known.table["text"].to_pylist()) if "rare" in shares else None
    outliers = _outliers(source, sample, config.seed) if "outlier" in shares else None
    appraiser = CandidateScorer(
        names=names, strata=strata, thresholds=thresholds, rarity=rarity, outliers=outliers, seed=config.seed
    )
    rows = pool.collect_candidates(source, appraiser, done, sizes, config.budget, list(shares), config.floor)
    if "diverse" in shares:
        rows = pool.order_by_diversity(source, rows, names.index("diverse"), sizes, config.budget, config.seed)
    floors = _floors(source, rows, model, config.floor) if model and config.floor else []
    return Pool(
        names=names,
        strata=strata.names,
        sizes=sizes,
        rows=rows,
        texts=_texts(config, source, rows.place),
        floors=floors,
    )


def _floors(source: Any, rows: Any, model: Any, least: int) -> list[tuple[str, list[int], int]]:
    """Per keyword, the rarest first, the candidates it is found in."""
    from ray_app.data import analyses

    found = analyses.column(source, rows.place, "keyword_probabilities") >= model.thresholds
    rarest = found.sum(0).argsort(kind="stable")
    return [(f"floor:{model.taxonomy.names[k]}", found[:, k].nonzero()[0].tolist(), least) for k in rarest]


def _outliers(source: Any, sample: Any, seed: int) -> Any:
    from ray_app.active_learning.criteria import Outliers
    from ray_app.data import analyses

    check(len(sample), f"{source.uri}: no reviews without labels")
    return Outliers(analyses.column(source, sample, "embedding"), seed)


def _texts(config: Config, source: Any, places: Any) -> list[str]:
    """The texts of the candidates, out of the analyses or else of the catalog by their ids."""
    from ray_app.data import analyses
    from ray_app.data import reviews as units

    if "text" in source.columns:
        return [text or "" for text in analyses.take(source, places, ["text"])["text"].to_pylist()]
    ids = [str(i) for i in analyses.take(source, places, ["review_id"])["review_id"].to_pylist()]
    wanted = set(ids)
    found: dict[str, str] = {}
    plan = units.plan(units.resolve_input(config.input), config.columns, (), 100_000, "")
    for unit in plan.units if wanted else ():
        accepted, _ = units.read(unit, plan.columns)
        if accepted is not None:
            pairs = zip(accepted["review_id"].to_pylist(), accepted["text"].to_pylist(), strict=True)
            found |= {i: text for i, text in pairs if i in wanted}
    lost = [i for i in ids if i not in found]
    check(not lost, f"--input {config.input}: {len(lost):,} analysed reviews are not there, such as {lost[:1]}")
    return [found[i] for i in ids]


def _choose(config: Config, pool: Pool, known: Any, shares: dict[str, float]) -> Any:
    from ray_app.active_learning.selection import choose
    from ray_app.data.near_duplicates import NearDuplicateFilter

    seen = NearDuplicateFilter(config.alike)
    for text in known.table["text"].to_pylist() if known else ():
        seen.add(text)
    columns = {pool.names.index(name): (name, share) for name, share in shares.items()}
    return choose(config.budget, pool.rows, pool.texts, columns, pool.sizes, pool.floors, seen)


def _table(source: Any, pool: Pool, chosen: Any) -> Any:
    """The batch: id, text, findings and kept columns, which criterion chose each row, and its values."""
    import pyarrow as pa

    from ray_app.data import analyses

    rows = pool.rows.take(chosen.rows)
    plain = [name for name in source.columns if name not in (*INNER, "text")]
    table = analyses.take(source, rows.place, plain)
    table = table.add_column(1, "text", pa.array([pool.texts[i] for i in chosen.rows], pa.string()))
    table = table.append_column("chosen_by", pa.array(chosen.by, pa.string()))
    for column, name in enumerate(pool.names):
        table = table.append_column(name, pa.array(rows.values[:, column].round(4)))
    return table


def _report(
    config: Config, pool: Pool, chosen: Any, batch: Any, shares: dict[str, float], seconds: float
) -> dict[str, Any]:
    import numpy as np

    count = int(pool.sizes.sum())
    drawn = np.bincount(pool.rows.stratum[chosen.rows], minlength=len(pool.sizes)).tolist()
    strata = sorted(zip(pool.strata, pool.sizes.tolist(), drawn, strict=True), key=lambda row: (-row[1], row[0]))
    return {
        "budget": config.budget,
        "chosen": len(batch),
        "reviews_without_labels": count,
        "near_duplicates_passed_over": chosen.duplicates,
        "shares": shares,
        "by_criterion": dict(Counter(chosen.by)),
        "strata": [{"stratum": name, "reviews": size, "chosen": part} for name, size, part in strata],
        "seconds": round(seconds, 1),
        "rows_per_second": round(count / seconds),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "config": as_dict(config),
    }


def label_taxonomy(uri: str, known: Any) -> Any:
    """--taxonomy, else that of a bundle or labels, else the shipped one."""
    from ray_app.data import taxonomy

    return taxonomy.load(uri) if uri else known.taxonomy if known else taxonomy.load()


def _write(config: Config, batch: Any, report: dict[str, Any], taxonomy: Any) -> None:
    from ray_app import storage
    from ray_app.labels import labeling_tools

    storage.write_parquet(storage.join(config.output, "batch.parquet"), batch)
    files = labeling_tools.export(batch, config.output, taxonomy, config.formats)
    storage.write_json(storage.join(config.output, "acquire.json"), report)
    by = ", ".join(f"{count} by {name}" for name, count in report["by_criterion"].items())
    print(
        f"{report['chosen']:,} of {report['reviews_without_labels']:,} reviews chosen ({by or 'none'}); "
        f"{report['near_duplicates_passed_over']:,} near-duplicates passed over; {report['seconds']:.0f} s, "
        f"{report['rows_per_second']:,} rows/s, {report['peak_mb']:,} MB"
    )
    if report["chosen"] < config.budget:
        print(f"fewer than --budget {config.budget:,}: no others differ enough from these and from the labelled")
    for row in report["strata"][:SHOWN] if config.stratify else ():
        print(f"  {row['stratum']}: {row['chosen']:,} of {row['reviews']:,}")
    print("\n".join([storage.join(config.output, "batch.parquet"), *files]))
