"""How good a model is: keywords, scores, both together, and highlights. Pure functions on arrays.

Conventions: `true`, `predicted` are boolean [reviews, keywords]; scores are integers of the taxonomy's scale.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from ray_app.arrays import Flags, Floats

PRIOR = 20.0  # how many positives a keyword needs before its own best threshold outweighs the common one


def keyword_report(
    true: Flags, predicted: Flags, names: Sequence[str], support_train: dict[str, int]
) -> dict[str, Any]:
    """Precision, recall, F1 per keyword and averaged; `micro_varying` leaves out keywords that every review carries."""
    precision, recall, f1, support = _prfs(true, predicted, None)
    per_keyword = {}
    for k, name in enumerate(names):
        trained = int(support_train.get(name, 0))
        per_keyword[name] = {
            **_prf(precision[k], recall[k], f1[k]),
            "support": int(support[k]),
            "support_train": trained,
            "share": round(int(support[k]) / trained, 4) if trained else None,
        }
    report: dict[str, Any] = {"per_keyword": per_keyword}
    for average in ("micro", "macro", "weighted", "samples"):
        report[average] = _average(true, predicted, average)
    varying = ~true.all(0)
    report["micro_varying"] = _average(true[:, varying], predicted[:, varying], "micro")
    return report


def score_report(true: ArrayLike, predicted: ArrayLike, scale: Sequence[int]) -> dict[str, Any]:
    """Scores of keywords that the labels name: accuracy, macro F1, mean absolute error, confusion (rows = true)."""
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


def tuple_report(true: Sequence[dict[str, int]], predicted: Sequence[dict[str, int]]) -> dict[str, Any]:
    """Keyword and score both right, micro-averaged: `micro` by the exact score, `micro_sign` by its sign."""
    return {
        "micro": _tuples(true, predicted, lambda s: s),
        "micro_sign": _tuples(true, predicted, lambda s: int(np.sign(s))),
    }


def tune_thresholds(true: Flags, probabilities: Floats) -> Floats:
    """[keywords] thresholds that maximise F1 on validation.

    A keyword with few positives has a noisy maximum, so its threshold is drawn towards the one that is best for all
    keywords together, by PRIOR / (PRIOR + positives).
    """
    varying = ~true.all(0)
    common = best_threshold(true[:, varying].ravel(), probabilities[:, varying].ravel()) if varying.any() else 0.5
    positives = true.sum(0)
    own = np.array(
        [
            best_threshold(true[:, k], probabilities[:, k]) if 0 < positives[k] < len(true) else common
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
    """[keywords, 2] between which 95% of F1 lie over test sets of `rows` reviews like these; NaN without a review.

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
    both = float((true & predicted).sum())
    return 2 * both / max(1.0, float(true.sum() + predicted.sum()))


def best_micro_f1(true: Flags, probabilities: Floats) -> float:
    """Micro F1 over the varying keywords at the common threshold that is best for it."""
    varying = ~true.all(0) if not true.all() else np.ones(true.shape[1], bool)
    t, p = true[:, varying], probabilities[:, varying]
    return micro_f1(t, p >= best_threshold(t.ravel(), p.ravel()))


def hit(text: str, span: tuple[int, int], acceptable: Sequence[str]) -> bool:
    """True where the highlighted (start, end) overlaps an occurrence of an acceptable word."""
    for word in acceptable:
        at = text.find(word)
        while word and at >= 0:
            if at < span[1] and span[0] < at + len(word):
                return True
            at = text.find(word, at + 1)
    return False


def mean_or_none(values: Sequence[float] | Sequence[bool]) -> float | None:
    """Mean, or None of nothing."""
    return _round(float(np.mean(values))) if len(values) else None


def _tuples(true: Sequence[dict[str, int]], predicted: Sequence[dict[str, int]], view: Any) -> dict[str, Any]:
    right = sum(
        1 for t, p in zip(true, predicted, strict=True) for k, s in p.items() if k in t and view(t[k]) == view(s)
    )
    said, meant = sum(map(len, predicted)), sum(map(len, true))
    precision, recall = right / max(1, said), right / max(1, meant)
    return {**_prf(precision, recall, 2 * right / max(1, said + meant)), "support": meant}


def _average(true: Flags, predicted: Flags, average: str) -> dict[str, Any]:
    if not true.shape[1]:
        return {"precision": None, "recall": None, "f1": None, "support": 0}
    precision, recall, f1, _ = _prfs(true, predicted, average)
    return {**_prf(precision, recall, f1), "support": int(true.sum())}


def _prfs(true: Flags, predicted: Flags, average: str | None) -> Any:
    """scikit-learn takes a single column for classes, not for a keyword, unless an uncounted empty one is beside it."""
    wide = [np.pad(flags, ((0, 0), (0, 1))) for flags in (true, predicted)]
    return precision_recall_fscore_support(*wide, labels=range(true.shape[1]), average=average, zero_division=0)


def _prf(precision: float, recall: float, f1: float) -> dict[str, float]:
    return {"precision": _round(precision), "recall": _round(recall), "f1": _round(f1)}


def _round(value: Any) -> float:
    return round(float(value), 4)
