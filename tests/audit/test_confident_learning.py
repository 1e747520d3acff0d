"""confident_learning: planted wrong labels rank first, in either direction; scores count by distance."""

import numpy as np
import pytest

from ray_app.audit.confident_learning import DISTANCE_POWER, keyword_issues, score_issues, top


def believed(labeled: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probabilities of a decent model of these labels."""
    noise = np.random.default_rng(seed).beta(1, 8, labeled.shape)
    return np.where(labeled, 1 - noise, noise).astype(np.float32)


def test_flipped_keywords_are_flagged_and_come_first_whatever_their_direction() -> None:
    rng = np.random.default_rng(1)
    true = rng.random((400, 3)) < (0.4, 0.2, 0.1)
    wrong = np.zeros(true.shape, bool)
    for k in range(3):
        for value in (True, False):
            wrong[rng.choice(np.flatnonzero(true[:, k] == value), 4, False), k] = True
    issues = keyword_issues(true ^ wrong, believed(true))
    assert (top(issues.confidence, 24) & wrong).sum() >= 22
    assert (issues.flagged & wrong).sum() >= 20
    assert issues.flagged.sum() <= 40
    assert issues.confidence.min() >= 0
    assert issues.confidence.max() <= 1


def test_a_missing_label_is_found_even_where_the_model_is_never_sure_of_the_keyword() -> None:
    """It gives at most 0.5 to the keyword, and 0.2 is little for reviews that carry it: those are not the errors."""
    labeled = np.zeros((200, 1), bool)
    labeled[:40] = True
    probabilities = np.full((200, 1), 0.05, np.float32)
    probabilities[:20], probabilities[20:40], probabilities[40] = 0.2, 0.5, 0.45
    confidence = keyword_issues(labeled, probabilities).confidence
    assert top(confidence, 1)[40].all()


def test_a_keyword_that_all_reviews_carry_or_none_is_not_judged() -> None:
    labeled = np.zeros((50, 3), bool)
    labeled[:, 0] = True
    labeled[:10, 2] = True
    issues = keyword_issues(labeled, np.full(labeled.shape, 0.5, np.float32))
    assert not issues.flagged[:, :2].any()
    assert not issues.confidence[:, :2].any()
    assert issues.confidence[:, 2].all()


def test_of_two_wrong_scores_the_further_one_is_surer() -> None:
    given = np.array([3, 0] + [4] * 10 + [0] * 10)
    probabilities = np.full((22, 5), 0.025, np.float32)
    probabilities[np.arange(22), [4, 4] + [4] * 10 + [0] * 10] = 0.9
    issues = score_issues(given, probabilities)
    assert issues.confidence[1] > issues.confidence[0] > issues.confidence[2]
    assert issues.confidence[1] == pytest.approx(
        0.9 + 0.025 * sum((d / 4) ** DISTANCE_POWER for d in (1, 2, 3)), abs=1e-6
    )
    assert issues.flagged[1]
    assert not issues.flagged[2:].any()


def test_probabilities_need_not_sum_to_one() -> None:
    given = np.array([0, 1] * 10)
    probabilities = np.tile(np.array([[0.5, 0.1], [0.1, 0.5]], np.float32), (10, 1))
    assert score_issues(given, probabilities).confidence == pytest.approx(np.full(20, 1 / 6), abs=1e-6)


@pytest.mark.parametrize("given", [[], [2, 2, 2]])
def test_scores_that_are_all_the_same_are_not_judged(given: list[int]) -> None:
    issues = score_issues(np.array(given, np.int64), np.full((len(given), 5), 0.2, np.float32))
    assert not issues.flagged.any()


def test_top_takes_the_first_of_equals_and_never_more_than_there_are() -> None:
    confidence = np.array([[0.2, 0.9], [0.2, 0.1]], np.float32)
    assert top(confidence, 2).tolist() == [[True, True], [False, False]]
    assert top(confidence, 9).all()
