"""quotas: whole numbers that sum to the budget, near their shares, within their bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.active_learning.quotas import allocate, parse_mix, split_by_criterion
from ray_app.errors import UserError

sizes = st.lists(st.integers(0, 5_000), min_size=1, max_size=40)


@given(sizes, st.integers(0, 20_000))
def test_quotas_sum_to_the_budget_and_stay_within_one_of_their_share(strata: list[int], budget: int) -> None:
    quotas = allocate(budget, strata, np.zeros(len(strata)), strata)
    assert quotas.sum() == min(budget, sum(strata))
    share = np.asarray(strata) * (quotas.sum() / max(1, sum(strata)))
    assert (np.abs(quotas - share) < 1 + 1e-6).all()
    assert (quotas <= strata).all()


@given(st.data(), sizes, st.integers(0, 20_000))
def test_bounds_hold_and_what_they_leave_is_shared_by_weight(
    data: st.DataObject, strata: list[int], budget: int
) -> None:
    n = len(strata)
    least = np.array(data.draw(st.lists(st.integers(0, 50), min_size=n, max_size=n)))
    most = least + np.array(data.draw(st.lists(st.integers(0, 400), min_size=n, max_size=n)))
    quotas = allocate(budget, strata, least, most)
    can = np.where(np.asarray(strata) > 0, most, least)
    assert quotas.sum() == np.clip(budget, least.sum(), can.sum())
    assert ((quotas >= least) & (quotas <= can)).all()
    free = (quotas > least) & (quotas < can)
    if free.any():  # one scale for all that no bound holds, each within one of it
        weights = np.asarray(strata)[free]
        assert ((quotas[free] - 1) / weights).max() < ((quotas[free] + 1) / weights).min() + 1e-9


@pytest.mark.parametrize(
    ("budget", "weights", "most", "quotas"),
    [
        (10, [50, 30, 20], [99, 99, 99], [5, 3, 2]),
        (10, [1, 1, 1], [9, 9, 9], [4, 3, 3]),  # the first of equals
        (10, [50, 30, 20], [2, 99, 99], [2, 5, 3]),  # 8 left at 3 : 2
        (10, [50, 30, 20], [1, 1, 1], [1, 1, 1]),
        (3, [0, 0, 7], [5, 5, 7], [0, 0, 3]),
        (0, [4], [4], [0]),
    ],
)
def test_allocation_of_known_cases(budget: int, weights: list[int], most: list[int], quotas: list[int]) -> None:
    assert allocate(budget, weights, np.zeros(len(weights)), most).tolist() == quotas


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_mix_fills_every_stratum_and_keeps_its_shares_over_small_ones(quotas: list[int], weights: list[int]) -> None:
    shares = np.asarray(weights) / sum(weights)
    rows = split_by_criterion(np.array(quotas), shares, np.zeros(len(shares), np.int64))
    assert rows.sum(1).tolist() == quotas
    assert (np.abs(rows.sum(0) - shares * sum(quotas)) <= len(shares)).all()


def test_a_small_share_is_not_rounded_away_in_strata_of_one() -> None:
    rows = split_by_criterion(np.ones(100, np.int64), np.array([0.8, 0.2]), np.zeros(2, np.int64))
    assert rows.sum(0).tolist() == [80, 20]


def test_mix_is_read_in_its_order_and_sums_to_one() -> None:
    mix = parse_mix("rare=1, boundary=3,outlier=0", ("boundary", "rare", "outlier"))
    assert list(mix.items()) == [("rare", 0.25), ("boundary", 0.75)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boundry=1", "unknown criterion 'boundry'; did you mean 'boundary'"),
        ("boundary=half", "--mix boundary=half: write a share"),
        ("boundary=-1", "--mix boundary=-1"),
        ("boundary=nan", "write a share"),
        ("boundary", "--mix boundary: write a share"),
        ("boundary=1,boundary=2", "boundary is named twice"),
        ("rare=0", "one share above 0"),
        ("", "write NAME=SHARE"),
    ],
)
def test_mistake_in_a_mix_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_mix(text, ("boundary", "rare"))
