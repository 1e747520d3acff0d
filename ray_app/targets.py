"""Labelled tables -> what the training loop learns from and is judged by. In: LABELLED tables. Out: Data and judges."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.classifier import sigmoid
from ray_app.fit import Data
from ray_app.metrics import best_micro_f1, score_report, tune_thresholds
from ray_app.sequences import Floats, Ints
from ray_app.taxonomy import Taxonomy
from ray_app.tokens import ScorePrompt, Tokenizer

Judge = Callable[[Floats], dict[str, float]]


def keyword_matrix(table: pa.Table, taxonomy: Taxonomy) -> NDArray[np.bool_]:
    """[reviews, keywords] which keywords the labels name."""
    matrix = np.zeros((len(table), len(taxonomy.names)), bool)
    for i, labels in enumerate(table["labels"].to_pylist()):
        matrix[i, [taxonomy.index[label["keyword"]] for label in labels]] = True
    return matrix


def score_pairs(table: pa.Table, taxonomy: Taxonomy) -> tuple[Ints, Ints, Ints]:
    """(review, keyword, score) positions of every label, by review."""
    found = [
        (i, taxonomy.index[label["keyword"]], taxonomy.scores.index(label["score"]))
        for i, labels in enumerate(table["labels"].to_pylist())
        for label in labels
    ]
    columns = np.array(found, np.int64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def keyword_data(table: pa.Table, taxonomy: Taxonomy, tokenizer: Tokenizer, max_length: int) -> Data:
    reviews = tokenizer(table["text"].to_pylist()).sequences
    return Data(tokenizer.plain(reviews, max_length), keyword_matrix(table, taxonomy).astype(np.float32))


def score_data(table: pa.Table, taxonomy: Taxonomy, tokenizer: Tokenizer, prompt: ScorePrompt, max_length: int) -> Data:
    review, keyword, score = score_pairs(table, taxonomy)
    reviews = tokenizer(table["text"].to_pylist()).sequences
    return Data(prompt(reviews.take(review), keyword, max_length), score)


def keyword_judge(data: Data) -> Judge:
    """`select` is the micro F1 over varying keywords at the best common threshold."""
    true = data.targets.astype(bool)
    return lambda logits: {"select": round(best_micro_f1(true, sigmoid(logits)), 4)}


def keyword_thresholds(data: Data) -> Callable[[Floats], Sequence[float]]:
    true = data.targets.astype(bool)
    return lambda logits: tune_thresholds(true, sigmoid(logits)).tolist()


def score_judge(data: Data, taxonomy: Taxonomy) -> Judge:
    """`select` is the mean of accuracy and macro F1: the frequent scores and the rare ones both count."""
    scale = np.asarray(taxonomy.scores)

    def judge(logits: Floats) -> dict[str, float]:
        report = score_report(scale[data.targets], scale[logits.argmax(1)], taxonomy.scores)
        return {
            "select": round((report["accuracy"] + report["macro_f1"]) / 2, 4),
            **{k: report[k] for k in ("accuracy", "macro_f1", "mae")},
        }

    return judge


def class_weights(targets: Ints, classes: int, power: float) -> Floats | None:
    """[classes] weights frequency^-power, scaled to a mean of one over the rows; None where power is 0."""
    if not power:
        return None
    counts = np.bincount(targets, minlength=classes)
    weights = (counts.clip(1) / counts.sum()) ** -power
    return np.asarray(weights * counts.sum() / (weights * counts).sum(), np.float32)


def support(table: pa.Table) -> dict[str, int]:
    """How many reviews carry each keyword."""
    counts: Counter[Any] = Counter(label["keyword"] for labels in table["labels"].to_pylist() for label in labels)
    return dict(counts)
