"""confusable_keywords: pairs that are swapped or labeled together more often than by chance, and no others."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from ray_app.audit.confusable_keywords import confusable

NAMES = ("핏", "사이즈", "배송")


def flags(rows: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labeled = np.random.default_rng(0).random((rows, 3)) < 0.3
    return labeled, np.zeros(labeled.shape, bool), np.zeros(labeled.shape, bool)


def test_swapped_keywords_are_reported_in_their_direction_with_fishers_p() -> None:
    labeled, extra, missing = flags()
    extra[:10, 0] = missing[:10, 1] = True
    extra[10:20, 2] = missing[20:30, 0] = True
    (pair,) = confusable(labeled, extra, missing, NAMES)
    assert (pair.kind, pair.first, pair.second, pair.count) == ("swapped", "핏", "사이즈", 10)
    assert pair.expected == pytest.approx(10 * 10 / 300)
    tested = 4  # (핏, 사이즈), (배송, 사이즈), (배송, 핏) and no other pair: 핏 with itself is none
    alone = fisher_exact([[10, 0], [0, 290]], "greater").pvalue
    assert alone < pair.p <= alone * tested


def test_keywords_labeled_together_are_reported_once() -> None:
    labeled, extra, missing = flags()
    labeled[:, 1] = labeled[:, 0]
    (pair,) = confusable(labeled, extra, missing, NAMES)
    assert (pair.kind, pair.first, pair.second, pair.count) == ("together", "핏", "사이즈", int(labeled[:, 0].sum()))


def test_chance_and_what_occurs_twice_are_not_reported() -> None:
    labeled, extra, missing = flags()
    assert confusable(labeled, extra, missing, NAMES) == []
    extra[:2, 0] = missing[:2, 1] = True
    assert confusable(labeled, extra, missing, NAMES) == []
    assert confusable(labeled[:0], extra[:0], missing[:0], NAMES) == []
