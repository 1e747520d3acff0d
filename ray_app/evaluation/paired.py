"""Two bundles on the same labeled rows: what differs, and whether the rows can tell.

In: what each found on a LABELED table. Out: per measure both values, their difference, and the interval that holds 95%
of it over such rows (Efron's percentile bootstrap 1979, over reviews, both drawn alike). Pure functions on arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.arrays import Flags, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.evaluation.mixed_reviews import labeled_pairs
from ray_app.labels.matrices import keyword_matrix

Counts = NDArray[np.float64]
DRAWN_AT_ONCE = 50  # draws: their weights, [draws, reviews], are in memory together
BETTER, WORSE, UNSURE = "better", "worse", "no difference seen"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a bundle says of reviews, for the taxonomy's keywords: [reviews, keywords] found or not, and the position on
    the scale of each score (of keywords that are neither found nor labeled: any)."""

    found: Flags
    scores: Ints


@dataclass(frozen=True)
class Ratio:
    """A measure whose value is the mean over its columns of sum(part) / sum(whole), both [reviews, columns]."""

    part: Counts
    whole: Counts

    def values(self, weights: Counts) -> Counts:
        """[draws] its value where each review counts so often: `weights` [draws, reviews]. NaN of nothing."""
        whole = weights @ self.whole
        shares = np.divide(weights @ self.part, whole, out=np.zeros_like(whole), where=whole > 0)
        counted = (whole > 0).sum(1)
        total = shares.sum(1)
        means: Counts = np.divide(total, counted, out=np.full(len(total), np.nan), where=counted > 0)
        return means


class Difference(TypedDict):
    """One measure: of the bundle in use, of the other, the difference with the bounds of 95%, and what they say.
    None where the rows say nothing of it."""

    measure: str
    old: float | None
    new: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: str


def measures(table: pa.Table, taxonomy: Taxonomy, keywords: Ints, answers: Answers) -> dict[str, Ratio]:
    """By name, what a bundle's answers are judged by; only the `keywords` at these positions count."""
    true = keyword_matrix(table, taxonomy)[:, keywords]
    found = answers.found[:, keywords]
    hits, named = (true & found).astype(np.float64), true.astype(np.float64) + found
    always = true.all(0)
    varying = ~always if named[:, ~always].any() else np.ones(len(keywords), bool)
    pairs = labeled_pairs(table, taxonomy)
    counted = np.isin(pairs.keyword, keywords)
    scale = np.asarray(taxonomy.scores)
    given = answers.scores[pairs.review, pairs.keyword]
    right, same_sign = given == pairs.score, np.sign(scale[given]) == pairs.sign
    also_found = answers.found[pairs.review, pairs.keyword] & counted
    size = len(table)

    def per_review(flags: Flags) -> Counts:
        return np.bincount(pairs.review[flags], minlength=size).astype(np.float64)[:, None]

    cells = named.sum(1, keepdims=True)
    return {
        "keywords F1, micro": _f1(hits[:, varying].sum(1, keepdims=True), named[:, varying].sum(1, keepdims=True)),
        "keywords F1, macro": _f1(hits, named),
        "tuples F1, exact score": _f1(per_review(also_found & right), cells),
        "tuples F1, sign of the score": _f1(per_review(also_found & same_sign), cells),
        "score accuracy, given the keyword": Ratio(per_review(counted & right), per_review(counted)),
        "sign in mixed reviews": Ratio(
            per_review(counted & pairs.mixed & same_sign), per_review(counted & pairs.mixed)
        ),
    }


def _f1(hits: Counts, named: Counts) -> Ratio:
    """F1 is twice the hits over what is true plus what is found."""
    return Ratio(2 * hits, named)


def differences(old: dict[str, Ratio], new: dict[str, Ratio], reviews: int, draws: int, seed: int) -> list[Difference]:
    """New less old, per measure; both are drawn with the same reviews, so that what is hard for both cancels out."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[Counts]] = {name: [] for name in old}
    for first in range(0, draws, DRAWN_AT_ONCE):
        count = min(DRAWN_AT_ONCE, draws - first)
        rows = rng.integers(0, reviews, (count, reviews))
        weights = np.stack([np.bincount(own, minlength=reviews) for own in rows]).astype(np.float64)
        for name in old:
            drawn[name].append(new[name].values(weights) - old[name].values(weights))
    once = np.ones((1, reviews))
    return [
        _difference(name, old[name].values(once)[0], new[name].values(once)[0], np.concatenate(drawn[name]))
        for name in old
    ]


def _difference(measure: str, old: float, new: float, drawn: Counts) -> Difference:
    if np.isnan(old) or np.isnan(new):
        empty = {"old": None, "new": None, "difference": None, "low": None, "high": None}
        return {"measure": measure, **empty, "verdict": ""}  # type: ignore[typeddict-item]
    low, high = (float(bound) for bound in np.nanquantile(drawn, (0.025, 0.975)))
    verdict = BETTER if low > 0 else WORSE if high < 0 else UNSURE
    return {
        "measure": measure,
        "old": round(float(old), 4),
        "new": round(float(new), 4),
        "difference": round(float(new - old), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "verdict": verdict,
    }


def verdict(rows: Sequence[Difference]) -> str:
    """`better`, `worse`, or `no difference seen`: worse where any measure is."""
    said = [row["verdict"] for row in rows]
    return WORSE if WORSE in said else BETTER if BETTER in said else UNSURE
