"""Thresholds and sums of findings, compared with values worked out by hand."""

import pyarrow as pa
import pytest

from ray_app.errors import UserError
from ray_app.ui.thresholds.curves import KeywordPredictions, check_predictions
from ray_app.ui.try_tab import unspaced

PREDICTIONS = pa.table(
    {
        "keyword_probabilities": pa.array([[0.9, 0.1], [0.6, 0.2], [0.4, 0.8], [0.1, 0.9]], pa.list_(pa.float32())),
        "keywords": [["배송"], ["배송"], ["색상"], ["색상", "배송"]],
    }
)


@pytest.mark.parametrize(
    ("threshold", "precision", "recall"),
    [(0.0, 0.75, 1.0), (0.4, 2 / 3, 2 / 3), (0.41, 1.0, 2 / 3), (0.9, 1.0, 1 / 3), (1.0, None, 0.0)],
)
def test_precision_and_recall_at_a_threshold(threshold: float, precision: float | None, recall: float) -> None:
    point = KeywordPredictions(PREDICTIONS, "배송", 0).at(threshold)
    assert (point.precision, point.recall) == (precision, recall)


def test_a_threshold_is_compared_in_float32_as_in_the_graph() -> None:
    assert KeywordPredictions(PREDICTIONS, "배송", 0).at(float(pa.scalar(0.9, pa.float32()).as_py())).hits == 1


def test_the_curve_leaves_out_undefined_values() -> None:
    rows = KeywordPredictions(PREDICTIONS, "배송", 0).curve()
    last = {row["measure"] for row in rows if row["threshold"] == 1.0}
    assert last == {"recall", "f1"}
    recall = [row["value"] for row in rows if row["measure"] == "recall"]
    assert recall == sorted(recall, reverse=True)


def test_predictions_of_another_report_are_refused() -> None:
    assert check_predictions(PREDICTIONS, 2, "p") is PREDICTIONS
    for wrong in (PREDICTIONS.drop_columns("keywords"), PREDICTIONS):
        with pytest.raises(UserError, match="does not belong to the report"):
            check_predictions(wrong, 3, "p")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("배송빠르고옷도이쁘네요굿", "배송빠르고옷도이쁘네요굿"),
        ("옷은 예쁘지만 배송은 늦어요", ""),
        ("좋아요!!!!!!!!!!!!!!!!!!!", ""),
        ("http://shop.example.com/item/123", ""),
        ("가" * 40, "가" * 23 + "…"),
    ],
)
def test_a_review_without_spaces_is_detected(text: str, word: str) -> None:
    assert unspaced(text) == word
