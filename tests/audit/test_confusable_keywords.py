"""confusions: pairs that are swapped or labelled together more than chance, and none where there is no such thing."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from ray_app.audit.confusable_keywords import confusable

NAMES = ("핏", "사이즈", "배송")


def flags(rows: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    named = np.random.default_rng(0).random((rows, 3)) < 0.3
    return named, np.zeros(named.shape, bool), np.zeros(named.shape, bool)


def test_swapped_keywords_are_told_in_their_direction_with_fishers_p() -> None:
    named, extra, missing = flags()
    extra[:10, 0] = missing[:10, 1] = True
    extra[10:20, 2] = missing[20:30, 0] = True
    (pair,) = confusable(named, extra, missing, NAMES)
    assert (pair.kind, pair.first, pair.second, pair.seen) == ("swapped", "핏", "사이즈", 10)
    assert pair.expected == pytest.approx(10 * 10 / 300)
    tested = 4  # (핏, 사이즈), (배송, 사이즈), (배송, 핏) and no other pair: 핏 with itself is none
    alone = fisher_exact([[10, 0], [0, 290]], "greater").pvalue
    assert alone < pair.p <= alone * tested


def test_keywords_labelled_together_are_told_once() -> None:
    named, extra, missing = flags()
    named[:, 1] = named[:, 0]
    (pair,) = confusable(named, extra, missing, NAMES)
    assert (pair.kind, pair.first, pair.second, pair.seen) == ("together", "핏", "사이즈", int(named[:, 0].sum()))


def test_chance_and_what_was_seen_twice_are_not_told() -> None:
    named, extra, missing = flags()
    assert confusable(named, extra, missing, NAMES) == []
    extra[:2, 0] = missing[:2, 1] = True
    assert confusable(named, extra, missing, NAMES) == []
    assert confusable(named[:0], extra[:0], missing[:0], NAMES) == []
