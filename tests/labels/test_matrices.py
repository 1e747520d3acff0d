"""Labels as arrays: which keywords a review has, and the score of each."""

import numpy as np

from ray_app.labels import matrices
from tests.training.test_classifier_task import PAIRS, TABLE, TAXONOMY


def test_the_matrix_marks_the_keywords_that_labels_name() -> None:
    matrix = matrices.keyword_matrix(TABLE, TAXONOMY)
    assert matrix.shape == (3, 15)
    marked = {(int(i), TAXONOMY.names[k]) for i, k in zip(*np.nonzero(matrix), strict=True)}
    assert marked == {(i, k) for i, k, _ in PAIRS}


def test_pairs_are_positions_of_every_label_by_review() -> None:
    review, keyword, score = matrices.score_pairs(TABLE, TAXONOMY)
    found = [(i, TAXONOMY.names[k], TAXONOMY.scores[s]) for i, k, s in zip(review, keyword, score, strict=True)]
    assert found == PAIRS
    assert [len(column) for column in matrices.score_pairs(TABLE.slice(0, 0), TAXONOMY)] == [0, 0, 0]


def test_support_counts_reviews_by_keyword() -> None:
    assert matrices.keyword_support(TABLE) == {"만족도": 3, "디자인": 1, "배송": 2}
