"""TF-IDF and logistic regression, the yardstick."""

from ray_app.data.taxonomy import Taxonomy, from_labels
from ray_app.evaluation.baseline import TfidfBaseline
from tests.evaluation.test_report import COLORS, ROWS, table


def test_the_baseline_learns_words_and_survives_keywords_without_contrast() -> None:
    rows = [{**row, "review_id": f"{i}-{row['review_id']}"} for i in range(4) for row in ROWS]
    wide = Taxonomy(
        name="t", keywords=(*COLORS.keywords, *from_labels([("길이", 0)] * 2 + [("길이", 1)]).keywords), scores=(-1, 1)
    )
    baseline = TfidfBaseline(table(rows), table(), wide)
    assert baseline.predict(["배송 늦어요", "색 칙칙해요"]) == [{"배송": -1}, {"색상": -1}]
    assert (baseline.probabilities(["아무 말"])[:, 2] == 0).all()
