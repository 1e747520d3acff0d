"""Quotas: how many reviews to take per stratum and criterion, proportional and summing to exactly the budget.

In: sizes of strata, a budget, shares of criteria. Out: whole numbers.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ray_app.arrays import Ints
from ray_app.errors import UserError, check, closest

Shares = NDArray[np.float64]


def allocate(total: int, weights: ArrayLike, least: ArrayLike, most: ArrayLike) -> Ints:
    """[strata] whole numbers proportional to `weights` [strata], each between its `least` and `most` [strata].

    They sum to `total`, or to the nearest sum that the bounds allow. Where a bound holds, the others share the
    difference by their weights. Largest remainders are rounded up (Hamilton), so each is within one of its exact share.
    """
    w, low, high = (np.asarray(a, np.float64) for a in (weights, least, most))
    high = np.where(w > 0, np.maximum(high, low), low)
    total = int(np.clip(total, low.sum(), high.sum()))
    return _rounded(_clamped(total, w, low, high), total)


def split_by_criterion(quotas: Ints, shares: Shares, before: Ints) -> Ints:
    """[strata, criteria] each criterion's part of each stratum's quota; rows sum to the quotas [strata].

    Remainders carry over from one stratum to the next, so that a criterion with a small share gets it over many small
    strata too, none of which would round up to it. `before` [criteria] is what the criteria have already.
    """
    rows = np.zeros((len(quotas), len(shares)), np.int64)
    taken = before.copy()
    for s in np.flatnonzero(quotas):
        owed = np.maximum(shares * (taken.sum() + quotas[s]) - taken, 0.0) * (shares > 0)
        rows[s] = _rounded(owed * (quotas[s] / owed.sum()), int(quotas[s]))
        taken += rows[s]
    return rows


def parse_mix(text: str, known: Iterable[str], flag: str = "--mix") -> dict[str, float]:
    """`boundary=0.6,rare=0.4` -> shares that sum to one, in the order given.

    Raises UserError, naming `flag`, at an unknown or repeated criterion, a bad share, and where no share is above 0.
    """
    known = tuple(known)
    shares: dict[str, float] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, _, value = (side.strip() for side in item.partition("="))
        check(name in known, f"{flag}: unknown criterion {name!r}{closest(name, known)}")
        check(name not in shares, f"{flag}: {name} is named twice")
        shares[name] = _share(value, f"{flag} {item}")
    total = sum(shares.values())
    check(total > 0, f"{flag} {text!r}: write NAME=SHARE,… of {', '.join(known)}, with one share above 0")
    return {name: value / total for name, value in shares.items() if value}


def _share(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UserError(f"{option}: write a share such as 0.6")
    return value


def _rounded(exact: Shares, total: int) -> Ints:
    """Rounds the largest remainders up until the sum is `total`; of equals, the first."""
    whole = np.floor(exact + 1e-9)
    first = np.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]
    whole[first] += 1
    return whole.astype(np.int64)


def _clamped(total: int, weights: Shares, low: Shares, high: Shares) -> Shares:
    """By bisection: x with low <= x <= high, sum(x) = total, and x = scale * weights wherever no bound holds."""
    positive = weights > 0
    begin, end = 0.0, float((high[positive] / weights[positive]).max(initial=0.0))
    for _ in range(200):
        middle = (begin + end) / 2
        enough = np.clip(middle * weights, low, high).sum() >= total
        begin, end = (begin, middle) if enough else (middle, end)
    return np.clip(end * weights, low, high)
