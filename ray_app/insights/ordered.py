"""An ordered logit model of ratings: which of a few stars, by what a review says. In: a design. Out: effects in stars.

The proportional odds model (McCullagh 1980): logit P(rating <= j) = cut_j - x b, by Newton's method. It knows what a
linear model does not: ratings have a top and a bottom, and the second complaint cannot take stars that the first took.
Errors are clustered (Liang and Zeger 1986), those of effects by the delta method.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from ray_app.arrays import Doubles, Ints

STEPS, SMALL = 40, 1e-8  # of Newton's method; a step that changes nothing


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """[columns] the log odds of a better rating, what a column changes in stars where it is there, and its error."""

    log_odds: Doubles
    effect: Doubles
    error: Doubles


def fit(design: Doubles, rating: Doubles, cluster: Ints, effects: int) -> Ordered | None:
    """The model of [n] ratings by a [n, columns] design, with the effects of its first columns, which are 0 or 1.

    None where it cannot be fitted: fewer than two ratings, or some column that separates them.
    """
    stars, y = np.unique(rating, return_inverse=True)
    if len(stars) < 2:
        return None
    cuts = len(stars) - 1
    share = np.cumsum(np.bincount(y))[:-1] / len(y)
    theta = np.concatenate([special.logit(share), np.zeros(design.shape[1])])
    best = _likelihood(theta, design, y, cuts)
    for _ in range(STEPS):
        scores, information = _derivatives(theta, design, y, cuts)
        step = np.linalg.lstsq(information, scores.sum(0), rcond=None)[0]
        for _ in range(20):  # halved until it is better
            if (found := _likelihood(theta + step, design, y, cuts)) >= best:
                break
            step = step / 2
        if not found >= best:
            break
        theta, gained, best = theta + step, found - best, found
        if gained < SMALL * len(y):
            break
    scores, information = _derivatives(theta, design, y, cuts)
    inverse = np.linalg.pinv(information, hermitian=True)
    sums = np.stack([np.bincount(cluster, column) for column in scores.T], 1)
    clusters = max(2, int((np.bincount(cluster) > 0).sum()))
    covariance = inverse @ (sums.T @ sums) @ inverse * clusters / (clusters - 1)
    if not np.isfinite(theta).all() or np.abs(theta).max() > 30:
        return None
    found_effects = [_effect(theta, covariance, design, k, stars) for k in range(effects)]
    effect, error = np.array(found_effects).reshape(-1, 2).T
    return Ordered(log_odds=theta[cuts : cuts + effects], effect=effect, error=error)


def _ends(theta: Doubles, design: Doubles, y: Ints, cuts: int) -> tuple[Doubles, Doubles]:
    """([n], [n]) the cumulative probabilities at the upper and the lower end of each review's rating."""
    line = design @ theta[cuts:]
    bounds = np.concatenate([[-np.inf], theta[:cuts], [np.inf]])
    return special.expit(bounds[y + 1] - line), special.expit(bounds[y] - line)


def _likelihood(theta: Doubles, design: Doubles, y: Ints, cuts: int) -> float:
    upper, lower = _ends(theta, design, y, cuts)
    return float(np.log(np.maximum(upper - lower, 1e-300)).sum())


def _derivatives(theta: Doubles, design: Doubles, y: Ints, cuts: int) -> tuple[Doubles, Doubles]:
    """([n, parameters] the score of every review, [parameters, parameters] the negative Hessian)."""
    upper, lower = _ends(theta, design, y, cuts)
    p = np.maximum(upper - lower, 1e-12)
    above, below = upper * (1 - upper), lower * (1 - lower)  # densities
    at_upper, at_lower = (np.equal.outer(y - shift, np.arange(cuts)).astype(float) for shift in (0, 1))
    cut = at_upper * (above / p)[:, None] - at_lower * (below / p)[:, None]
    scores = np.concatenate([cut, design * (upper + lower - 1)[:, None]], 1)
    size = cuts + design.shape[1]
    information = np.zeros((size, size))
    information[cuts:, cuts:] = (design * (above + below)[:, None]).T @ design
    cross = -(at_upper * above[:, None] + at_lower * below[:, None]).T @ design
    information[:cuts, cuts:], information[cuts:, :cuts] = cross, cross.T
    high = (above / p) ** 2 - above * (1 - 2 * upper) / p
    low = (below / p) ** 2 + below * (1 - 2 * lower) / p
    information[np.arange(cuts), np.arange(cuts)] = at_upper.T @ high + at_lower.T @ low
    between = -(at_lower * (above * below / p**2)[:, None]).T @ at_upper
    information[:cuts, :cuts] += between + between.T
    return scores, information


def _effect(theta: Doubles, covariance: Doubles, design: Doubles, column: int, stars: Doubles) -> tuple[float, float]:
    """(Stars that the column changes where it is 1, on average; its standard error)."""
    cuts = len(stars) - 1
    mine = design[design[:, column] > 0]
    if not len(mine):
        return 0.0, 0.0
    gaps, line = np.diff(stars), mine @ theta[cuts:]
    with_it, without = (special.expit(theta[:cuts] - one[:, None]) for one in (line, line - theta[cuts + column]))
    slopes = [side * (1 - side) * gaps for side in (with_it, without)]
    gradient = np.zeros(len(theta))
    gradient[:cuts] = (slopes[1] - slopes[0]).mean(0)
    gradient[cuts:] = ((slopes[0] - slopes[1]).sum(1) @ mine) / len(mine)
    gradient[cuts + column] += slopes[1].sum(1).mean()
    effect = ((without - with_it) * gaps).sum(1).mean()
    return float(effect), max(0.0, float(gradient @ covariance @ gradient)) ** 0.5
