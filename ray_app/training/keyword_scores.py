"""The training task of a KeywordScorer: a review with all its labels is one row.

In: labeled tables, a taxonomy, a tokenizer. Out: a KeywordScoreTask for `loop.train_model`. Two things teach it to read
the keyword. *Evidence*: where labels have words, highlights or opinions, the attention of the keyword's queries is
drawn onto them. *Joined reviews*: a share of the rows, drawn anew each epoch, is two reviews with different keywords
made into one, so that a review's overall feeling no longer tells the score of every keyword.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.arrays import Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.engine.batching import padded
from ray_app.engine.device import Device
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
from ray_app.training.classifier_task import Metrics, class_weights, predict_logits, score_metrics
from ray_app.training.joined_reviews import Joining, LabeledTokens, joining, labeled_tokens
from ray_app.training.loop import Settings

HEAD_RATE = 1e-3  # learning rate of the attention, however slowly the encoder learns


@dataclass(kw_only=True)
class KeywordScoreTask:
    """A `loop.TrainingTask` in which every label is one term of the loss.

    Args:
        weights: [scores] of the cross-entropy, or None.
        evidence: weight of the attention's term; 0 asks nothing of it.
    """

    train: Joining
    validation: Sequence[LabeledTokens]
    metrics: Metrics
    tokenizer: Tokenizer
    max_length: int
    keywords: int
    scores: int
    weights: Floats | None
    evidence: float
    rows: list[LabeledTokens] = field(init=False)  # of this epoch

    def __post_init__(self) -> None:
        self.rows = list(self.train.rows)

    @property
    def name(self) -> str:
        """The classifier's."""
        return "scores"

    @property
    def lengths(self) -> Ints:
        """[n] tokens of every training row of this epoch."""
        return np.array([len(row.ids) for row in self.rows], np.int64)

    @property
    def terms(self) -> Ints:
        """[n] labels of every training row of this epoch."""
        return np.array([len(row.labels) for row in self.rows], np.int64)

    def begin_epoch(self, epoch: int) -> None:
        """Joins a share of the rows with others, by the seed."""
        self.rows = self.train.epoch(epoch)

    def parts(self, model: KeywordScorer, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """Encoder and head: queries that have yet to find their tokens learn at HEAD_RATE at least."""
        return (model.encoder, 1.0), (model.head, max(1.0, HEAD_RATE / settings.learning_rate))

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The summed loss of these rows' labels."""
        chosen = [self.rows[row] for row in rows]
        sequences = self.tokenizer.with_special_tokens(Sequences.of([row.ids for row in chosen]), self.max_length)
        ids, mask = (t.to(device) for t in padded(sequences, self.tokenizer.pad_id))
        logits, attention = model(ids, mask, attention=True)
        assert isinstance(logits, Tensor)
        review = torch.tensor([i for i, row in enumerate(chosen) for _ in row.labels], device=device)
        keyword = torch.tensor([label.keyword for row in chosen for label in row.labels], device=device)
        score = torch.tensor([label.score for row in chosen for label in row.labels], device=device)
        if not len(review):
            return logits.sum() * 0.0
        grid = logits.float().view(len(chosen), self.keywords, self.scores)[review, keyword]
        weights = None if self.weights is None else torch.as_tensor(self.weights, device=device)
        total: Tensor = F.cross_entropy(grid, score, weight=weights, reduction="none").sum()
        return total + self.evidence * self._evidence(chosen, attention[review, keyword])

    def _evidence(self, chosen: Sequence[LabeledTokens], attention: Tensor) -> Tensor:
        """The summed -log of the attention that lies on evidence; `attention` [labels, queries, length] is its
        logarithm."""
        wanted = torch.zeros(attention.shape, dtype=torch.bool)
        front = len(self.tokenizer.prefix)
        for i, label in enumerate(label for row in chosen for label in row.labels):
            for query, tokens in enumerate(label.evidence):
                wanted[i, query, tokens[tokens < wanted.shape[2] - front] + front] = True
        named = wanted.any(2)
        wanted, kept = wanted[named].to(attention.device), attention[named.to(attention.device)]
        return -kept.masked_fill(~wanted, -torch.inf).logsumexp(1).clamp_min(-15.0).sum()

    def validate(self, model: KeywordScorer, device: Device) -> dict[str, float]:
        """`metrics` of the validation labels."""
        return self.metrics(self.validation_logits(model, device))

    def validation_logits(self, model: KeywordScorer, device: Device) -> Floats:
        """[labels, scores]."""
        sequences = Sequences.of([row.ids for row in self.validation])
        sequences = self.tokenizer.with_special_tokens(sequences, self.max_length)
        logits = predict_logits(model, sequences, device, self.tokenizer.pad_id)
        grid = logits.reshape(len(self.validation), self.keywords, self.scores)
        review = [i for i, row in enumerate(self.validation) for _ in row.labels]
        keyword = [label.keyword for row in self.validation for label in row.labels]
        return np.asarray(grid[review, keyword])


def keyword_score_task(
    train: pa.Table,
    validation: pa.Table,
    taxonomy: Taxonomy,
    tokenizer: Tokenizer,
    max_length: int,
    balance: float,
    evidence: float,
    join: float,
    seed: int,
) -> KeywordScoreTask:
    """What the score classifier learns in its attention form. `balance` is the power of `class_weights`."""
    learned = joining(train, taxonomy, tokenizer, max_length, join, seed)
    held_out = labeled_tokens(validation, taxonomy, tokenizer, max_length)
    scores = np.array([label.score for row in learned.rows for label in row.labels], np.int64)
    true = np.array([label.score for row in held_out for label in row.labels], np.int64)
    return KeywordScoreTask(
        train=learned,
        validation=held_out,
        metrics=score_metrics(true, taxonomy),
        tokenizer=tokenizer,
        max_length=max_length,
        keywords=len(taxonomy.names),
        scores=len(taxonomy.scores),
        weights=class_weights(scores, len(taxonomy.scores), balance),
        evidence=evidence,
    )
