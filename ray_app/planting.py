"""Wrong labels on purpose, to see how many of them an audit finds. In: labelled reviews. Out: those with known errors.

Only labels change, by a seed; which ones is kept. Test rows are the caller's to leave out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app.metrics import Flags
from ray_app.schema import LABELLED
from ray_app.sequences import Ints
from ray_app.targets import keyword_matrix, score_pairs
from ray_app.taxonomy import Taxonomy

HOW = ("labels", "cells")


@dataclass(frozen=True)
class Planted:
    """Labels with errors, and where they are: `keywords` [reviews, keywords], `scores` [labels of the table]."""

    table: pa.Table
    keywords: Flags
    scores: Flags


def plant(table: pa.Table, taxonomy: Taxonomy, share: float, seed: int, how: str = "labels") -> Planted:
    """Flips keywords and scores.

    Args:
        share: of the keyword labels that are flipped, and of the scores that become another one at random.
        how: `labels` takes this share of every keyword's labels away and gives as many reviews the keyword that should
            not have it; `cells` flips this share of all (review, keyword) cells, as if labellers had slipped: nearly
            all of those errors are superfluous keywords, which are easier to find.

    The overall keyword is never flipped (that it is missing shows without a model); its scores are.
    """
    rng = np.random.default_rng(seed)
    named = keyword_matrix(table, taxonomy)
    flips = _cells(named, taxonomy, share, rng) if how == "cells" else _per_keyword(named, taxonomy, share, rng)
    scores = np.full(named.shape, -1, np.int64)
    review, keyword, given = score_pairs(table, taxonomy)
    scores[review, keyword] = given
    wrong = rng.random(len(given)) < share
    width = len(taxonomy.scores)
    scores[review[wrong], keyword[wrong]] = (given[wrong] + rng.integers(1, width, wrong.sum())) % width
    for k in range(named.shape[1]):
        usual = given[keyword == k]
        new = np.flatnonzero(flips[:, k] & ~named[:, k])
        scores[new, k] = rng.choice(usual, len(new)) if len(usual) else width // 2
    scores[flips & named] = -1
    moved = np.zeros(named.shape, bool)
    moved[review[wrong], keyword[wrong]] = True
    planted = _relabelled(table, taxonomy, scores)
    review, keyword, _ = score_pairs(planted, taxonomy)
    return Planted(planted, flips, moved[review, keyword])


def _cells(named: Flags, taxonomy: Taxonomy, share: float, rng: np.random.Generator) -> Flags:
    flips = rng.random(named.shape) < share
    flips[:, _overall(taxonomy)] = False
    return flips


def _per_keyword(named: Flags, taxonomy: Taxonomy, share: float, rng: np.random.Generator) -> Flags:
    flips = np.zeros(named.shape, bool)
    for k in set(range(named.shape[1])) - set(_overall(taxonomy)):
        has, lacks = np.flatnonzero(named[:, k]), np.flatnonzero(~named[:, k])
        count = min(round(share * len(has)), len(lacks))
        for rows in (has, lacks):
            flips[rng.choice(rows, count, replace=False), k] = True
    return flips


def _overall(taxonomy: Taxonomy) -> list[int]:
    return [taxonomy.index[taxonomy.overall]] if taxonomy.overall else []


def _relabelled(table: pa.Table, taxonomy: Taxonomy, scores: Ints) -> pa.Table:
    """The table with the scores [reviews, keywords] of each review, -1 for a keyword it has not."""
    rows: list[dict[str, Any]] = table.select(LABELLED.names).to_pylist()
    for row, own in zip(rows, scores, strict=True):
        words = {label["keyword"]: label["highlights"] for label in row["labels"]}
        row["labels"] = [
            {"keyword": name, "score": taxonomy.scores[score], "highlights": words.get(name)}
            for name, score in zip(taxonomy.names, own, strict=True)
            if score >= 0
        ]
    return pa.Table.from_pylist(rows, schema=LABELLED)
