"""Errors planted in labels, to measure how many of them an audit finds.

In: labeled reviews; the caller leaves out test rows. Out: the same with wrong labels, drawn by a seed, and where those
are.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags, Ints
from ray_app.data.rows import LabeledRow
from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import Taxonomy
from ray_app.labels.matrices import keyword_matrix, score_pairs


@dataclass(frozen=True)
class Planted:
    """Labels with errors, and where they are: `keywords` [reviews, keywords], `scores` [labels of the table]."""

    table: pa.Table
    keywords: Flags
    scores: Flags


def plant(labeled: pa.Table, taxonomy: Taxonomy, share: float, seed: int, how: str = "labels") -> Planted:
    """Flips keywords and changes scores at random.

    Args:
        share: share of the keyword labels that are flipped, and of the scores that become another one.
        how: `labels` removes this share of every keyword's labels and adds the keyword to as many reviews that should
            not have it; `cells` flips this share of all (review, keyword) cells, as a slip of the hand would: nearly
            all of those errors are superfluous keywords, which are easier to find.

    The overall keyword is never flipped (its absence shows without a model); its scores are changed like others.
    """
    rng = np.random.default_rng(seed)
    named = keyword_matrix(labeled, taxonomy)
    flips = _cell_flips(named, taxonomy, share, rng) if how == "cells" else _label_flips(named, taxonomy, share, rng)
    scores, changed = _changed_scores(labeled, taxonomy, flips, share, rng)
    planted = _relabeled(labeled, taxonomy, scores)
    review, keyword, _ = score_pairs(planted, taxonomy)
    return Planted(planted, flips, changed[review, keyword])


def _cell_flips(named: Flags, taxonomy: Taxonomy, share: float, rng: np.random.Generator) -> Flags:
    flips = rng.random(named.shape) < share
    flips[:, _overall(taxonomy)] = False
    return flips


def _label_flips(named: Flags, taxonomy: Taxonomy, share: float, rng: np.random.Generator) -> Flags:
    flips = np.zeros(named.shape, bool)
    for k in set(range(named.shape[1])) - set(_overall(taxonomy)):
        carriers, others = np.flatnonzero(named[:, k]), np.flatnonzero(~named[:, k])
        count = min(round(share * len(carriers)), len(others))
        for rows in (carriers, others):
            flips[rng.choice(rows, count, replace=False), k] = True
    return flips


def _overall(taxonomy: Taxonomy) -> list[int]:
    return [taxonomy.index[taxonomy.overall]] if taxonomy.overall else []


def _changed_scores(
    labeled: pa.Table, taxonomy: Taxonomy, flips: Flags, share: float, rng: np.random.Generator
) -> tuple[Ints, Flags]:
    """[reviews, keywords] positions of the planted scores (-1: not labeled), and which of the given ones were changed.

    An added keyword gets a score that is drawn from the keyword's own.
    """
    review, keyword, given = score_pairs(labeled, taxonomy)
    named, width = np.zeros(flips.shape, bool), len(taxonomy.scores)
    named[review, keyword] = True
    scores = np.full(flips.shape, -1, np.int64)
    scores[review, keyword] = given
    wrong = rng.random(len(given)) < share
    scores[review[wrong], keyword[wrong]] = (given[wrong] + rng.integers(1, width, wrong.sum())) % width
    for k in range(flips.shape[1]):
        usual = given[keyword == k]
        added = np.flatnonzero(flips[:, k] & ~named[:, k])
        scores[added, k] = rng.choice(usual, len(added)) if len(usual) else width // 2
    scores[flips & named] = -1
    changed = np.zeros(flips.shape, bool)
    changed[review[wrong], keyword[wrong]] = True
    return scores, changed


def _relabeled(labeled: pa.Table, taxonomy: Taxonomy, scores: Ints) -> pa.Table:
    """The table with these scores (positions [reviews, keywords], -1 for a keyword that a review has not)."""
    rows: list[LabeledRow] = labeled.select(LABELED.names).to_pylist()
    for row, own in zip(rows, scores, strict=True):
        words = {label["keyword"]: (label["highlights"], label["opinions"]) for label in row["labels"]}
        row["labels"] = [
            {"keyword": name, "score": taxonomy.scores[score], "highlights": highlights, "opinions": opinions}
            for name, score in zip(taxonomy.names, own, strict=True)
            if score >= 0
            for highlights, opinions in (words.get(name, (None, None)),)
        ]
    return pa.Table.from_pylist(rows, schema=LABELED)
