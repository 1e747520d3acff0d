"""Which labels look wrong: confident learning on out-of-fold probabilities. Arrays in, arrays out.

Source: Northcutt, Jiang, Chuang 2021, Confident learning (arXiv:1911.00068), by way of cleanlab; each keyword is a
binary question of its own (Thyagarajan et al. 2022, arXiv:2211.13895).
"""

import importlib
import importlib.util
import warnings
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ray_app.arrays import Flags, Floats, Ints
from ray_app.errors import check

# How fast a score's probability counts for less as it lies further from the given one: 0 would count every other score
# the same, 1 would count by distance alone, and an error of one step would vanish in the spread of a sure model.
DISTANCE_POWER = 0.2
SURE = 0.75  # confidence from which a score is flagged: neighbours on the scale are a matter of taste below it


@dataclass(frozen=True)
class LabelIssues:
    """`flagged` and `confidence` (0 to 1: how sure it is that a label is wrong), both of the labels' shape."""

    flagged: Flags
    confidence: Floats


def keyword_verdict(named: Flags, probabilities: Floats) -> LabelIssues:
    """[reviews, keywords] which keywords the labels lack or should not have.

    Confidence is one minus the self-confidence, less what the model is usually sure of for labels of that keyword and
    direction: without that a rare keyword's missing labels would all come after a frequent one's superfluous ones. A
    keyword that all reviews carry, or none, is not judged.
    """
    flagged, confidence = np.zeros(named.shape, bool), np.zeros(named.shape, np.float32)
    for k in np.flatnonzero(named.any(0) & ~named.all(0)):
        given, both = named[:, k].astype(np.int64), np.stack([1 - probabilities[:, k], probabilities[:, k]], 1)
        flagged[:, k] = _issues(given, both, "prune_by_noise_rate")
        quality = _cleanlab("rank").get_label_quality_scores(given, both, adjust_pred_probs=True)
        confidence[:, k] = 1 - quality
    return LabelIssues(flagged, confidence)


def score_verdict(given: Ints, probabilities: Floats) -> LabelIssues:
    """[labels] which scores look wrong; `given` are positions on the scale, `probabilities` [labels, scores].

    Confidence is the expected distance from the given score, as a share of the scale, to the power DISTANCE_POWER. What
    confident learning flags counts from SURE on.
    """
    if len(np.unique(given)) < 2:
        return LabelIssues(np.zeros(len(given), bool), np.zeros(len(given), np.float32))
    likely = probabilities / probabilities.sum(1, keepdims=True)
    scale = np.arange(probabilities.shape[1])
    distance = np.abs(scale - given[:, None]) / (len(scale) - 1)
    confidence = (likely * distance**DISTANCE_POWER).sum(1)
    return LabelIssues(_issues(given, likely, "both") & (confidence >= SURE), np.asarray(confidence, np.float32))


def top(confidence: Floats, count: int) -> Flags:
    """The `count` cells of the highest confidence, of any shape; the first of two equals comes first."""
    chosen = np.zeros(confidence.size, bool)
    chosen[np.argsort(-confidence, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(confidence.shape)


def _issues(given: Ints, probabilities: Floats, how: str) -> Flags:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scores that no label has
        found = _cleanlab("filter").find_label_issues(given, probabilities, filter_by=how, n_jobs=1)
    return np.asarray(found, bool)


def check_installed() -> None:
    """Raises UserError where cleanlab is missing: before hours of training rather than after them."""
    check(importlib.util.find_spec("cleanlab"), "the audit needs cleanlab: pip install 'nunchi[audit]'")


def _cleanlab(part: str) -> ModuleType:
    """Loaded where it is needed: nothing else is."""
    return importlib.import_module(f"cleanlab.{part}")
