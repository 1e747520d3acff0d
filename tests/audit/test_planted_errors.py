"""planted_errors: only the reported labels change, as many as requested, and the same by the same seed."""

import numpy as np
import pytest

from ray_app import sample
from ray_app.audit.measure import HOW
from ray_app.audit.planted_errors import plant
from ray_app.labels import reader
from ray_app.labels.matrices import keyword_matrix, score_pairs

LABELS = reader.read_labels(str(sample.FOLDER / "reviews.jsonl"))
TABLE, TAXONOMY = LABELS.table.slice(0, 600), LABELS.taxonomy


@pytest.mark.parametrize("how", HOW)
def test_the_planted_errors_are_all_the_difference(how: str) -> None:
    planted = plant(TABLE, TAXONOMY, 0.1, 3, how)
    before, after = keyword_matrix(TABLE, TAXONOMY), keyword_matrix(planted.table, TAXONOMY)
    assert ((before ^ after) == planted.keywords).all()
    assert planted.table["text"].to_pylist() == TABLE["text"].to_pylist()
    assert planted.table["split"].to_pylist() == TABLE["split"].to_pylist()
    assert not planted.keywords[:, TAXONOMY.index["만족도"]].any()
    old = {(r, k): s for r, k, s in zip(*score_pairs(TABLE, TAXONOMY), strict=True)}
    review, keyword, score = score_pairs(planted.table, TAXONOMY)
    for r, k, s, wrong in zip(review, keyword, score, planted.scores, strict=True):
        if (r, k) in old:
            assert (old[r, k] != s) == wrong
        else:
            assert planted.keywords[r, k]
            assert not wrong


def test_as_many_labels_of_a_keyword_are_lost_as_added() -> None:
    labeled, planted = keyword_matrix(TABLE, TAXONOMY), plant(TABLE, TAXONOMY, 0.1, 0)
    lost, added = (planted.keywords & labeled).sum(0), (planted.keywords & ~labeled).sum(0)
    assert (lost == added).all()
    varying = ~labeled.all(0)
    assert (lost[varying] == np.round(0.1 * labeled.sum(0)[varying])).all()


def test_cells_flip_at_the_requested_share() -> None:
    planted = plant(TABLE, TAXONOMY, 0.1, 0, "cells")
    assert planted.keywords.sum() == pytest.approx(0.1 * 600 * 14, rel=0.15)
    left = len(score_pairs(TABLE, TAXONOMY)[0]) - (planted.keywords & keyword_matrix(TABLE, TAXONOMY)).sum()
    assert planted.scores.sum() == pytest.approx(0.1 * left, rel=0.15)


def test_a_seed_decides() -> None:
    one, same, other = (plant(TABLE, TAXONOMY, 0.05, seed) for seed in (1, 1, 2))
    assert one.table.equals(same.table)
    assert not one.table.equals(other.table)
