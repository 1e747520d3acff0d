"""What a classifier learns in the training loop: rows with targets, a loss a row.

In: token sequences, targets, a model. Out: the model with its best epoch's weights, and the history of epochs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.classifier import Classifier, Placement, padded
from ray_app.loop import Reporter, Settings, learn
from ray_app.model import EncoderClassifier
from ray_app.sequences import Floats, Ints, Sequences


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


@dataclass(frozen=True)
class ClassifierLesson:
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

    def validate(self, model: EncoderClassifier, placement: Placement) -> dict[str, float]:
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
    return learn(
        model, ClassifierLesson(train, validation, objective, score, pad_id), settings, report, resume, device, say
    )


@torch.no_grad()
def evaluate(model: EncoderClassifier, data: Data, placement: Placement, pad_id: int) -> Floats:
    """Validation logits, in fp32 weights whatever the device."""
    was_training = model.training
    logits = Classifier(model, Placement(placement.device, "fp32", placement.token_budget), pad_id)(data.sequences)
    model.train(was_training)
    return logits
