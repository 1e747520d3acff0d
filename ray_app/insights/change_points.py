"""When a share changed for good, in many series at once. In: hits and expected ones per period. Out: where, how sure.

A series is one keyword of one product (mall, category): its complaints per period, and how many were to be expected by
the reviews of that period and the season (`exposures`). Were nothing to change, the hits would fall on the periods in
proportion to what was expected: given their number, the hits after any date are binomial. Of all dates the one of the
largest likelihood ratio is named, and its probability is multiplied by the number of dates that were tried.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from ray_app.arrays import Doubles, Ints

SCREEN = 4.0  # log likelihood ratio below which no date of a series is worth an exact test
STEADY = 20.0  # hits that others must have before their season counts as one


@dataclass(frozen=True, kw_only=True)
class Changes:
    """[series] the first period after the change, the probability of so clear a change by chance (1: not tried), and
    whether there are more hits (1) or fewer (-1) after it; how many of the series were long enough to be tested."""

    at: Ints
    tails: Doubles
    sign: Ints
    tested: int


def exposures(trials: Doubles, others_hits: Doubles, others_trials: Doubles) -> Doubles:
    """[series, periods] hits to expect, up to a factor: trials times how the others' share moves.

    The others' share is drawn towards its own mean, the more the fewer hits they have: a shop of one product has no
    season to correct for. `others_*` are [periods] or [series, periods].
    """
    mean = (others_hits.sum(-1, keepdims=True) + 0.5) / (others_trials.sum(-1, keepdims=True) + 1.0)
    weight = STEADY / mean
    return np.asarray(trials * (others_hits + STEADY) / (others_trials + weight) / mean)


def dispersion(hits: Doubles, expected: Doubles) -> float:
    """How much more neighboring periods differ than chance alone would have it, at least 1.

    From differences of neighbors, which one lasting change hardly touches. hits, expected: [series, periods].
    """
    rate = hits.sum(1, keepdims=True) / np.maximum(expected.sum(1, keepdims=True), 1e-9)
    share = hits / np.maximum(expected, 1e-9)
    usable = (expected[:, 1:] * rate >= 1.0) & (expected[:, :-1] * rate >= 1.0)
    noise = rate * (1 / np.maximum(expected[:, 1:], 1e-9) + 1 / np.maximum(expected[:, :-1], 1e-9))
    terms = ((share[:, 1:] - share[:, :-1]) ** 2 / np.maximum(noise, 1e-12))[usable]
    return max(1.0, float(np.minimum(terms, 25.0).mean())) if len(terms) >= 8 else 1.0


def find_changes(hits: Doubles, expected: Doubles, spread: float) -> Changes:
    """The most likely change of every series; `spread` is their `dispersion`. hits, expected: [series, periods]."""
    series, periods = hits.shape
    tails, at, sign = np.ones(series), np.zeros(series, np.int64), np.ones(series, np.int64)
    if periods < 2 or not series:
        return Changes(at=at, tails=tails, sign=sign, tested=0)
    ratio = likelihood_ratio(hits, expected) / spread
    at = ratio.argmax(1).astype(np.int64) + 1
    tried = np.flatnonzero(ratio.max(1) > SCREEN)
    total = hits[tried].sum(1, keepdims=True)
    after = total - hits[tried].cumsum(1)[:, :-1]
    part = _part_after(expected[tried])
    more = special.betainc(after / spread, (total - after) / spread + 1, part)
    fewer = special.betaincc(after / spread + 1, np.maximum((total - after) / spread, 1e-12), part)
    two_sided = 2 * np.minimum(np.where(after > 0, more, 1.0), np.where(total > after, fewer, 1.0))
    chosen = np.take_along_axis(two_sided, at[tried, None] - 1, 1)[:, 0]
    tails[tried] = np.minimum(chosen * (periods - 1), 1.0)
    risen = np.take_along_axis(after - total * part, at[tried, None] - 1, 1)[:, 0] > 0
    sign[tried] = np.where(risen, 1, -1)
    return Changes(at=at, tails=tails, sign=sign, tested=series)


def likelihood_ratio(hits: Doubles, expected: Doubles) -> Doubles:
    """[series, periods - 1] log likelihood of another share from period t + 1 on, against one share throughout."""
    total = hits.sum(1, keepdims=True)
    after = total - hits.cumsum(1)[:, :-1]
    part = np.clip(_part_after(expected), 1e-12, 1 - 1e-12)
    before = total - after
    return np.asarray(
        special.xlogy(after, after / np.maximum(total * part, 1e-12))
        + special.xlogy(before, before / np.maximum(total * (1 - part), 1e-12))
    )


def _part_after(expected: Doubles) -> Doubles:
    """[series, periods - 1] the part of all expected hits that falls after each date."""
    total = np.maximum(expected.sum(1, keepdims=True), 1e-12)
    return np.asarray(np.clip(1 - expected.cumsum(1)[:, :-1] / total, 0.0, 1.0))


def find_level_shifts(hits: Doubles, trials: Doubles, per_year: float) -> Changes:
    """The same for series of so many trials that chance hardly moves them, while everything else does.

    Each series' shares are fitted by weighted least squares with a step at every date and, where 18 months are there,
    a wave of a year; how far the shares lie from that line is the error that the step is measured by.
    hits, trials: [series, periods].
    """
    series, periods = hits.shape
    found = [step(hits[i], trials[i], per_year) for i in range(series)]
    at, sign = (np.array([one[part] for one in found], np.int64) for part in (0, 2))
    tails = np.array([one[1] for one in found]) * max(1, periods - 1)
    tested = int((~np.isnan(tails)).sum())
    return Changes(at=at, tails=np.minimum(np.nan_to_num(tails, nan=1.0), 1.0), sign=sign, tested=tested)


def step(hits: Doubles, trials: Doubles, per_year: float, at: int | None = None) -> tuple[int, float, int]:
    """(period, two-sided probability, sign) of the clearest step of one series, or of the one `at` a period.

    The probability is NaN where the series is too short for the line to be fitted.
    """
    periods = len(hits)
    weight = np.sqrt(trials)
    share = hits / np.maximum(trials, 1e-9)
    line = [np.ones(periods)]
    if periods >= 1.5 * per_year:
        turn = 2 * np.pi * np.arange(periods) / per_year
        line += [np.sin(turn), np.cos(turn)]
    best, freedom = (periods // 2, 1.0, 1), int((trials > 0).sum()) - len(line) - 1
    if freedom < 3:
        return periods // 2, float("nan"), 1
    for t in range(2, periods - 1) if at is None else [at]:
        design = np.stack([*line, (np.arange(periods) >= t).astype(float)], 1) * weight[:, None]
        inverse = np.linalg.pinv(design.T @ design, hermitian=True)
        fitted = inverse @ design.T @ (share * weight)
        mean = hits.sum() / max(trials.sum(), 1e-9)
        error = ((share * weight - design @ fitted) ** 2).sum() / freedom
        error = max(error, mean * (1 - mean))  # no less than chance alone
        score = abs(fitted[-1]) / np.sqrt(max(error * inverse[-1, -1], 1e-300))
        tail = float(2 * special.stdtr(freedom, -score))
        if tail < best[1]:
            best = (t, tail, 1 if fitted[-1] > 0 else -1)
    return best
