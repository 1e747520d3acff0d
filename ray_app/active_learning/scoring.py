"""How much each review is worth labeling: its stratum, its values by every criterion, a hash of what it says.

In: tables of analyses. Out: `selection.Candidates`, whose columns of values follow the names of the criteria.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ray_app.active_learning.criteria import Outliers, Rarity, uniform, unsure_keyword, unsure_score
from ray_app.active_learning.selection import Candidates
from ray_app.arrays import Flags, Floats, Hashes, Ints
from ray_app.data.analyses import SCORES, matrix, score_matrix
from ray_app.errors import check

DEFAULT_THRESHOLD = 0.5  # of a keyword for which none was tuned
MOST_STRATA = 50_000


class Strata:
    """The distinct values of some columns, numbered in the order in which they first occur."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.numbers: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The strata by number."""
        return list(self.numbers)

    def __call__(self, table: pa.Table) -> Ints:
        """[rows] the number of each row's stratum. Raises UserError at more than MOST_STRATA."""
        if not self.columns:
            self.numbers.setdefault("all", 0)
            return np.zeros(len(table), np.int64)
        columns = [pc.fill_null(table[name].cast(pa.string()), "") for name in self.columns]
        encoded = pc.binary_join_element_wise(*columns, " / ").combine_chunks().dictionary_encode()
        numbers = [self.numbers.setdefault(name, len(self.numbers)) for name in encoded.dictionary.to_pylist()]
        check(
            len(self.numbers) <= MOST_STRATA,
            f"--stratify {','.join(self.columns)}: over {MOST_STRATA:,} different values; choose a coarser column",
        )
        return np.array(numbers, np.int64)[np.asarray(encoded.indices.to_numpy(), np.int64)]

    def shuffled(self, sizes: Ints, seed: int) -> tuple["Strata", Ints]:
        """The same strata and sizes, numbered by a hash: nothing depends on the order of files or names."""
        order = np.lexsort((np.array(self.names), hashes(self.names, seed)))
        other = Strata(self.columns)
        other.numbers = {self.names[i]: number for number, i in enumerate(order)}
        return other, sizes[order]


def hashes(values: Sequence[str] | pa.ChunkedArray, seed: int) -> Hashes:
    """[n] 64-bit hashes of strings (SipHash, keyed by the seed)."""
    strings = values.to_numpy() if isinstance(values, pa.ChunkedArray) else np.array(values, object)
    return np.asarray(pd.util.hash_array(strings, hash_key=f"{seed:016d}", categorize=False), np.uint64)


@dataclass(frozen=True)
class ScoredReviews:
    """n reviews as candidates, a hash of what each says, and [n, keywords] which keywords the model finds in it."""

    rows: Candidates
    content: Hashes
    keywords: Flags


@dataclass(frozen=True, kw_only=True)
class CandidateScorer:
    """Scores rows of analyses by the criteria `names`.

    `thresholds` [keywords] are None where unknown; `rarity` and `outliers` are None where those criteria are not used.
    """

    names: tuple[str, ...]
    strata: Strata
    thresholds: Floats | None
    rarity: Rarity | None
    outliers: Outliers | None
    seed: int

    def reads(self, columns: Sequence[str]) -> list[str]:
        """Which of an analysis's columns are needed: the text where there is one, the embedding for outliers."""
        optional = ["text"] * ("text" in columns) + ["embedding"] * (self.outliers is not None)
        return list(dict.fromkeys(["review_id", "keyword_probabilities", SCORES, *optional, *self.strata.columns]))

    def __call__(self, table: pa.Table, positions: Ints, tie: Hashes) -> ScoredReviews:
        """Scores n rows of an analysis at `positions` [n]; `tie` [n] are the hashes of their ids.

        Raises UserError where the bundle's thresholds are not those of the analyses' keywords.
        """
        probabilities = matrix(table["keyword_probabilities"])
        thresholds = self._thresholds(probabilities.shape[1])
        values = self._values(table, probabilities, thresholds, tie)
        has_text = "text" in table.column_names
        content = hashes(table["text"], 0) if has_text else _fingerprint(probabilities)
        rows = Candidates(
            stratum=self.strata(table),
            tie=tie,
            position=positions,
            values=np.stack([values[name] for name in self.names], 1),
        )
        return ScoredReviews(rows, content, probabilities >= thresholds)

    def _thresholds(self, keywords: int) -> Floats:
        if self.thresholds is None:
            return np.full(keywords, DEFAULT_THRESHOLD, np.float32)
        count = len(self.thresholds)
        check(keywords == count, f"--bundle: {count} keywords, the analyses have {keywords}; name their own bundle")
        return self.thresholds

    def _values(self, table: pa.Table, probabilities: Floats, thresholds: Floats, tie: Hashes) -> dict[str, Floats]:
        keyword = unsure_keyword(probabilities, thresholds)
        score = unsure_score(*score_matrix(table["findings"]), len(table))
        drawn = uniform(tie)
        values = {"unsure_keyword": keyword, "unsure_score": score, "random": drawn, "diverse": drawn}
        values["boundary"] = np.asarray((keyword + score) / 2, np.float32)
        if self.rarity:
            values["rare"] = self.rarity(table["text"].fill_null("").to_pylist())
        if self.outliers:
            values["outlier"] = self.outliers(matrix(table["embedding"]))
        return values


def _fingerprint(probabilities: Floats) -> Hashes:
    """[n] equal where all probabilities are equal: without texts, what the model cannot tell apart counts as equal."""
    weights = np.random.default_rng(0).integers(1, 2**63, probabilities.shape[1], dtype=np.uint64) | np.uint64(1)
    bits = probabilities.view(np.uint32).astype(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(15))) * weights
    return np.asarray((mixed ^ (mixed >> np.uint64(31))).sum(1), np.uint64)
