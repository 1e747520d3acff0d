"""Metrics by hand, against scikit-learn, and by their properties."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from ray_app.evaluation.metrics import (
    KNOWN,
    PRIOR,
    best_micro_f1,
    best_threshold,
    f1_interval,
    hit,
    keyword_report,
    mean_or_none,
    micro_f1,
    score_report,
    tune_thresholds,
    tuple_report,
)

TRUE = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]], bool)
PREDICTED = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0]], bool)
ROWS = st.lists(st.tuples(st.booleans(), st.integers(6, 94)), min_size=1, max_size=12)


def test_keywords_are_reported_one_by_one() -> None:
    report = keyword_report(TRUE, PREDICTED, ["만족도", "배송", "핏"], {"배송": 8})["per_keyword"]
    assert report["배송"] == {
        "precision": 0.3333,
        "recall": 0.5,
        "f1": 0.4,
        "support": 2,
        "support_train": 8,
        "share": 0.25,
        "f1_interval": [0.0, 0.8571],
    }
    assert (report["만족도"]["f1"], report["만족도"]["share"]) == (1.0, None)
    assert (report["핏"]["precision"], report["핏"]["recall"], report["핏"]["f1"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted", "samples"])
def test_averages_equal_scikit_learn(average: str) -> None:
    report: dict[str, Any] = {**keyword_report(TRUE, PREDICTED, ["a", "b", "c"], {})}
    found = report[average]
    for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        expected = function(TRUE, PREDICTED, average=average, zero_division=0)
        assert found[name] == pytest.approx(expected, abs=5e-5)
    assert found["support"] == 7


def test_varying_keywords_leave_out_the_one_that_every_review_has() -> None:
    found = keyword_report(TRUE, PREDICTED, ["a", "b", "c"], {})["micro_varying"]
    assert found == {"precision": 0.3333, "recall": 0.3333, "f1": 0.3333, "support": 3}
    always = keyword_report(TRUE[:, :1], PREDICTED[:, :1], ["a"], {})
    assert always["micro_varying"] == {"precision": None, "recall": None, "f1": None, "support": 0}


def test_a_single_keyword_is_judged_on_its_positives() -> None:
    report: dict[str, Any] = {**keyword_report(TRUE[:, 1:2], PREDICTED[:, 1:2], ["배송"], {})}
    expected = {"precision": 0.3333, "recall": 0.5, "f1": 0.4}
    assert {name: report["per_keyword"]["배송"][name] for name in expected} == expected
    for average in ("micro", "macro", "weighted", "micro_varying"):
        assert report[average] == {**expected, "support": 2}


def test_scores_are_judged_on_the_whole_scale() -> None:
    report = score_report([2, 2, -1, 0], [2, 1, -1, -2], [-2, -1, 0, 1, 2])
    assert report["accuracy"] == 0.5
    assert report["mae"] == 0.75
    assert report["macro_f1"] == pytest.approx((0 + 1 + 0 + 0 + 2 / 3) / 5, abs=5e-5)
    assert report["support"] == 4
    expected = np.zeros((5, 5), int)
    expected[4, 4] = expected[4, 3] = expected[1, 1] = expected[2, 0] = 1
    assert report["confusion"] == expected.tolist()


def test_no_scores_give_no_figures() -> None:
    assert score_report([], [], [0, 1]) == {
        "accuracy": None,
        "macro_f1": None,
        "mae": None,
        "confusion": [],
        "support": 0,
    }


def test_a_tuple_is_right_where_keyword_and_score_are() -> None:
    true = [{"배송": -1, "핏": 2}, {"가격": 1}, {}]
    predicted = [{"배송": -2, "핏": 2, "소재": 0}, {"가격": -1}, {"핏": 1}]
    report = tuple_report(true, predicted)
    assert report["micro"] == {"precision": 0.2, "recall": 0.3333, "f1": 0.25, "support": 3}
    assert report["micro_sign"] == {"precision": 0.4, "recall": 0.6667, "f1": 0.5, "support": 3}
    assert tuple_report([], [])["micro"]["f1"] == 0


@given(ROWS.filter(lambda rows: any(positive for positive, _ in rows)))
def test_the_best_threshold_reaches_the_best_f1_of_all(rows: list[tuple[bool, int]]) -> None:
    true = np.array([positive for positive, _ in rows])
    probability = np.array([p / 100 for _, p in rows], np.float32)
    best = max(micro_f1(true, probability >= p) for p in probability)
    assert micro_f1(true, probability >= best_threshold(true, probability)) == pytest.approx(best)


def test_the_best_threshold_lies_in_the_middle_of_the_gap_and_off_the_ends() -> None:
    true = np.array([True, True, False, False])
    assert best_threshold(true, np.array([0.9, 0.6, 0.4, 0.1], np.float32)) == pytest.approx(0.5)
    assert best_threshold(true, np.array([0.99, 0.98, 0.97, 0.1], np.float32)) == pytest.approx(0.95)
    assert best_threshold(true[:2], np.array([0.05, 0.01], np.float32)) == pytest.approx(0.05)


def test_a_rare_keywords_threshold_is_drawn_towards_the_common_one() -> None:
    true = np.zeros((100, 4), bool)
    true[:, 0] = True
    true[:40, 1] = True
    true[:4, 2] = True
    probability = np.full((100, 4), 0.1, np.float32)
    probability[:40, 1] = 0.9
    probability[:4, 2] = 0.3
    probability[:, 0] = 0.99
    common = best_threshold(true[:, 1:].ravel(), probability[:, 1:].ravel())
    found = tune_thresholds(true, probability)
    assert common == pytest.approx(0.2)
    assert found[1] == pytest.approx((40 * 0.5 + PRIOR * common) / (40 + PRIOR), abs=1e-4)
    assert found[2] == pytest.approx(0.2, abs=1e-4)
    assert found[3] == pytest.approx(common, abs=1e-4)
    assert found[0] <= 0.5
    assert found.dtype == np.float32


def test_few_labels_hardly_move_the_thresholds_that_a_bundle_had() -> None:
    true = np.array([[1, 0], [0, 1], [0, 0], [0, 0]], bool)
    probability = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.1], [0.1, 0.1]])  # the best is 0.5
    known = [0.2, 0.8]
    common = (2 * 0.5 + KNOWN * np.array(known)) / (2 + KNOWN)
    expected = (0.5 + PRIOR * common) / (1 + PRIOR)
    assert tune_thresholds(true, probability, known) == pytest.approx(expected, abs=1e-3)
    many = tune_thresholds(np.tile(true, (500, 1)), np.tile(probability, (500, 1)), known)
    assert many == pytest.approx([0.5, 0.5], abs=0.02)


def test_micro_f1_counts_over_all_cells() -> None:
    assert micro_f1(TRUE, PREDICTED) == pytest.approx(f1_score(TRUE, PREDICTED, average="micro"))
    assert micro_f1(~TRUE & TRUE, ~TRUE & TRUE) == 0


def test_best_micro_f1_is_over_varying_keywords_at_the_best_common_threshold() -> None:
    probability = np.array([[0.1, 0.8, 0.2], [0.1, 0.3, 0.2], [0.1, 0.7, 0.6], [0.1, 0.1, 0.65]], np.float32)
    assert best_micro_f1(TRUE, probability) == pytest.approx(2 * 3 / (3 + 4))
    assert best_micro_f1(TRUE[:, :1], probability[:, :1]) == 1


@pytest.mark.parametrize(
    ("start", "end", "acceptable", "expected"),
    [
        (0, 2, ["배송"], True),
        (0, 4, ["송은"], True),
        (4, 6, ["배송"], False),
        (10, 12, ["배송"], True),
        (4, 9, ["없는말", "늦어요"], True),
        (4, 9, [], False),
        (4, 9, [""], False),
        (3, 4, ["배송은"], False),
    ],
)
def test_a_highlight_hits_where_it_overlaps_an_acceptable_word(
    start: int, end: int, acceptable: list[str], expected: bool
) -> None:
    assert hit("배송은 늦어요. 또 배송!", (start, end), acceptable) is expected


def test_a_share_is_the_mean_or_nothing() -> None:
    assert mean_or_none([True, False, False]) == 0.3333
    assert mean_or_none([]) is None


def test_an_f1s_interval_is_wide_for_few_rows_and_holds_the_f1() -> None:
    true = np.zeros((1000, 2), bool)
    true[:300, 0] = true[:10, 1] = True
    predicted = true.copy()
    predicted[:60, 0] = predicted[:2, 1] = False
    low, high = f1_interval(true, predicted, 1000).T
    assert (low < 2 * 0.8 / 1.8).all()
    assert (high > 2 * 0.8 / 1.8).all()
    assert high[1] - low[1] > 3 * (high[0] - low[0])
    smaller = f1_interval(true, predicted, 100)
    assert smaller[0, 1] - smaller[0, 0] > 2 * (high[0] - low[0])
    assert np.isnan(f1_interval(true[:0], predicted[:0], 100)).all()
