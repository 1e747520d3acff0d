"""Labels that look wrong: confident learning on out-of-fold probabilities. Arrays in, arrays out.

Source: Northcutt, Jiang, Chuang 2021, Confident learning (arXiv:1911.00068), as cleanlab implements it; each keyword is
a binary problem of its own (Thyagarajan et al. 2022, arXiv:2211.13895).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from cleanlab.filter import find_label_issues  # cleanlab has no types
from cleanlab.rank import get_label_quality_scores

from ray_app.arrays import Flags, Floats, Ints

# A score's probability counts by its distance from the given score to this power. At 0 every other score would count
# the same; at 1 an error of one step would vanish in the spread of a confident model.
DISTANCE_POWER = 0.2
SURE = 0.75  # confidence from which a score is flagged: below it, neighbors on the scale are a matter of taste


@dataclass(frozen=True)
class LabelIssues:
    """Flagged labels, and the confidence (0 to 1) that a label is wrong; both arrays have the labels' shape."""

    flagged: Flags
    confidence: Floats


def keyword_issues(labeled: Flags, probabilities: Floats) -> LabelIssues:
    """Keywords that the labels lack or should not have; all arrays are [reviews, keywords].

    Confidence is one minus the self-confidence, adjusted by the model's usual confidence for labels of that keyword and
    direction: otherwise all missing labels of a rare keyword would rank below the superfluous ones of a frequent one.
    A keyword that every review carries, or none, is not judged.
    """
    flagged, confidence = np.zeros(labeled.shape, bool), np.zeros(labeled.shape, np.float32)
    for k in np.flatnonzero(labeled.any(0) & ~labeled.all(0)):
        given, binary = labeled[:, k].astype(np.int64), np.stack([1 - probabilities[:, k], probabilities[:, k]], 1)
        flagged[:, k] = _flags(given, binary, "prune_by_noise_rate")
        confidence[:, k] = 1 - get_label_quality_scores(given, binary, adjust_pred_probs=True)
    return LabelIssues(flagged, confidence)


def score_issues(given: Ints, probabilities: Floats) -> LabelIssues:
    """Scores that look wrong: of [labels] given positions on the scale and [labels, scores] probabilities.

    Confidence is the expected distance from the given score, as a share of the scale, to the power DISTANCE_POWER. A
    score is flagged where confident learning flags it and the confidence is at least SURE.
    """
    if len(np.unique(given)) < 2:
        return LabelIssues(np.zeros(len(given), bool), np.zeros(len(given), np.float32))
    normalized = probabilities / probabilities.sum(1, keepdims=True)
    scale = np.arange(probabilities.shape[1])
    distance = np.abs(scale - given[:, None]) / (len(scale) - 1)
    confidence = (normalized * distance**DISTANCE_POWER).sum(1)
    return LabelIssues(_flags(given, normalized, "both") & (confidence >= SURE), np.asarray(confidence, np.float32))


def top(confidence: Floats, count: int) -> Flags:
    """The `count` cells of highest confidence, of an array of any shape; of equals, the first."""
    chosen = np.zeros(confidence.size, bool)
    chosen[np.argsort(-confidence, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(confidence.shape)


def _flags(given: Ints, probabilities: Floats, filter_by: str) -> Flags:
    """[labels] what cleanlab's filter of this name flags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab warns of scores that no label has
        return np.asarray(find_label_issues(given, probabilities, filter_by=filter_by, n_jobs=1), bool)
