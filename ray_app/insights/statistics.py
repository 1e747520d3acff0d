"""Shares of small and large groups, compared fairly. In: counts per group. Out: intervals, tail probabilities.

The groups (products, malls) of one keyword are taken as draws from one Beta distribution, whose mean and spread come
from the counts by moments (Kleinman 1973, "Proportions with extraneous variance"). A group's share is then drawn
towards the others', the more the fewer reviews it has, and a group stands out if the others' spread does not explain
its count.
"""

import numpy as np
from scipy import special

from ray_app.arrays import Doubles, Flags

STRONGEST = 1e7  # a + b of a prior without any spread
SCREEN = 1.8  # standard deviations: groups closer to the others get no tail probability, and so are never flagged
FEW, FAR = 20, 5.0  # groups that a bulk takes, and how far, in standard deviations, belongs to it
MEDIAN = 0.4549  # of the square of a standard normal variable
CHUNK = 200_000  # terms of a tail that are summed; later ones are far below the first


def beta_priors(hits: Doubles, trials: Doubles) -> tuple[Doubles, Doubles]:
    """([groups] a, [groups] b) of the Beta distribution of every group's *other* groups: none is judged by itself.

    Groups far from the bulk are left out, for a few bad ones would hide one another. The spread is taken one standard
    error larger than estimated, and no smaller than that error, so that neither a handful of groups nor groups that
    happen to be alike claim certainty.
    """
    used = bulk(hits, trials).astype(float)
    n, x, size = np.maximum(trials, 1e-9), hits * used, trials * used
    count, total, found = used.sum() - used, size.sum() - size, x.sum() - x
    rest = np.maximum(total, 1e-9)
    mean = (found + 0.5) / (total + 1.0)
    scatter = (x * hits / n).sum() - x * hits / n - found**2 / rest
    free = np.maximum(count - 1.0, 0.0)
    room = np.maximum(rest - ((size**2).sum() - size**2) / rest - free, 1e-9)
    spread = np.maximum((scatter / (mean * (1 - mean)) - free) / room, 0) + np.sqrt(2 * np.maximum(free, 1.0)) / room
    strength = np.clip(1 / np.clip(spread, 1e-9, 0.9) - 1, 0.1, STRONGEST)
    return mean * strength, (1 - mean) * strength


def bulk(hits: Doubles, trials: Doubles) -> Flags:
    """[groups] those with trials that are no outliers: within FAR standard deviations of the mean, for the spread at
    which half of the larger groups are as near as they should be. All of them where there are few."""
    some = trials > 0
    mean = hits.sum() / max(trials.sum(), 1e-9)
    large = trials * mean * (1 - mean) >= 3.0
    if large.sum() < FEW or not 0 < mean < 1:
        return some
    share = hits / np.maximum(trials, 1e-9)
    mean = float(np.median(share[large]))
    distance = (share - mean) ** 2 / max(mean * (1 - mean), 1e-9)
    low, high = 0.0, 0.5
    for _ in range(40):  # the spread by bisection
        spread = (low + high) / 2
        near = np.median(distance[large] / (1 / trials[large] * (1 - spread) + spread))
        low, high = (spread, high) if near > MEDIAN else (low, spread)
    scaled = distance / ((1 - high) / np.maximum(trials, 1e-9) + high)
    return some & (scaled <= FAR**2)


def credible(hits: Doubles, trials: Doubles, a: Doubles, b: Doubles, level: float = 0.95) -> tuple[Doubles, ...]:
    """(mean, low, high) of the posterior of each share, given its prior: a credible interval of `level`."""
    after, against = a + hits, b + trials - hits
    low, high = (special.betaincinv(after, against, tail) for tail in ((1 - level) / 2, (1 + level) / 2))
    return after / (after + against), np.asarray(low), np.asarray(high)


def wilson(hits: Doubles, trials: Doubles, z: float = 1.96) -> tuple[Doubles, Doubles]:
    """(low, high): Wilson's score interval (1927) of each share; 0 and 1 without trials."""
    n = np.maximum(trials, 1e-9)
    share, spread = hits / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * np.sqrt(np.maximum(share * (1 - share) / n + spread / (4 * n), 0))
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def upper_tails(hits: Doubles, trials: Doubles, a: Doubles, b: Doubles) -> Doubles:
    """[groups] the probability of at least so many hits where the share is drawn from Beta(a, b).

    1.0 where the count is no more than SCREEN standard deviations above its mean.
    """
    share = a / (a + b)
    deviation = np.sqrt(trials * share * (1 - share) * (a + b + trials) / (a + b + 1))
    tails = np.ones(len(hits))
    for i in np.flatnonzero(hits > trials * share + SCREEN * deviation):
        k = np.arange(hits[i], min(trials[i], hits[i] + CHUNK) + 1)
        terms = (
            special.gammaln(trials[i] + 1)
            - special.gammaln(k + 1)
            - special.gammaln(trials[i] - k + 1)
            + special.betaln(k + a[i], trials[i] - k + b[i])
            - special.betaln(a[i], b[i])
        )
        top = terms.max()
        tails[i] = min(1.0, float(np.exp(top) * np.exp(terms - top).sum()))
    return tails


def false_discovery(tails: Doubles) -> Doubles:
    """[tests] q: flagging all tests with q <= 0.05 makes at most 5% of what is flagged false (Benjamini and Hochberg
    1995)."""
    count = len(tails)
    if not count:
        return tails
    order = np.argsort(-tails)
    ranked = tails[order] * count / np.arange(count, 0, -1)
    q = np.empty(count)
    q[order] = np.minimum(np.minimum.accumulate(ranked), 1.0)
    return q


def stability(before: Doubles, now: Doubles) -> float:
    """PSI, the population stability index, of two histograms: below 0.1 little has moved, above 0.25 much has."""
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())
