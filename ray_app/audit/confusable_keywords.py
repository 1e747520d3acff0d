"""Keywords that are mixed up. In: which keywords reviews carry, lack and should not have. Out: pairs above chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control, hypergeom

from ray_app.arrays import Flags

LEVEL = 0.05  # share of false discoveries among the pairs that are told
LEAST = 3  # reviews a pair is seen in before it is told


@dataclass(frozen=True, kw_only=True)
class Pair:
    """`swapped`: `first` looks superfluous and `second` missing in the same review. `together`: both are labelled.

    `p` is one-sided, Fisher's exact test of the two being independent over reviews, adjusted by Benjamini and Hochberg
    (1995) over all pairs of its kind.
    """

    kind: str
    first: str
    second: str
    seen: int
    expected: float
    p: float


def confusable(named: Flags, extra: Flags, missing: Flags, names: Sequence[str]) -> list[Pair]:
    """The pairs seen more often than chance, the surest first. All arrays are [reviews, keywords]."""
    ahead = [(a, b) for a in range(len(names)) for b in range(len(names)) if a < b]
    both = ahead + [(b, a) for a, b in ahead]
    return _above("swapped", extra, missing, both, names) + _above("together", named, named, ahead, names)


def _above(kind: str, one: Flags, other: Flags, pairs: list[tuple[int, int]], names: Sequence[str]) -> list[Pair]:
    varying = [(a, b) for a, b in pairs if 0 < one[:, a].sum() < len(one) and 0 < other[:, b].sum() < len(one)]
    if not varying:
        return []
    a, b = np.array(varying).T
    seen = (one[:, a] & other[:, b]).sum(0)
    left, right = one[:, a].sum(0), other[:, b].sum(0)
    p = false_discovery_control(hypergeom.sf(seen - 1, len(one), left, right).clip(0, 1))
    told = [i for i in np.argsort(p, kind="stable") if p[i] <= LEVEL and seen[i] >= LEAST]
    expected = left * right / len(one)
    return [
        Pair(
            kind=kind,
            first=names[a[i]],
            second=names[b[i]],
            seen=int(seen[i]),
            expected=float(expected[i]),
            p=float(p[i]),
        )
        for i in told
    ]
