"""Ragged sequences against lists, by properties."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ray_app.engine.ragged import Sequences, concatenate, expand_ranges, offsets_of, split_by_budget

Rows = list[list[int]]
ROWS = st.lists(st.lists(st.integers(0, 3) | st.integers(0, 2**40), max_size=6), max_size=12)


def as_lists(sequences: Sequences) -> Rows:
    return [sequences.row(i).tolist() for i in range(len(sequences))]


@given(ROWS)
def test_rows_come_back_as_they_were_given(rows: Rows) -> None:
    sequences = Sequences.of(rows)
    assert as_lists(sequences) == rows
    assert sequences.lengths.tolist() == [len(row) for row in rows]
    assert len(sequences) == len(rows)


@given(ROWS, st.data())
def test_take_names_rows_in_any_order_and_many_times(rows: Rows, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=15) if rows else st.just([]))
    taken = Sequences.of(rows).take(np.array(places, np.int64))
    assert as_lists(taken) == [rows[i] for i in places]


@given(ROWS)
def test_unique_keeps_each_sequence_once_and_leads_back_to_every_row(rows: Rows) -> None:
    distinct, position = Sequences.of(rows).unique()
    assert sorted(as_lists(distinct)) == sorted({tuple(row): row for row in rows}.values())
    assert as_lists(distinct.take(position)) == rows


def test_unique_tells_apart_order_length_and_neighboring_rows() -> None:
    rows = [[1, 2], [2, 1], [1, 2, 0], [0, 1, 2], [1], [2], [], [0], [0, 0], [1, 2]]
    distinct, position = Sequences.of(rows).unique()
    assert len(distinct) == len(rows) - 1
    assert position[0] == position[-1]


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_concatenate_is_all_rows_in_order(parts: list[Rows]) -> None:
    together = concatenate([Sequences.of(part) for part in parts])
    assert as_lists(together) == [row for part in parts for row in part]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=10))
def test_spread_is_the_ranges_end_to_end(ranges: list[tuple[int, int]]) -> None:
    starts, lengths = np.array(ranges, np.int64).reshape(-1, 2).T
    assert expand_ranges(starts, lengths).tolist() == [i for start, n in ranges for i in range(start, start + n)]
    assert offsets_of(lengths).tolist() == [sum(n for _, n in ranges[:i]) for i in range(len(ranges) + 1)]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 20))
def test_runs_hold_every_row_in_order_within_the_budget(cost: list[int], budget: int) -> None:
    found = list(split_by_budget(np.array(cost, np.int64), budget))
    assert [row for start, stop in found for row in range(start, stop)] == list(range(len(cost)))
    for start, stop in found:
        assert stop == start + 1 or sum(cost[start:stop]) <= budget
        assert stop == len(cost) or sum(cost[start : stop + 1]) > budget
