"""The candidates for a batch, found while the analyses of a catalog stream by.

In: analyses, the ids that are labelled already, an Appraiser. Out: sizes of strata, and a bounded number of candidates.
Twice through the files: first ids and strata only, so that every stratum's quota is known before anything is kept and
what is kept is a few times the budget, however many strata and rows there are; then the probabilities.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from ray_app import storage
from ray_app.active_learning.criteria import diverse, uniform
from ray_app.active_learning.quotas import allocate
from ray_app.active_learning.scoring import CandidateScorer, Strata, hashes
from ray_app.active_learning.selection import Candidates, TopPerGroup, room, union
from ray_app.arrays import Hashes, Ints
from ray_app.data import analyses
from ray_app.data.analyses import Analyses
from ray_app.errors import check
from ray_app.inference.bundle import BundleSummary, read_summary


def model(analyses: Analyses, named: str) -> BundleSummary | None:
    """The bundle `named`, or the one that the analyses name where it is still at hand. Raises UserError where the
    former is not theirs."""
    place = named or analyses.facts.get("config", {}).get("bundle", "")
    file = storage.join(place, "bundle.json")
    if named or (place and storage.exists(file)):
        theirs = analyses.facts.get("bundle")
        if theirs in (None, storage.read_json(file).get("id")):
            return read_summary(place)
        check(not named, f"--bundle {named}: the analyses were made by {theirs}")
    print("thresholds: 0.5 each, as the bundle of the analyses is not at hand; name it with --bundle")
    return None


SAMPLE = 20_000  # rows that clusters of embeddings are found in
SPREAD = 10  # candidates for each that `diverse` picks
DRAWN = ("random", "diverse")  # by lot: a text that many wrote has as many lots


def count_strata(source: Analyses, columns: Sequence[str], done: Hashes, seed: int) -> tuple[Strata, Ints, Ints]:
    """Strata, how many rows without labels each has, and the places of a uniform sample of all."""
    strata, sizes = Strata(columns), np.zeros(0, np.int64)
    sample = TopPerGroup(np.array([SAMPLE]), 0)
    for table, places, tie in _unlabeled(source, ["review_id", *columns], done, seed):
        numbers = strata(table)
        sizes = np.pad(sizes, (0, len(strata.numbers) - len(sizes)))
        sizes += np.bincount(numbers, minlength=len(sizes))
        rows = Candidates(stratum=numbers, tie=tie, place=places, values=np.zeros((len(places), 0), np.float32))
        sample.add(np.zeros(len(places), np.int64), uniform(tie), tie, rows)
    strata, sizes = strata.shuffled(sizes, seed)
    return strata, sizes, sample.kept().place


def collect_candidates(
    source: Analyses,
    appraiser: CandidateScorer,
    done: Hashes,
    sizes: Ints,
    budget: int,
    criteria: Sequence[str],
    floor: int,
) -> Candidates:
    """Candidates of every stratum by each criterion, and of every keyword, by lot, where `floor` is above 0."""
    quotas = allocate(budget, sizes, np.zeros(len(sizes)), sizes)
    width = len(appraiser.names)
    kept = {name: TopPerGroup(room(quotas * (SPREAD if name == "diverse" else 1)), width) for name in criteria}
    finds: TopPerGroup | None = None
    for table, places, tie in _unlabeled(source, appraiser.reads(source.columns), done, appraiser.seed):
        seen = appraiser(table, places, tie)
        for name, best in kept.items():
            value = seen.rows.values[:, appraiser.names.index(name)]
            best.add(seen.rows.stratum, value, tie if name in DRAWN else seen.content, seen.rows)
        if floor:
            finds = finds or TopPerGroup(room(np.full(seen.found.shape[1], floor)), width)
            row, keyword = np.nonzero(seen.found)
            finds.add(keyword, np.zeros(len(row), np.float32), seen.content[row], seen.rows.take(row))
    return union([best.kept() for best in (*kept.values(), *([finds] if finds else []))])


def order_by_diversity(
    source: Analyses, rows: Candidates, column: int, sizes: Ints, budget: int, seed: int
) -> Candidates:
    """Candidates whose values for `diverse` are the order in which k-means++ picks them within their stratum."""
    picks = room(allocate(budget, sizes, np.zeros(len(sizes)), sizes))
    embeddings = analyses.column(source, rows.place, "embedding")
    values = rows.values.copy()
    for s in np.unique(rows.stratum):
        here = np.flatnonzero(rows.stratum == s)
        values[here, column] = diverse(embeddings[here], int(picks[s]), seed)
    return Candidates(stratum=rows.stratum, tie=rows.tie, place=rows.place, values=values)


def _unlabeled(
    source: Analyses, columns: Sequence[str], done: Hashes, seed: int
) -> Iterator[tuple[pa.Table, Ints, Hashes]]:
    """Tables without the rows whose ids are in `done` (sorted), their places, and the hashes of their ids."""
    for places, table in analyses.stream(source, columns):
        tie = hashes(table["review_id"], seed)
        keep = np.flatnonzero(~_contains(done, tie))
        if len(keep) < len(tie):
            table, places, tie = table.take(pa.array(keep)), places[keep], tie[keep]
        if len(keep):
            yield table, places, tie


def _contains(done: Hashes, tie: Hashes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if not len(done):
        return np.zeros(len(tie), bool)
    at = np.minimum(np.searchsorted(done, tie), len(done) - 1)
    return np.asarray(done[at] == tie)
