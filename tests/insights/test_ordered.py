"""The ordered model of ratings: its parameters and effects against a simulation whose truth is known."""

import numpy as np
import pytest
from scipy import special

from ray_app.insights.ordered import fit

CUTS, SLOPES = np.array([-3.0, -2.0, -1.0, 0.5]), np.array([-1.5, -0.7, 0.4])


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    design = (rng.random((count, 3)) < [0.1, 0.2, 0.4]).astype(float)
    uniform = rng.random(count)
    return design, 1.0 + (uniform[:, None] > special.expit(CUTS - (design @ SLOPES)[:, None])).sum(1)


def truth(design: np.ndarray, column: int) -> float:
    """Stars that the column changes where it is there."""
    line = design[design[:, column] > 0] @ SLOPES
    with_it, without = (special.expit(CUTS - one[:, None]).sum(1) for one in (line, line - SLOPES[column]))
    return float((without - with_it).mean())


def test_log_odds_and_effects_are_those_that_were_drawn() -> None:
    inside = 0
    for seed in range(20):
        design, rating = drawn(3_000, seed)
        found = fit(design, rating, np.arange(3_000), 3)
        assert found is not None
        assert found.log_odds == pytest.approx(SLOPES, abs=0.35)
        true = np.array([truth(design, column) for column in range(3)])
        inside += int((np.abs(found.effect - true) <= 1.96 * found.error).sum())
    assert 52 <= inside <= 60  # of 60 intervals of 95%


def test_reviews_of_a_cluster_that_are_alike_widen_the_errors() -> None:
    design, rating = drawn(1_000, 0)
    alone = fit(design, rating, np.arange(1_000), 3)
    twins = fit(np.tile(design, (4, 1)), np.tile(rating, 4), np.tile(np.arange(1_000), 4), 3)
    assert alone is not None
    assert twins is not None
    assert twins.effect == pytest.approx(alone.effect, abs=1e-6)
    assert twins.error == pytest.approx(alone.error, rel=0.01)


def test_what_cannot_be_fitted_is_none() -> None:
    design = np.repeat([[0.0], [1.0]], 50, 0)
    assert fit(design, np.full(100, 5.0), np.arange(100), 1) is None
    assert fit(design, np.repeat([5.0, 1.0], 50), np.arange(100), 1) is None  # separated: no finite log odds
