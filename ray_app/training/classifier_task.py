"""The training tasks of the two classifiers: rows with targets, a loss per row, and what they are validated by.

In: labeled tables, a taxonomy, a tokenizer. Out: a ClassifierTask for `loop.train_model`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.arrays import Flags, Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.engine.batching import padded
from ray_app.engine.classifier import Classifier, sigmoid
from ray_app.engine.device import Device
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import ScorePrompt, Tokenizer
from ray_app.evaluation.metrics import best_micro_f1, score_report, tune_thresholds
from ray_app.labels.matrices import keyword_matrix, score_pairs
from ray_app.training.joined_reviews import Joining, joining, named_keywords
from ray_app.training.settings import Settings

Metrics = Callable[[Floats], dict[str, float]]  # validation logits [n, outputs] -> `select` and others


@dataclass(frozen=True)
class Data:
    """Sequences with targets: [n, outputs] zeros and ones for `multilabel`, [n] class numbers for `classes`."""

    sequences: Sequences
    targets: Floats | Ints

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True)
class Objective:
    """What is learned: `multilabel` (sigmoid, BCE) or `classes` (softmax, cross-entropy, optionally weighted)."""

    name: str
    kind: str
    class_weights: Floats | None = None

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """[n] one loss per row."""
        if self.kind == "multilabel":
            return F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none").sum(1)
        weights = None if self.class_weights is None else torch.as_tensor(self.class_weights, device=logits.device)
        return F.cross_entropy(logits, targets.long(), weight=weights, reduction="none")


@dataclass(kw_only=True)
class ClassifierTask:
    """A `loop.TrainingTask` in which every row is one term of the loss.

    `drawn`: the training rows of an epoch, as many as there are, where they are drawn anew. `encoder_rate`: learning
    rate of the encoder over the settings'.
    """

    train: Data
    validation: Data
    objective: Objective
    outputs: int
    metrics: Metrics
    pad_id: int
    drawn: Callable[[int], Data] | None = None
    encoder_rate: float = 1.0

    @property
    def name(self) -> str:
        """The classifier's: keywords or scores."""
        return self.objective.name

    @property
    def lengths(self) -> Ints:
        """[n] tokens of every training row."""
        return self.train.sequences.lengths

    @property
    def terms(self) -> Ints:
        """[n] ones."""
        return np.ones(len(self.train), np.int64)

    def begin_epoch(self, epoch: int) -> None:
        """Draws the epoch's rows, where they are drawn."""
        if self.drawn:
            self.train = self.drawn(epoch)

    def parts(self, model: EncoderClassifier, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """Encoder and head: the new linear layer may learn faster."""
        return (model.encoder, self.encoder_rate), (model.head, settings.head_start)

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The summed loss of these training rows."""
        ids, mask = (t.to(device) for t in padded(self.train.sequences.take(rows), self.pad_id))
        targets = torch.as_tensor(self.train.targets[rows]).to(device)
        return self.objective.losses(model(ids, mask).float(), targets).sum()

    def validate(self, model: EncoderClassifier, device: Device) -> dict[str, float]:
        """`metrics` of the validation rows."""
        return self.metrics(self.validation_logits(model, device))

    def validation_logits(self, model: EncoderClassifier, device: Device) -> Floats:
        """[n, outputs] of the validation rows."""
        return predict_logits(model, self.validation.sequences, device, self.pad_id)


@torch.no_grad()
def predict_logits(
    model: EncoderClassifier | KeywordScorer, sequences: Sequences, device: Device, pad_id: int
) -> Floats:
    """[n, outputs], with weights in fp32 on any device; the model stays in training mode if it is in it."""
    was_training = model.training
    logits = Classifier(model, replace(device, backend="fp32"), pad_id, quiet=True)(sequences)
    model.train(was_training)
    return logits


def keyword_task(
    train: pa.Table,
    validation: pa.Table,
    taxonomy: Taxonomy,
    tokenizer: Tokenizer,
    max_length: int,
    join: float = 0.0,
    seed: int = 0,
    draws: int = 0,
) -> ClassifierTask:
    """What the keyword classifier learns: which keywords a review speaks of. `join`: share of joined reviews."""
    held_out = keyword_data(validation, taxonomy, tokenizer, max_length)
    drawn = None
    if join:
        reviews = joining(train, taxonomy, tokenizer, max_length, join, seed, draws)
        drawn = partial(_joined_keywords, reviews, taxonomy, tokenizer, max_length)
    return ClassifierTask(
        train=keyword_data(train, taxonomy, tokenizer, max_length),
        validation=held_out,
        objective=Objective("keywords", "multilabel"),
        outputs=len(taxonomy.names),
        metrics=keyword_metrics(held_out.targets.astype(bool)),
        pad_id=tokenizer.pad_id,
        drawn=drawn,
    )


def _joined_keywords(reviews: Joining, taxonomy: Taxonomy, tokenizer: Tokenizer, max_length: int, epoch: int) -> Data:
    """An epoch's reviews; a joined one speaks of the keywords of both, and is about the whole of a review as any is."""
    rows, count = reviews.epoch(epoch), len(taxonomy.names)
    named = named_keywords(rows, count) | named_keywords(reviews.rows, count)
    sequences = tokenizer.with_special_tokens(Sequences.of([row.ids for row in rows]), max_length)
    return Data(sequences, named.astype(np.float32))


def score_task(
    train: pa.Table,
    validation: pa.Table,
    taxonomy: Taxonomy,
    prompt: ScorePrompt,
    max_length: int,
    balance: float,
    join: float = 0.0,
    seed: int = 0,
    draws: int = 0,
) -> ClassifierTask:
    """What the score classifier learns in its prompt form: the score of each keyword that a review's labels name.

    `balance` is the power of `class_weights`, `join` the share of labels that are read in a joined review.
    """
    drawn = None
    if join:
        reviews = joining(train, taxonomy, prompt.tokenizer, max_length, join, seed, draws)
        drawn = partial(_joined_scores, reviews, prompt, max_length)
    learned, held_out = (score_data(table, taxonomy, prompt, max_length) for table in (train, validation))
    weights = class_weights(learned.targets.astype(np.int64), len(taxonomy.scores), balance)
    return ClassifierTask(
        train=learned,
        validation=held_out,
        objective=Objective("scores", "classes", weights),
        outputs=len(taxonomy.scores),
        metrics=score_metrics(held_out.targets.astype(np.int64), taxonomy),
        pad_id=prompt.tokenizer.pad_id,
        drawn=drawn,
    )


def _joined_scores(reviews: Joining, prompt: ScorePrompt, max_length: int, epoch: int) -> Data:
    """An epoch's labels; of those about something in particular, a share is read in a joined review."""
    rng = reviews.drawn(epoch)
    texts, keywords, scores = [], [], []
    for row in reviews.rows:
        for label in row.labels:
            alone = label.keyword in reviews.overall or rng.random() >= reviews.share
            texts.append(row.ids if alone else reviews.joined(row, rng).ids)
            keywords.append(label.keyword)
            scores.append(label.score)
    prompts = prompt(Sequences.of(texts), np.array(keywords, np.int64), max_length)
    return Data(prompts, np.array(scores, np.int64))


def keyword_data(table: pa.Table, taxonomy: Taxonomy, tokenizer: Tokenizer, max_length: int) -> Data:
    """A review per row; targets [n, keywords]."""
    reviews = tokenizer(table["text"].to_pylist()).sequences
    return Data(tokenizer.with_special_tokens(reviews, max_length), keyword_matrix(table, taxonomy).astype(np.float32))


def score_data(table: pa.Table, taxonomy: Taxonomy, prompt: ScorePrompt, max_length: int) -> Data:
    """A prompt per label; targets [n] positions on the scale."""
    review, keyword, score = score_pairs(table, taxonomy)
    reviews = prompt.tokenizer(table["text"].to_pylist()).sequences
    return Data(prompt(reviews.take(review), keyword, max_length), score)


def keyword_metrics(true: Flags) -> Metrics:
    """`select` is the micro F1 over varying keywords of `true` [rows, keywords] at the best common threshold."""
    return lambda logits: {"select": round(best_micro_f1(true, sigmoid(logits)), 4)}


def keyword_thresholds(true: Flags, logits: Floats, known: Sequence[float] | None = None) -> list[float]:
    """Per keyword, tuned on rows whose keywords are `true` [rows, keywords]; `known`: see `tune_thresholds`."""
    thresholds: list[float] = tune_thresholds(true, sigmoid(logits), known).tolist()
    return thresholds


def score_metrics(true_positions: Ints, taxonomy: Taxonomy) -> Metrics:
    """`select` is the mean of accuracy and macro F1: the frequent scores and the rare ones both count.

    `true_positions` [labels]: places on the scale.
    """
    scale = np.asarray(taxonomy.scores)
    true = scale[true_positions]

    def metrics(logits: Floats) -> dict[str, float]:
        report = score_report(true, scale[logits.argmax(1)], taxonomy.scores)
        figures = {"accuracy": report["accuracy"], "macro_f1": report["macro_f1"], "mae": report["mae"]}
        known = {name: value for name, value in figures.items() if value is not None}  # all, where there is a label
        return {"select": round((known["accuracy"] + known["macro_f1"]) / 2, 4), **known}

    return metrics


def class_weights(targets: Ints, classes: int, power: float) -> Floats | None:
    """[classes] weights frequency^-power, scaled to a mean of one over the rows; None where power is 0."""
    if not power:
        return None
    counts = np.bincount(targets, minlength=classes)
    weights = (counts.clip(1) / counts.sum()) ** -power
    return np.asarray(weights * counts.sum() / (weights * counts).sum(), np.float32)
