"""Changes in many series: where, how sure, and what is none."""

import numpy as np

from ray_app.insights import changes
from ray_app.insights.change_points import dispersion, exposures, find_changes, find_level_shifts, step
from ray_app.insights.statistics import false_discovery


def series(
    count: int, seed: int = 0, periods: int = 24, trials: int = 60, share: float = 0.08
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = rng.poisson(trials, (count, periods)).astype(float)
    return rng.binomial(n.astype(int), share).astype(float), n


def test_a_planted_change_is_found_where_it_is() -> None:
    hits, trials = series(200)
    rng = np.random.default_rng(1)
    hits[3, 15:] = rng.binomial(trials[3, 15:].astype(int), 0.3)
    found = find_changes(hits, trials, dispersion(hits, trials))
    q = false_discovery(found.tails)
    assert q[3] < 1e-6
    assert abs(int(found.at[3]) - 15) <= 1
    assert (np.delete(q, 3) > 0.01).all()


def test_without_changes_nothing_is_found_beyond_the_stated_rate() -> None:
    found = 0
    for seed in range(10):
        hits, trials = series(1_000, seed)
        found += int((false_discovery(find_changes(hits, trials, 1.0).tails) <= 0.01).sum())
    assert found <= 1


def test_a_change_of_everyone_is_no_change_of_a_product() -> None:
    rng = np.random.default_rng(2)
    n = np.full((300, 24), 80.0)
    share = np.where(np.arange(24) < 12, 0.05, 0.15)
    hits = rng.binomial(80, share, (300, 24)).astype(float)
    others, reviews = hits.sum(0) - hits, n.sum(0) - n
    expected = exposures(n, others, reviews)
    q = false_discovery(find_changes(hits, expected, dispersion(hits, expected)).tails)
    assert (q > 0.01).all()
    assert (false_discovery(find_changes(hits, n, 1.0).tails) < 0.01).sum() > 100


def test_one_product_alone_has_no_season_taken_off() -> None:
    n = np.full((1, 12), 50.0)
    assert np.allclose(exposures(n, np.zeros((1, 12)), np.zeros((1, 12))), n)


def test_noise_beyond_chance_is_allowed_for() -> None:
    rng = np.random.default_rng(3)
    n = np.full((50, 24), 2_000.0)
    shares = np.clip(rng.normal(0.1, 0.03, (50, 24)), 0.01, 1)
    hits = rng.binomial(2_000, shares).astype(float)
    spread = dispersion(hits, n)
    assert spread > 5
    assert (false_discovery(find_changes(hits, n, spread).tails) <= 0.01).sum() <= 1


def test_a_season_of_the_whole_catalog_is_no_change_and_a_step_is_one() -> None:
    rng = np.random.default_rng(4)
    n = np.full((2, 24), 40_000.0)
    wave = 0.05 * (1 + 0.25 * np.sin(2 * np.pi * np.arange(24) / 12))
    stepped = wave + 0.03 * (np.arange(24) >= 14)
    hits = rng.binomial(40_000, np.stack([wave, stepped])).astype(float)
    found = find_level_shifts(hits, n, 12.0)
    assert found.tails[0] > 0.05
    assert found.tails[1] < 1e-6
    assert found.at[1] == 14


def test_a_change_says_which_way_it_goes() -> None:
    n = np.full((2, 24), 500.0)
    shares = np.where(np.arange(24) < 12, 0.05, 0.2)
    hits = n * np.stack([shares, shares[::-1]])
    assert find_changes(hits, n, 1.0).sign.tolist() == [1, -1]
    assert find_level_shifts(hits, n, 12.0).sign.tolist() == [1, -1]


def test_a_series_too_short_for_a_season_keeps_its_change() -> None:
    hits, n = np.array([[5.0, 5, 60, 60]]), np.full((1, 4), 100.0)
    found = find_changes(hits, n, 1.0)
    assert found.tails[0] < changes.SURE
    before = found.tails[0]
    changes._keep_lasting(found, hits, n, 12.0)
    assert found.tails[0] == before


def test_short_and_empty_series_say_nothing() -> None:
    assert find_changes(np.zeros((3, 1)), np.ones((3, 1)), 1.0).tails.tolist() == [1.0] * 3
    assert find_changes(np.zeros((2, 6)), np.zeros((2, 6)), 1.0).tails.tolist() == [1.0] * 2
    assert step(np.ones(4), np.full(4, 10.0), 12.0)[1] != 1.0
    assert find_level_shifts(np.ones((1, 4)), np.full((1, 4), 10.0), 12.0).tails.tolist() == [1.0]
    assert find_level_shifts(np.ones((1, 4)), np.full((1, 4), 10.0), 12.0).tested == 0
