"""How good predictions are: keywords, scores, both together, and highlights. Pure functions on arrays.

In: `true`, `predicted` as boolean [reviews, keywords]; scores as integers of the taxonomy's scale. Out: the sections of
`report.json`, figures rounded to four decimals.
"""

from collections.abc import Callable, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from ray_app.arrays import Flags, Floats
from ray_app.data.text import occurrences

FEW = 30  # labels of a keyword below which its F1 is shown with an interval
KNOWN = 50.0  # positives, of all keywords, that thresholds tuned before are worth: docs/benchmarks.md
PRIOR = 20.0  # positives a keyword needs before its own best threshold outweighs the common one


class PrecisionRecall(TypedDict):
    """Precision, recall, and their harmonic mean F1."""

    precision: float
    recall: float
    f1: float


class TupleScore(PrecisionRecall):
    """The same over (keyword, score) tuples; `support` counts the true ones."""

    support: int


class KeywordRow(PrecisionRecall):
    """One keyword: reviews that carry it here (`support`) and in training, and the first over the second (`share`)."""

    support: int
    support_train: int
    share: float | None
    f1_interval: NotRequired[list[float]]  # 95%, where there are fewer than FEW labels here


class KeywordAverage(TypedDict):
    """An average over keywords; None where there is no keyword to average over."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class KeywordReport(TypedDict):
    """Per keyword and averaged; `micro_varying` leaves out keywords that every review carries."""

    per_keyword: dict[str, KeywordRow]
    micro: KeywordAverage
    macro: KeywordAverage
    weighted: KeywordAverage
    samples: KeywordAverage
    micro_varying: KeywordAverage


class MixedReport(TypedDict):
    """Over the `n` labels of mixed reviews that are not about the whole review; None where there are none."""

    n: int
    sign_accuracy: float | None
    copy_overall: float | None
    shuffled: float | None


class ScoreReport(TypedDict):
    """Scores of keywords that the labels name; None where they name none. `confusion` has a row per true score.

    `sign_accuracy` and `copy_overall` are over labels that are not about the whole review, see `mixed_reviews.py`.
    """

    accuracy: float | None
    macro_f1: float | None
    mae: float | None
    confusion: list[list[int]]
    support: int
    accuracy_shuffled_keywords: NotRequired[float | None]
    sign_accuracy: NotRequired[float | None]
    copy_overall: NotRequired[float | None]
    mixed: NotRequired[MixedReport]


class TupleReport(TypedDict):
    """Keyword and score both right: by the exact score, and by its sign."""

    micro: TupleScore
    micro_sign: TupleScore


def keyword_report(true: Flags, predicted: Flags, names: Sequence[str], support_train: dict[str, int]) -> KeywordReport:
    """Precision, recall, F1 per keyword and averaged."""
    precision, recall, f1, support = _prfs(true, predicted, None)
    per_keyword: dict[str, KeywordRow] = {}
    for k, name in enumerate(names):
        trained = int(support_train.get(name, 0))
        figures = _rounded(precision[k], recall[k], f1[k])
        per_keyword[name] = {
            "precision": figures["precision"],
            "recall": figures["recall"],
            "f1": figures["f1"],
            "support": int(support[k]),
            "support_train": trained,
            "share": round(int(support[k]) / trained, 4) if trained else None,
        }
        if 0 < support[k] < FEW:
            per_keyword[name]["f1_interval"] = _f1_interval(true[:, k], predicted[:, k])
    varying = ~true.all(0)
    return {
        "per_keyword": per_keyword,
        "micro": _average(true, predicted, "micro"),
        "macro": _average(true, predicted, "macro"),
        "weighted": _average(true, predicted, "weighted"),
        "samples": _average(true, predicted, "samples"),
        "micro_varying": _average(true[:, varying], predicted[:, varying], "micro"),
    }


def _f1_interval(true: Flags, predicted: Flags, draws: int = 500) -> list[float]:
    """95% of the F1 of as many reviews drawn anew (Efron's percentile bootstrap, seeded)."""
    if not len(true):
        return [0.0, 1.0]
    rows = np.random.default_rng(0).integers(0, len(true), (draws, len(true)))
    hits, named = (true & predicted)[rows].sum(1), true[rows].sum(1) + predicted[rows].sum(1)
    f1 = 2 * hits[named > 0] / named[named > 0]
    low, high = np.quantile(f1, (0.025, 0.975)) if len(f1) else (0.0, 1.0)
    return [_round(low), _round(high)]


def score_report(true: ArrayLike, predicted: ArrayLike, scale: Sequence[int]) -> ScoreReport:
    """Accuracy, macro F1 over the whole scale, mean absolute error, confusion matrix."""
    t, p = np.asarray(true), np.asarray(predicted)
    if not len(t):
        return {"accuracy": None, "macro_f1": None, "mae": None, "confusion": [], "support": 0}
    return {
        "accuracy": _round((t == p).mean()),
        "mae": _round(np.abs(t - p).mean()),
        "macro_f1": _round(f1_score(t, p, labels=list(scale), average="macro", zero_division=0)),
        "confusion": confusion_matrix(t, p, labels=list(scale)).tolist(),
        "support": len(t),
    }


def tuple_report(true: Sequence[dict[str, int]], predicted: Sequence[dict[str, int]]) -> TupleReport:
    """Keyword and score both right, micro-averaged; a dict of keyword -> score per review."""
    return {
        "micro": _tuples(true, predicted, lambda score: score),
        "micro_sign": _tuples(true, predicted, lambda score: int(np.sign(score))),
    }


def tune_thresholds(true: Flags, probabilities: Floats, known: Sequence[float] | None = None) -> Floats:
    """[keywords] thresholds that maximize F1 on validation.

    A keyword with few positives has a noisy maximum, so its threshold is drawn towards the one that is best for all
    keywords together, by PRIOR / (PRIOR + positives).

    Args:
        known: [keywords] thresholds that the model had before it was trained further on a few labels. The one of all
            keywords together is drawn towards these by KNOWN / (KNOWN + positives): ten reviews would tune it by luck.
    """
    varying = ~true.all(0)
    best = best_threshold(true[:, varying].ravel(), probabilities[:, varying].ravel()) if varying.any() else 0.5
    common = np.full(true.shape[1], best)
    positives = true.sum(0)
    if known is not None:
        seen = float(true[:, varying].sum())
        common = (seen * common + KNOWN * np.asarray(known, np.float64)) / (seen + KNOWN)
    own = np.array(
        [
            best_threshold(true[:, k], probabilities[:, k]) if 0 < positives[k] < len(true) else common[k]
            for k in range(true.shape[1])
        ]
    )
    mixed = (positives * own + PRIOR * common) / (positives + PRIOR)
    return np.asarray(np.round(np.where(true.all(0), np.minimum(mixed, 0.5), mixed), 4), np.float32)


def best_threshold(true: Flags, probability: Floats) -> float:
    """The threshold of the best F1, in the middle of the gap to the next lower probability."""
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(true[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + max(1, int(true.sum())))
    apart = np.append(np.diff(probability[order]) < 0, True)  # no threshold can part equal probabilities
    best = int(np.argmax(np.where(apart, f1, -1)))
    below = probability[order[best + 1]] if best + 1 < len(order) else 0.0
    return float(np.clip((probability[order[best]] + below) / 2, 0.05, 0.95))


def f1_interval(true: Flags, predicted: Flags, rows: int, seed: int = 0, draws: int = 2_000) -> Floats:
    """[keywords, 2] bounds that hold 95% of F1 over test sets of `rows` reviews like these; NaN without a review.

    A percentile bootstrap (Efron 1979) that draws the four counts of a confusion table at once, which is the same as
    drawing reviews. An F1 of no positives and no findings counts as 0.
    """
    if not len(true) or not rows:
        return np.full((true.shape[1], 2), np.nan, np.float32)
    rng = np.random.default_rng(seed)
    cells = [(true & predicted).sum(0), (true & ~predicted).sum(0), (~true & predicted).sum(0)]
    shares = np.stack([*cells, len(true) - sum(cells)], 1) / len(true)
    drawn = np.stack([rng.multinomial(rows, share, draws) for share in shares])
    hits, missed, extra, _ = np.moveaxis(drawn, 2, 0)
    f1 = 2 * hits / np.maximum(1, 2 * hits + missed + extra)
    return np.asarray(np.percentile(f1, (2.5, 97.5), axis=1).T, np.float32)


def micro_f1(true: Flags, predicted: Flags) -> float:
    """F1 over all cells together; 0 where nothing is true and nothing predicted."""
    both = float((true & predicted).sum())
    return 2 * both / max(1.0, float(true.sum() + predicted.sum()))


def best_micro_f1(true: Flags, probabilities: Floats) -> float:
    """Micro F1 over the varying keywords at the common threshold that is best for it."""
    varying = ~true.all(0) if not true.all() else np.ones(true.shape[1], bool)
    t, p = true[:, varying], probabilities[:, varying]
    return micro_f1(t, p >= best_threshold(t.ravel(), p.ravel()))


def hit(text: str, span: tuple[int, int], acceptable: Sequence[str]) -> bool:
    """True where the highlighted (start, end) overlaps an occurrence of an acceptable word."""
    return any(start < span[1] and span[0] < end for start, end in occurrences(text, acceptable))


def mean_or_none(values: Sequence[float] | Sequence[bool]) -> float | None:
    """Mean, or None of nothing."""
    return _round(float(np.mean(values))) if len(values) else None


def _tuples(
    true: Sequence[dict[str, int]], predicted: Sequence[dict[str, int]], compared: Callable[[int], int]
) -> TupleScore:
    """`compared`: what of a score has to agree."""
    right = sum(
        1
        for labels, findings in zip(true, predicted, strict=True)
        for keyword, score in findings.items()
        if keyword in labels and compared(labels[keyword]) == compared(score)
    )
    n_predicted, n_true = sum(map(len, predicted)), sum(map(len, true))
    precision, recall = right / max(1, n_predicted), right / max(1, n_true)
    return {**_rounded(precision, recall, 2 * right / max(1, n_predicted + n_true)), "support": n_true}


def _average(true: Flags, predicted: Flags, average: str) -> KeywordAverage:
    if not true.shape[1]:
        return {"precision": None, "recall": None, "f1": None, "support": 0}
    precision, recall, f1, _ = _prfs(true, predicted, average)
    return {**_rounded(precision, recall, f1), "support": int(true.sum())}


def _prfs(true: Flags, predicted: Flags, average: str | None) -> Any:
    """Precision, recall, F1 and support: numbers, or [keywords] each where `average` is None.

    scikit-learn takes a single column for classes, not for a keyword, unless an uncounted empty one is beside it.
    """
    wide = [np.pad(flags, ((0, 0), (0, 1))) for flags in (true, predicted)]
    return precision_recall_fscore_support(*wide, labels=range(true.shape[1]), average=average, zero_division=0)


def _rounded(precision: float, recall: float, f1: float) -> PrecisionRecall:
    return {"precision": _round(precision), "recall": _round(recall), "f1": _round(f1)}


def _round(value: float) -> float:
    return round(float(value), 4)
