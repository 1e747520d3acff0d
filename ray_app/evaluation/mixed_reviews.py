"""Does a score model read the keyword? It is judged on mixed reviews, whose keywords feel differently.

In: labels as (review, keyword, score) positions, and predicted scores. Out: sign accuracies beside two yardsticks:
copying a review's overall feeling to every keyword, and asking about another keyword of the review (shuffled).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.evaluation.metrics import MixedReport, mean_or_none
from ray_app.labels.matrices import keyword_matrix, score_pairs

OVERALL = 0.95  # a keyword on at least this share of the reviews is about the whole of a review
MARGIN = 0.1  # by which reading the keyword must beat both yardsticks


@dataclass(frozen=True, kw_only=True)
class LabeledPairs:
    """The labels of a table: [labels] positions of review, keyword and score, the sign of each score, the sign that
    copying would give, whether the label is about something in particular (not the whole review), and whether it is
    one of those in a mixed review."""

    review: Ints
    keyword: Ints
    score: Ints
    sign: Ints
    copied: Ints
    particular: Flags
    mixed: Flags


def overall_keywords(labels: Flags) -> Ints:
    """Positions of the keywords that nearly every review of `labels` [reviews, keywords] has."""
    return np.flatnonzero(labels.mean(0) >= OVERALL) if len(labels) else np.zeros(0, np.int64)


def labeled_pairs(table: pa.Table, taxonomy: Taxonomy) -> LabeledPairs:
    """What a table's labels say, and what copying would say: the sign of the review's overall keyword, else of the sum
    of its scores. A review is mixed where keywords besides the overall ones have opposite signs."""
    review, keyword, score = score_pairs(table, taxonomy)
    sign = np.sign(np.asarray(taxonomy.scores)[score])
    about_all = np.isin(keyword, overall_keywords(keyword_matrix(table, taxonomy)))
    size = len(table)
    overall = np.bincount(review[about_all], sign[about_all], size)
    summed = np.sign(np.bincount(review, np.asarray(taxonomy.scores)[score], size))
    copied = np.where(np.bincount(review[about_all], minlength=size) > 0, np.sign(overall), summed).astype(np.int64)
    positive, negative = (np.bincount(review[~about_all & (sign == s)], minlength=size) > 0 for s in (1, -1))
    return LabeledPairs(
        review=review,
        keyword=keyword,
        score=score,
        sign=sign,
        copied=copied[review],
        particular=~about_all,
        mixed=(positive & negative)[review] & ~about_all,
    )


def mixed_report(pairs: LabeledPairs, predicted: Ints, shuffled: Ints | None) -> MixedReport:
    """`predicted`, `shuffled` [labels]: signs of the scores given to the keyword, and to another of the review."""

    def accuracy(signs: Ints | None) -> float | None:
        return None if signs is None else mean_or_none((signs == pairs.sign)[pairs.mixed].tolist())

    return {
        "n": int(pairs.mixed.sum()),
        "sign_accuracy": accuracy(predicted),
        "copy_overall": accuracy(pairs.copied),
        "shuffled": accuracy(shuffled),
    }


def warning(report: MixedReport) -> str:
    """One line where scores do not beat both yardsticks by MARGIN on mixed reviews, else empty."""
    accuracy, copied, shuffled = report["sign_accuracy"], report["copy_overall"], report["shuffled"]
    if accuracy is None or copied is None:
        return ""
    unbeaten = [
        f"{name} ({value:.3f})"
        for name, value in (("copying the review's overall feeling", copied), ("shuffled keywords", shuffled))
        if value is not None and accuracy < value + MARGIN
    ]
    if not unbeaten:
        return ""
    return (
        f"warning: scores hardly read the keyword: of the {report['n']} labels of mixed reviews their sign is right in "
        f"{accuracy:.3f}, against {' and '.join(unbeaten)}"
    )
