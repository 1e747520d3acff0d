"""How many to take from where: proportional shares as whole numbers that sum to exactly what was asked for.

In: sizes of strata, a budget, shares of criteria. Out: integers. Plain arithmetic, no tables.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ray_app.arrays import Ints
from ray_app.errors import UserError, check, closest

Shares = NDArray[np.float64]


def allocate(total: int, weights: ArrayLike, least: ArrayLike, most: ArrayLike) -> Ints:
    """[strata] whole numbers proportional to `weights`, each within its `least` and `most`.

    They sum to `total`, or to the nearest that the bounds allow. What a bound takes or leaves is shared among the
    others by their weights; rounding is by largest remainder (Hamilton), so each is within one of its exact share.
    """
    w, low, high = (np.asarray(a, np.float64) for a in (weights, least, most))
    high = np.where(w > 0, np.maximum(high, low), low)
    total = int(np.clip(total, low.sum(), high.sum()))
    return _rounded(_clamped(total, w, low, high), total)


def mixed(quotas: Ints, shares: Shares, given: Ints) -> Ints:
    """[strata, criteria] how many each criterion takes of each stratum's quota; rows sum to the quotas.

    Remainders are carried from one stratum to the next, so that a criterion of a small share gets it over many small
    strata too, although no single one would round up to it. `given`: what the criteria had before.
    """
    rows = np.zeros((len(quotas), len(shares)), np.int64)
    taken = given.copy()
    for s in np.flatnonzero(quotas):
        owed = np.maximum(shares * (taken.sum() + quotas[s]) - taken, 0.0) * (shares > 0)
        rows[s] = _rounded(owed * (quotas[s] / owed.sum()), int(quotas[s]))
        taken += rows[s]
    return rows


def parse_mix(text: str, known: Iterable[str], flag: str = "--mix") -> dict[str, float]:
    """`boundary=0.6,rare=0.4` -> shares that sum to one, in the order given. Raises UserError."""
    known = tuple(known)
    found: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        check(name in known, f"{flag}: unknown criterion {name!r}{closest(name, known)}")
        check(name not in found, f"{flag}: {name} is named twice")
        found[name] = _share(value, f"{flag} {part}")
    whole = sum(found.values())
    check(whole > 0, f"{flag} {text!r}: write NAME=SHARE,… of {', '.join(known)}, with one share above 0")
    return {name: value / whole for name, value in found.items() if value}


def _share(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UserError(f"{place}: write a share such as 0.6")
    return value


def _rounded(exact: Shares, total: int) -> Ints:
    """Largest remainders are rounded up, until the sum is `total`; the first of equals."""
    whole = np.floor(exact + 1e-9)
    first = np.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]
    whole[first] += 1
    return whole.astype(np.int64)


def _clamped(total: int, weights: Shares, low: Shares, high: Shares) -> Shares:
    """x with low <= x <= high, sum(x) = total and x = scale * weights wherever no bound holds, by bisection."""
    positive = weights > 0
    begin, end = 0.0, float((high[positive] / weights[positive]).max(initial=0.0))
    for _ in range(200):
        middle = (begin + end) / 2
        enough = np.clip(middle * weights, low, high).sum() >= total
        begin, end = (begin, middle) if enough else (middle, end)
    return np.clip(end * weights, low, high)
