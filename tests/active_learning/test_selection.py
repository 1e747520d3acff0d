"""selection: the best of every stratum of a stream, and a batch of exactly the budget."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app.active_learning.selection import (
    Candidates,
    Criterion,
    Floor,
    Selection,
    TopPerGroup,
    capacity,
    select,
    union,
)
from ray_app.data.near_duplicates import NearDuplicateFilter

RNG = np.random.default_rng(0)
LETTERS = np.array(list(string.ascii_lowercase))


def rows(count: int, strata: int = 1, criteria: int = 2, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    return Candidates(
        stratum=rng.integers(0, strata, count),
        tie=rng.permutation(count).astype(np.uint64),
        position=np.arange(count),
        values=rng.random((count, criteria)).round(1).astype(np.float32),
    )


def texts(count: int) -> list[str]:
    """All different: fifteen random letters each."""
    return ["".join(word) for word in np.random.default_rng(7).choice(LETTERS, (count, 15))]


def streamed(all_rows: Candidates, order: np.ndarray, size: int, keep: np.ndarray, content: np.ndarray) -> Candidates:
    top = TopPerGroup(keep, all_rows.values.shape[1], pending=8)
    for first in range(0, len(order), size):
        rows = all_rows.take(order[first : first + size])
        top.add(rows.stratum, rows.values[:, 0], content[order[first : first + size]], rows)
    return top.best()


@settings(max_examples=40)
@given(st.integers(0, 400), st.integers(1, 6), st.integers(1, 90), st.randoms(use_true_random=False))
def test_the_best_of_a_stream_are_those_of_a_sort_in_any_order(count: int, strata: int, size: int, random) -> None:  # type: ignore[no-untyped-def]
    all_rows, keep = rows(count, strata), np.arange(strata) * 3
    order = list(range(count))
    random.shuffle(order)
    best = streamed(all_rows, np.array(order, np.int64), size, keep, all_rows.tie)
    for s in range(strata):
        here = np.flatnonzero(all_rows.stratum == s)
        ranked = sorted(here, key=lambda i: (-all_rows.values[i, 0], all_rows.tie[i]))
        assert best.position[best.stratum == s].tolist() == ranked[: keep[s]]


def test_memory_of_the_best_follows_what_is_kept_not_what_streams_by() -> None:
    top = TopPerGroup(np.array([10]), 1)
    most = 0
    for seed in range(300):
        part = rows(5_000, criteria=1, seed=seed)
        top.add(part.stratum, part.values[:, 0], part.tie + np.uint64(seed * 5_000), part)
        most = max(most, sum(len(chunk.rows) for chunk in top.chunks))
    assert most < 5_000 + 2 * 65_536


def test_the_same_text_does_not_fill_a_stratum() -> None:
    all_rows = rows(100, criteria=1)
    values = np.where(np.arange(100) < 90, 1.0, 0.5).astype(np.float32)[:, None]  # 90 times the same, on top
    content = np.where(np.arange(100) < 90, 0, np.arange(100)).astype(np.uint64)
    again = Candidates(stratum=all_rows.stratum, tie=all_rows.tie, position=all_rows.position, values=values)
    best = streamed(again, np.arange(100), 7, np.array([5]), content)
    assert (best.position < 90).tolist() == [True, False, False, False, False]


def test_what_has_no_value_is_no_candidate() -> None:
    all_rows = rows(4, criteria=1)
    empty = Candidates(
        stratum=all_rows.stratum,
        tie=all_rows.tie,
        position=all_rows.position,
        values=np.full((4, 1), np.nan, np.float32),
    )
    assert len(streamed(empty, np.arange(4), 2, np.array([3]), all_rows.tie)) == 0


def chosen(
    budget: int,
    candidates: Candidates,
    sizes: np.ndarray,
    words: list[str] | None = None,
    shares: str = "a",
    **more: object,
) -> Selection:
    criteria = [Criterion(name, column, 1 / len(shares)) for column, name in enumerate(shares)]
    given_texts = words if words is not None else texts(len(candidates))
    return select(
        budget,
        candidates,
        given_texts,
        criteria,
        sizes,
        more.get("floors", []),  # type: ignore[arg-type]
        more.get("distinct", NearDuplicateFilter(0.8)),  # type: ignore[arg-type]
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 150), st.integers(1, 300), st.integers(1, 12))
def test_a_batch_is_exactly_the_budget_in_the_strata_s_proportions(budget: int, count: int, strata: int) -> None:
    candidates = rows(count, strata)
    sizes = np.bincount(candidates.stratum, minlength=strata)
    selection = chosen(budget, candidates, sizes, shares="ab")
    assert len(selection.rows) == len(set(selection.rows.tolist())) == min(budget, count)
    drawn = np.bincount(candidates.stratum[selection.rows], minlength=strata)
    assert (np.abs(drawn - sizes * (len(selection.rows) / count)) < 1 + 1e-6).all()


def test_each_criterion_takes_its_share_and_its_best() -> None:
    candidates = rows(500)
    selection = chosen(20, candidates, np.array([500]), shares="ab")
    assert selection.chosen_by == ["a"] * 10 + ["b"] * 10
    by_a = sorted(range(500), key=lambda i: (-candidates.values[i, 0], candidates.tie[i]))[:10]
    assert selection.rows[:10].tolist() == by_a
    rest = sorted(set(range(500)) - set(by_a), key=lambda i: (-candidates.values[i, 1], candidates.tie[i]))[:10]
    assert selection.rows[10:].tolist() == rest


def test_near_duplicates_are_passed_over_and_other_strata_fill_up() -> None:
    candidates = rows(60, strata=2)
    words = texts(60)
    first = np.flatnonzero(candidates.stratum == 0)
    for i in first:
        words[i] = "배송이 정말 빨라요" + "!" * (i % 3)
    selection = chosen(20, candidates, np.array([30, 30]), words)
    assert np.bincount(candidates.stratum[selection.rows], minlength=2).tolist() == [1, 19]
    assert selection.duplicates == len(first) - 1


def test_what_is_labeled_is_not_selected_again() -> None:
    distinct = NearDuplicateFilter(0.8)
    words = texts(10)
    for text in words[:6]:
        distinct.add(text + " ")
    selection = chosen(10, rows(10), np.array([10]), words, distinct=distinct)
    assert sorted(selection.rows.tolist()) == [6, 7, 8, 9]


def test_floors_come_first_count_what_another_floor_chose_and_stay_within_the_budget() -> None:
    candidates = rows(300, strata=3)
    sizes = np.bincount(candidates.stratum)
    floors = [
        Floor("floor:길이", [5, 6, 7, 8, 9], 3),
        Floor("floor:핏", [7, 6, 30, 31], 3),
        Floor("floor:색상", [44], 2),
    ]
    selection = chosen(30, candidates, sizes, floors=floors)
    assert len(selection.rows) == 30
    assert selection.rows[:5].tolist() == [5, 6, 7, 30, 44]
    assert selection.chosen_by[:5] == ["floor:길이"] * 3 + ["floor:핏", "floor:색상"]
    drawn = np.bincount(candidates.stratum[selection.rows])
    assert (np.abs(drawn - sizes / 10) < 1 + 1e-6).all()


@pytest.mark.parametrize("budget", [0, 3])
def test_nothing_to_choose_from_is_an_empty_batch(budget: int) -> None:
    selection = chosen(budget, rows(0, strata=1), np.array([0]))
    assert (len(selection.rows), selection.chosen_by) == (0, [])


def test_rows_of_several_criteria_are_joined_once_in_an_order_of_their_own() -> None:
    all_rows = rows(50)
    one, other = all_rows.take(np.arange(30)), all_rows.take(np.arange(49, 10, -1))
    assert union([one, other]).position.tolist() == union([other, one]).position.tolist()
    assert sorted(union([one, other]).position.tolist()) == list(range(50))


def test_capacity_is_a_few_times_the_budget() -> None:
    assert capacity(np.array([0, 100])).tolist() == [8, 208]
