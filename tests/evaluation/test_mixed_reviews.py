"""Figures that tell a model that reads the keyword from one that copies the review's overall feeling."""

import numpy as np
import pyarrow as pa
import pytest

from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import load
from ray_app.evaluation.mixed_reviews import labeled_pairs, mixed_report, warning

TAXONOMY = load()


def table(*rows: dict[str, int]) -> pa.Table:
    full = [
        {
            "review_id": str(i),
            "text": "리뷰",
            "labels": [{"keyword": k, "score": s, "highlights": []} for k, s in row.items()],
            "split": "test",
        }
        for i, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, LABELED)


MIXED = {"만족도": 1, "디자인": 2, "배송": -1}
PLAIN = {"만족도": 2, "색상": 1, "가격": 0}


def test_a_review_is_mixed_where_keywords_besides_the_overall_one_disagree() -> None:
    pairs = labeled_pairs(table(MIXED, PLAIN, {"만족도": -2, "핏": 1}), TAXONOMY)
    assert [TAXONOMY.names[k] for k in pairs.keyword[pairs.mixed]] == ["디자인", "배송"]


def test_copying_says_the_overall_feeling_or_that_of_most() -> None:
    with_overall = labeled_pairs(table(MIXED, PLAIN), TAXONOMY)
    assert with_overall.copied.tolist() == [1, 1, 1, 1, 1, 1]
    without = labeled_pairs(table({"핏": 2, "배송": -1}, {"가격": -2, "색상": 1}, {"길이": -1, "핏": 1}), TAXONOMY)
    assert without.copied.tolist() == [1, 1, -1, -1, 0, 0]


def test_figures_are_over_mixed_labels_alone() -> None:
    pairs = labeled_pairs(table(MIXED, PLAIN), TAXONOMY)
    report = mixed_report(pairs, pairs.sign, np.ones(6, np.int64))
    assert report == {"n": 2, "sign_accuracy": 1.0, "copy_overall": 0.5, "shuffled": 0.5}


def test_without_mixed_reviews_there_is_nothing_to_say() -> None:
    pairs = labeled_pairs(table(PLAIN), TAXONOMY)
    report = mixed_report(pairs, pairs.sign, None)
    assert report == {"n": 0, "sign_accuracy": None, "copy_overall": None, "shuffled": None}
    assert warning(report) == ""


@pytest.mark.parametrize(
    ("accuracy", "copied", "shuffled", "words"),
    [
        (0.8, 0.5, 0.45, []),
        (0.55, 0.5, 0.4, ["the review's overall feeling (0.500)"]),
        (0.65, 0.5, 0.6, ["shuffled keywords (0.600)"]),
        (0.5, 0.5, 0.5, ["copying", "shuffled"]),
        (0.55, 0.5, None, ["copying"]),
    ],
)
def test_scores_that_hardly_read_the_keyword_are_told_in_one_line(
    accuracy: float, copied: float, shuffled: float | None, words: list[str]
) -> None:
    line = warning({"n": 145, "sign_accuracy": accuracy, "copy_overall": copied, "shuffled": shuffled})
    assert bool(line) == bool(words)
    assert "\n" not in line
    assert all(word in line for word in words)
