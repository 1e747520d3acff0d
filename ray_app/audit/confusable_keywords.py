"""Keywords that labelers mix up.

In: the keywords that reviews carry, lack and should not have. Out: pairs that occur more often than by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control, hypergeom

from ray_app.arrays import Flags

LEVEL = 0.05  # false discovery rate among the reported pairs
LEAST = 3  # reviews in which a pair must occur to be reported


@dataclass(frozen=True, kw_only=True)
class Pair:
    """`swapped`: `first` looks superfluous and `second` missing in the same review. `together`: both are labeled.

    `count` is the number of reviews in which the pair occurs, `expected` the number by chance. `p` is one-sided:
    Fisher's exact test that the two are independent over reviews, adjusted by Benjamini and Hochberg (1995) over all
    pairs of its kind.
    """

    kind: str
    first: str
    second: str
    count: int
    expected: float
    p: float


def confusable(labeled: Flags, extra: Flags, missing: Flags, names: Sequence[str]) -> list[Pair]:
    """The pairs that occur more often than by chance, lowest p first per kind. All arrays are [reviews, keywords]."""
    unordered = [(a, b) for a in range(len(names)) for b in range(len(names)) if a < b]
    ordered = unordered + [(b, a) for a, b in unordered]
    return [
        *_above_chance("swapped", extra, missing, ordered, names),
        *_above_chance("together", labeled, labeled, unordered, names),
    ]


def _above_chance(
    kind: str, first: Flags, second: Flags, pairs: list[tuple[int, int]], names: Sequence[str]
) -> list[Pair]:
    """Pairs (a, b) of keywords for which `first` holds for a and `second` for b in more reviews than by chance."""
    reviews = len(first)
    varying = [(a, b) for a, b in pairs if 0 < first[:, a].sum() < reviews and 0 < second[:, b].sum() < reviews]
    if not varying:
        return []
    a, b = np.array(varying).T
    counts = (first[:, a] & second[:, b]).sum(0)
    firsts, seconds = first[:, a].sum(0), second[:, b].sum(0)
    p = false_discovery_control(hypergeom.sf(counts - 1, reviews, firsts, seconds).clip(0, 1))
    expected = firsts * seconds / reviews
    return [
        Pair(
            kind=kind,
            first=names[a[i]],
            second=names[b[i]],
            count=int(counts[i]),
            expected=float(expected[i]),
            p=float(p[i]),
        )
        for i in np.argsort(p, kind="stable")
        if p[i] <= LEVEL and counts[i] >= LEAST
    ]
