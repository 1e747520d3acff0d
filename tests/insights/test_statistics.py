"""Shares compared fairly: priors, intervals, tails, corrections."""

import numpy as np
import pytest
from scipy import stats

from ray_app.insights.statistics import beta_priors, bulk, credible, false_discovery, stability, upper_tails, wilson


def drawn(groups: int, mean: float, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shares = rng.beta(mean * strength, (1 - mean) * strength, groups)
    trials = rng.integers(20, 400, groups).astype(float)
    return shares, rng.binomial(trials.astype(int), shares).astype(float), trials


def test_a_prior_has_the_mean_and_spread_of_the_groups() -> None:
    _, hits, trials = drawn(3_000, 0.2, 60.0)
    a, b = beta_priors(hits, trials)
    assert np.allclose(a / (a + b), 0.2, atol=0.01)
    assert 45 < np.median(a + b) < 65


def test_credible_intervals_hold_the_true_shares() -> None:
    shares, hits, trials = drawn(3_000, 0.1, 80.0, seed=1)
    _, low, high = credible(hits, trials, *beta_priors(hits, trials))
    assert 0.93 < ((low <= shares) & (shares <= high)).mean() < 0.985


def test_a_group_of_three_reviews_is_drawn_to_the_others() -> None:
    hits, trials = np.array([3.0, *[40.0] * 30]), np.array([3.0, *[100.0] * 30])
    mean, low, high = credible(hits, trials, *beta_priors(hits, trials))
    assert mean[0] < 0.6 < high[0] + 0.2
    assert low[0] < mean[0] < high[0]


def test_bad_groups_do_not_hide_one_another() -> None:
    """Many of one keyword are bad: their own spread may not make them usual."""
    _, hits, trials = drawn(300, 0.05, 250.0)
    hits[:8], trials[:8] = 900.0, 4_000.0
    assert not bulk(hits, trials)[:8].any()
    a, b = beta_priors(hits, trials)
    q = false_discovery(upper_tails(hits, trials, a, b))
    assert (q[:8] < 0.001).all()
    assert (q[8:] > 0.01).all()


def test_few_groups_claim_no_certainty() -> None:
    a, b = beta_priors(np.array([10.0, 12.0, 9.0]), np.array([100.0, 100.0, 100.0]))
    assert (a + b < 250).all()


def test_groups_that_happen_to_be_alike_claim_no_certainty() -> None:
    """Less spread than chance would have, as moments then estimate below 0."""
    hits, trials = np.full(40, 65.0), np.full(40, 100.0)
    _, low, high = credible(hits, trials, *beta_priors(hits, trials))
    assert (high - low > 0.03).all()


def test_tails_are_those_of_the_beta_binomial() -> None:
    hits, trials = np.array([30.0, 5.0]), np.array([100.0, 100.0])
    a, b = np.full(2, 4.0), np.full(2, 76.0)
    tails = upper_tails(hits, trials, a, b)
    assert tails[0] == pytest.approx(stats.betabinom.sf(29, 100, 4, 76), rel=1e-6)
    assert tails[1] == 1.0  # no more than usual: never flagged


def test_q_is_benjamini_and_hochbergs() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.8])
    assert false_discovery(p) == pytest.approx(stats.false_discovery_control(p))
    assert len(false_discovery(np.zeros(0))) == 0


def test_without_differences_at_most_the_stated_part_is_flagged() -> None:
    flagged = 0
    for seed in range(20):
        _, hits, trials = drawn(500, 0.05, 150.0, seed)
        flagged += bool((false_discovery(upper_tails(hits, trials, *beta_priors(hits, trials))) <= 0.05).any())
    assert flagged <= 4  # of 20 tables, at 5%


def test_wilson_and_psi() -> None:
    low, high = wilson(np.array([0.0, 5.0, 10.0]), np.array([10.0, 10.0, 10.0]))
    assert low == pytest.approx([0, 0.2366, 0.7225], abs=1e-3)
    assert high == pytest.approx([0.2775, 0.7634, 1.0], abs=1e-3)
    same, moved = np.array([50.0, 30, 20]), np.array([20.0, 30, 50])
    assert stability(same, same * 10) < 0.001
    assert stability(same, moved) > 0.25
