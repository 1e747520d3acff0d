"""One pass over analyses of any size -> the numbers that a report needs. In: a folder of analyses. Out: a Store, facts.

Files are read in batches, only the columns and fields that count; texts are not read here. What is kept of a review is
its groups, day, rating and findings as numbers, in the Store's own file.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ray_app.arrays import Doubles, Floats, Ints
from ray_app.data import analyses
from ray_app.data.analyses import Analyses
from ray_app.data.column_names import ROLE_NAMES, folded
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import check
from ray_app.insights.reading.executor import on_ray
from ray_app.insights.reading.parts import BINS, Coded, Part, Wanted, part
from ray_app.insights.store import BATCH, LEVELS, SCORES, Store

MOST_WORDS = 500_000  # different words that are numbered at a time


@dataclass
class Facts:
    """What was counted besides: reviews, those without any finding, truncated ones, unsure ones, and the histograms."""

    reviews: int = 0
    nothing_found: int = 0
    truncated: int = 0
    unsure: int = 0
    rated: int = 0
    dated: int = 0
    probabilities: Doubles = field(default_factory=lambda: np.zeros((0, BINS)))  # [keywords of the taxonomy, BINS]
    columns: dict[str, str] = field(default_factory=dict)  # role -> column


def roles(source: Analyses) -> dict[str, str]:
    """Role -> the analyses' column for it, of those that a report can use."""
    by_fold = {folded(name): name for name in reversed(source.columns)}
    found = {
        role: next((by_fold[folded(name)] for name in ROLE_NAMES[role] if folded(name) in by_fold), None)
        for role in ("product", "category", "mall", "rating", "created_at", "text")
    }
    return {role: column for role, column in found.items() if column}


def ingest(
    source: Analyses,
    store: Store,
    taxonomy: Taxonomy | None,
    thresholds: Floats | None,
    ids: bool = False,
    placement: str = "here",
) -> Facts:
    """Fills the store. Raises UserError where the files are not analyses.

    Args:
        taxonomy, thresholds: of the bundle that made the analyses, where it is known.
        ids: also read the reviews' ids, by which another run's are told to be the same.
        placement: `here`, in this process, or `ray`, on a cluster.
    """
    check("findings" in source.columns, f"{source.uri}: these are not analyses (no findings column)")
    more = [name for name in ("truncated", "keyword_probabilities") if name in source.columns]
    wanted = Wanted(roles=roles(source), more=(*more, *(["review_id"] if ids else [])), thresholds=thresholds)
    gathered = _Gathered(store, wanted.roles, taxonomy)
    gathered.take(on_ray(source, wanted) if placement == "ray" else _here(source, wanted))
    check(gathered.facts.reviews, f"{source.uri}: no reviews in these analyses")
    return gathered.facts


def _here(source: Analyses, wanted: Wanted) -> Iterator[Part]:
    for positions, table in analyses.stream(source, wanted.columns, BATCH, threads=True):
        yield part(positions, table, wanted)


class _Gathered:
    """Parts as one: equal names get equal numbers throughout."""

    def __init__(self, store: Store, columns: dict[str, str], taxonomy: Taxonomy | None) -> None:
        self.store, self.facts = store, Facts(columns=columns)
        self.keywords = {name: i for i, name in enumerate(taxonomy.names if taxonomy else ())}
        self.levels: dict[str, dict[str, int]] = {level: {} for level in LEVELS if level != "all"}
        self.words: dict[str, int] = {}

    def take(self, parts: Iterable[Part]) -> None:
        """Appends all of them to the store and names what its numbers stand for."""
        for one in parts:
            self._add(one)
        self.store.name_words(list(self.words))
        self.store.keywords = list(self.keywords)
        self.store.names = {level: list(self.levels[level]) for level in LEVELS if level != "all"}

    def _add(self, part: Part) -> None:
        numbers = _numbers(self.keywords, part.keywords)
        codes = np.maximum(numbers[part.codes // SCORES], 0) * SCORES + part.codes % SCORES
        offsets = np.concatenate([np.zeros(1, np.int64), part.lengths.cumsum()])
        ids = pa.nulls(len(part.positions), pa.string()) if part.ids is None else part.ids
        columns = {"id": ids, "pos": part.positions}
        for level in ("category", "mall", "product"):
            columns[level] = pa.array(_renumbered(self.levels[level], part.levels[level]).astype(np.int32))
        columns |= {"day": part.day, "rating": part.rating}
        columns["codes"] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(codes, pa.uint16()))
        self.store.add("reviews", pa.table(columns))
        self._add_words(part, codes)
        self._count(part)

    def _add_words(self, part: Part, codes: Ints) -> None:
        cell = codes // SCORES * 2 + (codes % SCORES < 2)
        signed = codes % SCORES != 2
        for role, words in enumerate(part.words):
            if words is None or not words.names:
                continue
            if len(self.words) > MOST_WORDS:
                self.store.name_words(list(self.words))
                self.words.clear()
            said = signed & (words.numbers >= 0)
            columns = {
                "cell": pa.array(cell[said].astype(np.uint16)),
                "role": pa.array(np.full(int(said.sum()), role, np.uint8)),
                "word": pa.array(_renumbered(self.words, words)[said].astype(np.uint32)),
            }
            self.store.add("said", pa.table(columns))

    def _count(self, part: Part) -> None:
        facts = self.facts
        facts.reviews += len(part.positions)
        facts.nothing_found += int((part.lengths == 0).sum())
        facts.rated += len(part.rating) - part.rating.null_count
        facts.dated += len(part.day) - part.day.null_count
        facts.truncated += part.truncated
        facts.unsure += part.unsure
        if len(part.histogram):
            facts.probabilities = part.histogram + (facts.probabilities if len(facts.probabilities) else 0)


def _numbers(known: dict[str, int], names: list[str]) -> Ints:
    """The numbers of the names throughout, for -1 too; new names are numbered."""
    return np.array([known.setdefault(name, len(known)) if name else -1 for name in names] + [-1], np.int64)


def _renumbered(known: dict[str, int], coded: Coded) -> Ints:
    return np.asarray(_numbers(known, coded.names)[coded.numbers])
