"""Batches hold every row once within their budget, and padding is masked."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ray_app.engine.batching import batches, padded
from ray_app.engine.ragged import Sequences


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 120))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    found = [rows.tolist() for rows in batches(np.array(lengths, np.int64), budget)]
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    for rows in found:
        assert len(rows) == 1 or len(rows) * max(lengths[i] for i in rows) <= budget


def test_batches_are_full_and_of_similar_length() -> None:
    lengths = np.array([9, 1, 10, 2, 10, 1], np.int64)
    assert [rows.tolist() for rows in batches(lengths, 30)] == [[1, 5, 3], [0, 2, 4]]


def test_padding_is_masked() -> None:
    ids, mask = padded(Sequences.of([[5, 6, 7], [8]]), pad_id=1)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
