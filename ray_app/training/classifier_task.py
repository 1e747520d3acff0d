"""What a classifier learns in the training loop: rows with targets, a loss a row.

In: token sequences, targets, a model. Out: the model with its best epoch's weights, and the history of epochs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.arrays import Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.engine.batching import padded
from ray_app.engine.classifier import Classifier, sigmoid
from ray_app.engine.device import Device
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import ScorePrompt, Tokenizer
from ray_app.evaluation.metrics import best_micro_f1, score_report, tune_thresholds
from ray_app.labels.matrices import keyword_matrix, score_pairs
from ray_app.training.loop import Reporter, Settings, train_model


@dataclass(frozen=True)
class Data:
    """Sequences with targets: [n, outputs] floats for `multilabel`, [n] class numbers for `classes`."""

    sequences: Sequences
    targets: Any

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True)
class Objective:
    """What is learnt: `multilabel` (sigmoid, BCE) or `classes` (softmax, cross-entropy, optionally weighted)."""

    name: str
    kind: str
    class_weights: Floats | None = None

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """[n] one loss a row."""
        if self.kind == "multilabel":
            return F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none").sum(1)
        weights = None if self.class_weights is None else torch.as_tensor(self.class_weights, device=logits.device)
        return F.cross_entropy(logits, targets.long(), weight=weights, reduction="none")


@dataclass(frozen=True, kw_only=True)
class ClassifierTask:
    """A `loop.Lesson`: every row is one term of the loss."""

    train: Data
    validation: Data
    objective: Objective
    score: Callable[[Floats], dict[str, float]]
    pad_id: int

    @property
    def name(self) -> str:
        return self.objective.name

    @property
    def lengths(self) -> Ints:
        return self.train.sequences.lengths

    @property
    def terms(self) -> Ints:
        return np.ones(len(self.train), np.int64)

    def parts(self, model: EncoderClassifier, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """The new linear layer may learn faster than the encoder."""
        return (model.encoder, 1.0), (model.head, settings.head_start)

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        ids, mask = (t.to(device) for t in padded(self.train.sequences.take(rows), self.pad_id))
        targets = torch.as_tensor(self.train.targets[rows]).to(device)
        return self.objective.losses(model(ids, mask).float(), targets).sum()

    def validate(self, model: EncoderClassifier, placement: Device) -> dict[str, float]:
        return self.score(evaluate(model, self.validation, placement, self.pad_id))


def fit(
    model: EncoderClassifier,
    train: Data,
    validation: Data,
    objective: Objective,
    settings: Settings,
    score: Callable[[Floats], dict[str, float]],
    pad_id: int,
    report: Reporter,
    resume: Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Trains a classifier in place, see `loop.learn`.

    Args:
        score: validation logits [n, outputs] -> metrics; its `select` decides which epoch is best (higher is better).
    """
    return train_model(
        model,
        ClassifierTask(train=train, validation=validation, objective=objective, score=score, pad_id=pad_id),
        settings,
        report,
        resume,
        device,
        say,
    )


@torch.no_grad()
def evaluate(model: EncoderClassifier, data: Data, placement: Device, pad_id: int) -> Floats:
    """Validation logits, in fp32 weights whatever the device."""
    was_training = model.training
    logits = Classifier(model, Device(placement.device, "fp32", placement.token_budget), pad_id)(data.sequences)
    model.train(was_training)
    return logits


Judge = Callable[[Floats], dict[str, float]]


def keyword_data(table: pa.Table, taxonomy: Taxonomy, tokenizer: Tokenizer, max_length: int) -> Data:
    reviews = tokenizer(table["text"].to_pylist()).sequences
    return Data(tokenizer.with_special_tokens(reviews, max_length), keyword_matrix(table, taxonomy).astype(np.float32))


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
