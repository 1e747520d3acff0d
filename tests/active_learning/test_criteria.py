"""criteria: higher is more informative, each within its range and by its formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ray_app.active_learning.criteria import Outliers, Rarity, diverse, uniform, unsure_keyword, unsure_score
from ray_app.sample import written_reviews

shares = st.floats(0, 1, width=32)
LIMITS = np.array([0.3, 0.5, 0.8], np.float32)


@pytest.mark.parametrize(
    ("probabilities", "value"),
    [
        ([0.3, 0, 0], 1),  # at its own threshold
        ([0.5, 0, 0], 1 - 0.2 / 0.7),  # above it: half the way would be 0.65
        ([0.15, 0, 0], 0.5),  # half the way down
        ([0, 0, 0.8], 1),
        ([0, 0, 0.5], 0.625),  # 0.5 is not every keyword's threshold
        ([0, 1, 0], 0),
        ([0, 0.75, 0.4], 0.5),  # the nearest of several
    ],
)
def test_a_keyword_is_unsure_by_the_distance_to_its_own_threshold(probabilities: list[float], value: float) -> None:
    assert unsure_keyword(np.array([probabilities], np.float32), LIMITS) == pytest.approx([value], abs=1e-6)


@given(arrays(np.float32, (7, 3), elements=shares))
def test_unsure_keyword_stays_between_sure_and_at_the_threshold(probabilities: np.ndarray) -> None:
    values = unsure_keyword(probabilities, LIMITS)
    assert ((values >= 0) & (values <= 1)).all()


def test_a_score_is_unsure_from_certain_to_uniform_and_the_least_sure_finding_counts() -> None:
    rows = np.array([[1, 0, 0, 0, 0], [0.2] * 5, [0.6, 0.4, 0, 0, 0], [0, 0, 1, 0, 0]], np.float32)
    values = unsure_score(rows, np.array([0, 1, 3, 3]), 4)
    assert values == pytest.approx([0, 1, 0, 0.5], abs=1e-6)  # (1 - 0.6) * 5 / 4, and nothing found in review 2


def test_reviews_without_findings_have_no_unsure_score() -> None:
    assert unsure_score(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), 2).tolist() == [0, 0]


def test_rare_texts_are_those_whose_tokens_the_labeled_ones_lack() -> None:
    labeled = [row["text"] for row in written_reviews()[:300]]
    rarity = Rarity(labeled)
    usual, unknown = rarity(labeled), rarity(["ἄνδρα μοι ἔννεπε μοῦσα πολύτροπον", "𠀀𠀁 𠀂𠀃 𠀄𠀅 𠀆𠀇 𠀈𠀉 𠀊𠀋"])
    assert ((usual >= 0) & (usual < 1)).all()
    assert unknown.min() > np.quantile(usual, 0.99)
    assert rarity(["", "굿"]).tolist() == [0, pytest.approx(rarity(["굿"])[0])]


def test_rarity_does_not_depend_on_neighbors() -> None:
    rarity = Rarity([row["text"] for row in written_reviews()[:200]])
    texts = [row["text"] for row in written_reviews()[200:240]]
    assert rarity(texts).tolist() == [float(rarity([text])[0]) for text in texts]


def test_outliers_are_far_from_every_cluster() -> None:
    rng = np.random.default_rng(0)
    clusters = np.concatenate([rng.normal(at, 0.1, (200, 8)) for at in (-2, 0, 2)]).astype(np.float32)
    outliers = Outliers(clusters, seed=0)
    assert np.median(outliers(clusters)) == pytest.approx(1)
    assert outliers(np.full((1, 8), 9, np.float32))[0] > 10 * outliers(clusters).max() / 3


def test_diverse_picks_come_from_all_clusters_before_a_second_of_one() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(50 * at, 0.1, (size, 4)) for at, size in enumerate((500, 5, 5))])
    order = np.argsort(-diverse(points.astype(np.float32), 6, seed=1))  # NaN last
    assert {int(i >= 500) + int(i >= 505) for i in order[:3]} == {0, 1, 2}
    assert np.isfinite(diverse(points.astype(np.float32), 6, seed=1)).sum() == 6


def test_diverse_of_few_points_and_of_none() -> None:
    assert len(diverse(np.zeros((0, 4), np.float32), 5, 0)) == 0
    assert np.isfinite(diverse(np.eye(3, dtype=np.float32), 5, 0)).all()


@given(arrays(np.uint64, 50))
def test_the_smallest_hash_is_drawn_first(hashes: np.ndarray) -> None:
    values = uniform(hashes)
    assert ((values >= 0) & (values <= 1)).all()
    assert (np.diff(values[np.argsort(hashes)]) <= 0).all()
