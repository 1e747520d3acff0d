"""Which reviews of a catalog to label next: those the model is unsure of, that are rare, or unlike the others.

In: analyses, and existing labels. Out: `batch.parquet`, the same for labeling tools, `acquire.json`. No model runs. The
analyses stream through this process, without Ray: numpy handles rows faster than Ray could move them.
"""

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from ray_app.cli import next_command
from ray_app.errors import check
from ray_app.options import FORMER, SEEDS, Options, as_dict, option
from ray_app.progress import peak_mb

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.active_learning.candidates import Shortlist
    from ray_app.active_learning.selection import Selection
    from ray_app.data.analyses import Analyses
    from ray_app.data.taxonomy import Taxonomy
    from ray_app.inference.bundle import BundleSummary
    from ray_app.labels.reader import Labels

log = logging.getLogger(__name__)

STRATEGIES = ("mix", "boundary", "rare", "outlier", "random", "diverse")
DEFAULT_MIX = {"boundary": 0.6, "rare": 0.2, "outlier": 0.2}
SHOWN = 20  # strata that are printed; acquire.json has all
ALWAYS = ("boundary", "unsure_keyword", "unsure_score")  # values that every batch has, as they cost nothing


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.acquire`."""

    analyses: str = option("runs/quickstart/analyses", "folder that jobs.analyze wrote", "Data", common=True)
    output: str = option("runs/batch", "output folder; must be empty", "Data", common=True)
    labels: str = option(
        "",
        "labeled reviews: not selected again, and what `rare` compares with",
        "Data",
        common=True,
        formerly=("labelled",),
    )
    input: str = option(
        "",
        "the catalog, for its texts, where the analyses were made with --no-text",
        "Data",
        common=True,
        formerly=("reviews",),
    )
    columns: str = option("", "its column names where they are not found: review_id=NAME,text=NAME", "Data")
    bundle: str = option("", "bundle whose thresholds count; default: the one the analyses name, else 0.5", "Data")
    taxonomy: str = option("", "keywords to label with: a YAML file; default: the bundle's, else the labels'", "Data")
    formats: tuple[str, ...] = option(
        ("label-studio", "prodigy", "doccano", "csv"),
        "labeling tools to write for: label-studio, prodigy, doccano, csv, xlsx",
        "Data",
        common=True,
    )
    sheet: str = option(
        "auto",
        "what is filled in in csv and xlsx: a column per keyword (keywords), or all in one cell (completion); auto is "
        "keywords in xlsx, completion in csv",
        "Data",
        ("auto", "completion", "keywords"),
    )
    budget: int = option(200, "reviews to select", "Selection", least=1, common=True)
    strategy: str = option("mix", "one criterion, or several by --mix", "Selection", STRATEGIES, common=True)
    mix: str = option("", "shares; default: boundary=0.6,rare=0.2,outlier=0.2, where possible", "Selection")
    stratify: tuple[str, ...] = option(
        (), "columns whose values have the catalog's proportions in the batch", "Selection", common=True
    )
    floor: int = option(0, "minimum of reviews per keyword, by the model's findings", "Selection", least=0)
    alike: float = option(
        0.8, "share of common trigrams from which two texts are near-duplicates", "Selection", above=0, most=1
    )
    seed: int = option(0, "seed of everything random", "Selection", least=0, below=SEEDS, common=True)
    merge: str = option("", "now a sub-command: jobs.acquire merge", FORMER)
    batch: str = option("", "see jobs.acquire merge", FORMER)
    round: str = option("", "see jobs.acquire merge", FORMER)
    resolve: str = option("", "see jobs.acquire merge", FORMER)
    on_bad_label: str = option("", "see jobs.acquire merge", FORMER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(not self.merge, f"--merge is now a sub-command: python -m jobs.acquire merge --answers {self.merge} …")
        for name in ("batch", "round", "resolve", "on_bad_label"):
            check(not getattr(self, name), f"--{name.replace('_', '-')}: an option of python -m jobs.acquire merge")
        check(self.strategy == "mix" or not self.mix, f"--mix and --strategy {self.strategy}: write one of them")


class StratumCount(TypedDict):
    """A stratum, its reviews without labels, and how many of them were chosen."""

    stratum: str
    reviews: int
    chosen: int


class AcquireReport(TypedDict):
    """The keys of acquire.json."""

    budget: int
    chosen: int
    reviews_without_labels: int
    near_duplicates_passed_over: int
    shares: dict[str, float]
    by_criterion: dict[str, int]
    strata: list[StratumCount]
    seconds: float
    rows_per_second: int
    peak_mb: int
    config: dict[str, Any]


def run(config: Config) -> AcquireReport:
    """Selects, writes, prints; returns the report."""
    from ray_app.active_learning import candidates
    from ray_app.data import analyses
    from ray_app.inference import bundle_names
    from ray_app.labels import reader

    began = time.monotonic()
    source = analyses.open_analyses(config.analyses)
    labels = reader.read_labels(config.labels, "labels", "drop") if config.labels else None
    for line in labels.dropped if labels else ():
        log.info("not used as labeled: %s", line)
    bundle = candidates.find_bundle(source, config.bundle)
    shares = _shares(config, source, labels)
    _check(config, source, bundle)
    shortlist = _shortlist(config, source, labels, bundle, shares)
    selection = _select(config, shortlist, labels, shares)
    batch = candidates.batch_table(source, shortlist, selection)
    report = _report(config, shortlist, selection, shares, time.monotonic() - began)
    files = _write(config, batch, report, label_taxonomy(config.taxonomy, bundle or labels))
    _print_summary(config, report, files)
    print(f"Next: {_merge_command(config, bundle_names.named_by(source.facts, config.bundle) if bundle else '')}")
    return report


def _shares(config: Config, source: "Analyses", labels: "Labels | None") -> dict[str, float]:
    """Criterion -> its share of the batch. Raises UserError where a criterion lacks what it needs."""
    from ray_app.active_learning.criteria import CRITERIA
    from ray_app.active_learning.quotas import parse_mix

    embeddings = "" if "embedding" in source.columns else "analyses made with --embeddings"
    texts = "" if labels and "text" in source.columns else "--labels, and analyses made without --no-text"
    needs = {"rare": texts, "outlier": embeddings, "diverse": embeddings}
    if config.strategy != "mix" or config.mix:
        shares = parse_mix(config.mix or f"{config.strategy}=1", CRITERIA)
        for name in shares:
            check(not needs.get(name), f"{name} needs {needs.get(name)}")
        return shares
    for name in filter(needs.get, DEFAULT_MIX):
        log.info("no share for %s: it needs %s", name, needs[name])
    possible = {name: share for name, share in DEFAULT_MIX.items() if not needs.get(name)}
    return parse_mix(",".join(f"{name}={share}" for name, share in possible.items()), CRITERIA)


def _check(config: Config, source: "Analyses", bundle: "BundleSummary | None") -> None:
    """Raises UserError at mistakes that would otherwise show after minutes."""
    from ray_app import storage
    from ray_app.labels.labeling_tools import check_formats

    for name in config.stratify:
        source.require(name, f"--stratify {name}", f"analyze with --keep {name}, or leave it out")
    for name in ("keyword_probabilities", "findings"):
        source.require(name, "--analyses", "name a folder that python -m jobs.analyze wrote")
    texts = "text" in source.columns or config.input
    check(texts, f"{source.uri}: no texts there; name the catalog with --input, or analyze without --no-text")
    if config.floor:
        check(bundle, "--floor needs the names of the keywords: name a bundle with --bundle")
        least = config.floor * len(bundle.taxonomy.names) if bundle else 0
        check(least <= config.budget, f"--floor {config.floor}: {least} reviews in all, over --budget {config.budget}")
    check_formats(config.formats)
    check(storage.is_empty(config.output), f"--output {config.output}: not empty; remove it or name another folder")


def _shortlist(
    config: Config,
    source: "Analyses",
    labels: "Labels | None",
    bundle: "BundleSummary | None",
    shares: dict[str, float],
) -> "Shortlist":
    """Streams the analyses; keeps the best candidates of every stratum by every criterion that has a share."""
    import numpy as np

    from ray_app.active_learning import candidates
    from ray_app.active_learning.criteria import Rarity
    from ray_app.active_learning.scoring import CandidateScorer, hashes

    labeled = np.sort(hashes(labels.table["review_id"], config.seed)) if labels else np.zeros(0, np.uint64)
    strata, sizes, sample = candidates.count_strata(source, config.stratify, labeled, config.seed)
    mix = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    log.info("%s reviews without labels in %s strata; %s", f"{sizes.sum():,}", f"{len(sizes):,}", mix)
    criteria = tuple(dict.fromkeys([*ALWAYS, *shares]))
    scorer = CandidateScorer(
        names=criteria,
        strata=strata,
        thresholds=bundle.thresholds if bundle else None,
        rarity=Rarity(labels.table["text"].to_pylist()) if labels and "rare" in shares else None,
        outliers=candidates.embedding_outliers(source, sample, config.seed) if "outlier" in shares else None,
        seed=config.seed,
    )
    rows = candidates.collect_candidates(source, scorer, labeled, sizes, config.budget, list(shares), config.floor)
    if "diverse" in shares:
        column = criteria.index("diverse")
        rows = candidates.order_by_diversity(source, rows, column, sizes, config.budget, config.seed)
    return candidates.Shortlist(
        criteria=criteria,
        strata=strata.names,
        sizes=sizes,
        rows=rows,
        texts=candidates.read_texts(source, rows.position, config.input, config.columns),
        floors=candidates.keyword_floors(source, rows, bundle, config.floor) if bundle and config.floor else [],
    )


def _select(config: Config, shortlist: "Shortlist", labels: "Labels | None", shares: dict[str, float]) -> "Selection":
    """The batch, without near-duplicates of each other and of labeled texts."""
    from ray_app.active_learning.selection import Criterion, select
    from ray_app.data.near_duplicates import NearDuplicateFilter

    distinct = NearDuplicateFilter(config.alike)
    for text in labels.table["text"].to_pylist() if labels else ():
        distinct.add(text)
    criteria = [Criterion(name, shortlist.criteria.index(name), share) for name, share in shares.items()]
    return select(config.budget, shortlist.rows, shortlist.texts, criteria, shortlist.sizes, shortlist.floors, distinct)


def _report(
    config: Config, shortlist: "Shortlist", selection: "Selection", shares: dict[str, float], seconds: float
) -> AcquireReport:
    import numpy as np

    count, sizes = int(shortlist.sizes.sum()), shortlist.sizes.tolist()
    chosen = np.bincount(shortlist.rows.stratum[selection.rows], minlength=len(sizes)).tolist()
    strata = sorted(zip(shortlist.strata, sizes, chosen, strict=True), key=lambda row: (-row[1], row[0]))
    return {
        "budget": config.budget,
        "chosen": len(selection.rows),
        "reviews_without_labels": count,
        "near_duplicates_passed_over": selection.duplicates,
        "shares": shares,
        "by_criterion": dict(Counter(selection.chosen_by)),
        "strata": [{"stratum": name, "reviews": size, "chosen": part} for name, size, part in strata],
        "seconds": round(seconds, 1),
        "rows_per_second": round(count / seconds),
        "peak_mb": round(peak_mb()),
        "config": as_dict(config),
    }


def label_taxonomy(uri: str, source: "BundleSummary | Labels | None") -> "Taxonomy":
    """The taxonomy to label with: that of the file `uri` (`default`: the shipped one, as for training), else of the
    bundle or labels, else the shipped one."""
    from ray_app.data import taxonomy

    if uri == "default" or not (uri or source):
        return taxonomy.load()
    return taxonomy.load(uri) if uri or source is None else source.taxonomy


def _write(config: Config, batch: "pa.Table", report: AcquireReport, taxonomy: "Taxonomy") -> list[str]:
    """Writes the batch and the report; returns the URIs of the files to label."""
    from ray_app import storage
    from ray_app.labels import labeling_tools

    uri = storage.join(config.output, "batch.parquet")
    storage.write_parquet(uri, batch)
    files = labeling_tools.export(batch, config.output, taxonomy, config.formats, config.sheet)
    storage.write_json(storage.join(config.output, "acquire.json"), report)
    return [uri, *files]


def _print_summary(config: Config, report: AcquireReport, files: list[str]) -> None:
    by = ", ".join(f"{count} by {name}" for name, count in report["by_criterion"].items())
    print(
        f"{report['chosen']:,} of {report['reviews_without_labels']:,} reviews chosen ({by or 'none'}); "
        f"{report['near_duplicates_passed_over']:,} near-duplicates passed over; {report['seconds']:.0f} s, "
        f"{report['rows_per_second']:,} rows/s, {report['peak_mb']:,} MB"
    )
    if report["chosen"] < config.budget:
        print(f"fewer than --budget {config.budget:,}: the rest is too much like these or the labeled reviews")
    for row in report["strata"][:SHOWN] if config.stratify else ():
        print(f"  {row['stratum']}: {row['chosen']:,} of {row['reviews']:,}")
    print("\n".join(files))


def _merge_command(config: Config, bundle: str) -> str:
    """The command that merges the answers, with the keywords that they were labeled with."""
    taxonomy = {"taxonomy": config.taxonomy} if config.taxonomy else {"bundle": bundle} if bundle else {}
    labels = {"labels": config.labels} if config.labels else {}
    return next_command("acquire merge", answers="YOUR_ANSWERS", batch=config.output, **labels, **taxonomy)
