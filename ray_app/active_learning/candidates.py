"""The candidates for a batch, found while the analyses of a catalog stream by.

In: analyses, the ids of labeled reviews, a CandidateScorer. Out: sizes of strata, a bounded number of candidates, and
the table of those that are selected.
The files are read twice: first only ids and strata, so that every stratum's quota is known before any row is kept and a
few times the budget suffice, however many strata and rows there are; then the probabilities.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_app.active_learning.criteria import Outliers, diverse, uniform
from ray_app.active_learning.quotas import allocate
from ray_app.active_learning.scoring import CandidateScorer, Strata, hashes
from ray_app.active_learning.selection import Candidates, Floor, Selection, TopPerGroup, capacity, union
from ray_app.arrays import Flags, Hashes, Ints
from ray_app.data import analyses, reviews
from ray_app.data.analyses import Analyses
from ray_app.errors import check
from ray_app.inference import bundle_names, thresholds
from ray_app.inference.bundle import BundleSummary, read_summary

log = logging.getLogger(__name__)

SAMPLE = 20_000  # rows in which clusters of embeddings are found
SPREAD = 10  # candidates per pick of `diverse`
INTERNAL = ("keyword_probabilities", "truncated", "embedding")  # columns of analyses that are no use to a labeler
DRAWN = ("random", "diverse")  # criteria that draw lots: a text that occurs often has as many lots
Key = tuple[object, ...]
PLACE = ("source_file", "source_row")  # what tells rows apart whose ids repeat
UNIT_ROWS = 100_000  # rows of a catalog that are in memory at a time


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """What a batch is selected from.

    `criteria` names the columns of `rows.values`, `texts` are the texts of `rows`, and `floors` name rows of `rows`;
    `strata` and `sizes` are the names of the strata and how many unlabeled rows of the catalog each has.
    """

    criteria: tuple[str, ...]
    strata: list[str]
    sizes: Ints
    rows: Candidates
    texts: list[str]
    floors: list[Floor]


def find_bundle(source: Analyses, given: str) -> BundleSummary | None:
    """The bundle `given`, else the one that the analyses name, if it still exists and made them.

    Raises UserError where `given` is not the bundle that made the analyses.
    """
    if place := bundle_names.maker_of(source.facts, given):
        return thresholds.of_run(read_summary(place), source.facts)
    log.info("thresholds: 0.5 each, as the bundle that made the analyses was not found; name it with --bundle")
    return None


def count_strata(source: Analyses, columns: Sequence[str], labeled: Hashes, seed: int) -> tuple[Strata, Ints, Ints]:
    """Strata, [strata] how many unlabeled rows each has, and the positions of a uniform sample of all.

    `labeled` are the sorted hashes of the ids of labeled reviews.
    """
    strata, sizes = Strata(columns), np.zeros(0, np.int64)
    sample = TopPerGroup(np.array([SAMPLE]), 0)
    for table, positions, tie in _unlabeled(source, ["review_id", *columns], labeled, seed):
        numbers = strata(table)
        sizes = np.pad(sizes, (0, len(strata.numbers) - len(sizes)))
        sizes += np.bincount(numbers, minlength=len(sizes))
        rows = Candidates(stratum=numbers, tie=tie, position=positions, values=np.zeros((len(tie), 0), np.float32))
        sample.add(np.zeros(len(tie), np.int64), uniform(tie), tie, rows)
    strata, sizes = strata.shuffled(sizes, seed)
    return strata, sizes, sample.best().position


def collect_candidates(
    source: Analyses,
    scorer: CandidateScorer,
    labeled: Hashes,
    sizes: Ints,
    budget: int,
    criteria: Sequence[str],
    floor: int,
) -> Candidates:
    """Candidates of every stratum by each criterion, and of every keyword, by lot, where `floor` is above 0."""
    quotas = allocate(budget, sizes, np.zeros(len(sizes)), sizes)
    width = len(scorer.names)
    tops = {name: TopPerGroup(capacity(quotas * (SPREAD if name == "diverse" else 1)), width) for name in criteria}
    by_keyword: TopPerGroup | None = None
    for table, positions, tie in _unlabeled(source, scorer.reads(source.columns), labeled, scorer.seed):
        scored = scorer(table, positions, tie)
        for name, top in tops.items():
            value = scored.rows.values[:, scorer.names.index(name)]
            top.add(scored.rows.stratum, value, tie if name in DRAWN else scored.content, scored.rows)
        if floor:
            by_keyword = by_keyword or TopPerGroup(capacity(np.full(scored.keywords.shape[1], floor)), width)
            row, keyword = np.nonzero(scored.keywords)
            by_keyword.add(keyword, np.zeros(len(row), np.float32), scored.content[row], scored.rows.take(row))
    return union([top.best() for top in (*tops.values(), *([by_keyword] if by_keyword else []))])


def order_by_diversity(
    source: Analyses, rows: Candidates, column: int, sizes: Ints, budget: int, seed: int
) -> Candidates:
    """The candidates, their `column` of values now the order in which k-means++ picks them within their stratum."""
    picks = capacity(allocate(budget, sizes, np.zeros(len(sizes)), sizes))
    embeddings = analyses.column(source, rows.position, "embedding")
    values = rows.values.copy()
    for s in np.unique(rows.stratum):
        own = np.flatnonzero(rows.stratum == s)
        values[own, column] = diverse(embeddings[own], int(picks[s]), seed)
    return Candidates(stratum=rows.stratum, tie=rows.tie, position=rows.position, values=values)


def embedding_outliers(source: Analyses, sample: Ints, seed: int) -> Outliers:
    """Clusters of the embeddings at the positions `sample`. Raises UserError where there are none."""
    check(len(sample), f"{source.uri}: no reviews without labels")
    return Outliers(analyses.column(source, sample, "embedding"), seed)


def keyword_floors(source: Analyses, rows: Candidates, bundle: BundleSummary, least: int) -> list[Floor]:
    """Per keyword, the rarest first, at least `least` of the candidates in which the model finds it."""
    found = analyses.column(source, rows.position, "keyword_probabilities") >= bundle.thresholds
    rarest = found.sum(0).argsort(kind="stable")
    names = bundle.taxonomy.names
    return [Floor(f"floor:{names[k]}", found[:, k].nonzero()[0].tolist(), least) for k in rarest]


def read_texts(source: Analyses, positions: Ints, input_uri: str, columns: str) -> list[str]:
    """The texts at `positions`, from the analyses or else from the catalog, by file and row or by id.

    Args:
        input_uri, columns: `--input` and `--columns` of the catalog.
    Raises: UserError where the catalog lacks a review, or has an id with several texts.
    """
    if "text" in source.columns:
        return [text or "" for text in analyses.take(source, positions, ["text"])["text"].to_pylist()]
    names = PLACE if set(PLACE) <= set(source.columns) else ("review_id",)
    table = analyses.take(source, positions, names)
    keys = list(zip(*(table[name].to_pylist() for name in names), strict=True))
    texts = _catalog_texts(input_uri, columns, set(keys), names)
    missing = [key for key in keys if key not in texts]
    check(not missing, f"--input {input_uri}: {len(missing):,} analyzed reviews are missing, such as {missing[:1]}")
    return [texts[key] for key in keys]


def batch_table(source: Analyses, shortlist: Shortlist, selection: Selection) -> pa.Table:
    """The selected rows: id, text, findings and kept columns, which criterion chose each, and its values."""
    rows = shortlist.rows.take(selection.rows)
    columns = [name for name in source.columns if name not in (*INTERNAL, "text")]
    table = analyses.take(source, rows.position, columns)
    table = table.add_column(1, "text", pa.array([shortlist.texts[i] for i in selection.rows], pa.string()))
    table = table.append_column("chosen_by", pa.array(selection.chosen_by, pa.string()))
    for column, name in enumerate(shortlist.criteria):
        table = table.append_column(name, pa.array(rows.values[:, column].round(4)))
    return table


def _catalog_texts(input_uri: str, columns: str, wanted: set[Key], names: Sequence[str]) -> dict[Key, str]:
    """Key -> text, of those `wanted` that the catalog has; a key is the values of the columns `names`."""
    texts: dict[Key, str] = {}
    plan = reviews.plan(reviews.resolve_input(input_uri), columns, (), UNIT_ROWS, "")
    for unit in reviews.read_units(plan.units, plan.columns) if wanted else ():
        if unit.accepted is None:
            continue
        keys = zip(*(unit.accepted[name].to_pylist() for name in names), strict=True)
        for key, text in zip(keys, unit.accepted["text"].to_pylist(), strict=True):
            if key in wanted:
                check(
                    texts.setdefault(key, text) == text,
                    f"--input {input_uri}: id {key[0]!r} has several texts; analyze with --source, or keep the text",
                )
    return texts


def _unlabeled(
    source: Analyses, columns: Sequence[str], labeled: Hashes, seed: int
) -> Iterator[tuple[pa.Table, Ints, Hashes]]:
    """Tables without the rows whose ids are labeled, the positions of the rows, and the hashes of their ids."""
    for positions, table in analyses.stream(source, columns):
        tie = hashes(table["review_id"], seed)
        rest = np.flatnonzero(~_contains(labeled, tie))
        if len(rest) < len(tie):
            table, positions, tie = table.take(pa.array(rest)), positions[rest], tie[rest]
        if len(rest):
            yield table, positions, tie


def _contains(labeled: Hashes, tie: Hashes) -> Flags:
    """[n] which of the hashes are among the sorted `labeled`."""
    if not len(labeled):
        return np.zeros(len(tie), bool)
    i = np.minimum(np.searchsorted(labeled, tie), len(labeled) - 1)
    return np.asarray(labeled[i] == tie)
