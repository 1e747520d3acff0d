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
from ray_app.training.classifier_task import (
    Metrics,
    class_weights,
    keyword_metrics,
    keyword_thresholds,
    predict_logits,
    score_metrics,
)
from ray_app.training.joined_reviews import (
    Joining,
    LabeledTokens,
    joining,
    labeled_tokens,
    labels_of,
    named_keywords,
)
from ray_app.training.settings import Settings

HEAD_RATE = 1e-3  # learning rate of a new head at least, however slowly the encoder learns
KNOWN_HEAD = 3e-4  # that of a head that was trained, or made by a reader


@dataclass(kw_only=True)
class KeywordScoreTask:
    """A `loop.TrainingTask` in which every label is one term of the loss; in the joint form also every row, for which
    keywords its labels name.

    Args:
        finds: whether the model also learns to find keywords (the joint form).
        head_rate: smallest learning rate of the head.
        encoder_rate: learning rate of the encoder over the settings'.
        signs: [scores] -1, 0 or 1.
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
    signs: Ints
    weights: Floats | None
    evidence: float
    finds: bool = False
    head_rate: float = HEAD_RATE
    encoder_rate: float = 1.0
    rows: list[LabeledTokens] = field(init=False)  # of this epoch

    def __post_init__(self) -> None:
        self.rows = list(self.train.rows)

    @property
    def name(self) -> str:
        """The model's."""
        return "joint" if self.finds else "scores"

    @property
    def lengths(self) -> Ints:
        """[n] tokens of every training row of this epoch."""
        return np.array([len(row.ids) for row in self.rows], np.int64)

    @property
    def terms(self) -> Ints:
        """[n] labels of every training row of this epoch, and one for the keywords that it names."""
        return np.array([len(row.labels) + self.finds for row in self.rows], np.int64)

    def begin_epoch(self, epoch: int) -> None:
        """Joins a share of the rows with others, by the seed."""
        self.rows = self.train.epoch(epoch)

    def parts(self, model: KeywordScorer, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """Encoder and head: queries that have yet to find their tokens learn faster."""
        return (model.encoder, self.encoder_rate), (model.head, max(1.0, self.head_rate / settings.learning_rate))

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The summed loss of these rows' labels."""
        chosen = [self.rows[row] for row in rows]
        sequences = self.tokenizer.with_special_tokens(Sequences.of([row.ids for row in chosen]), self.max_length)
        ids, mask = (t.to(device) for t in padded(sequences, self.tokenizer.pad_id))
        logits, attention = model(ids, mask, attention=True)
        return self.loss_of(chosen, logits.view(len(chosen), self.keywords, -1), attention)

    def loss_of(self, chosen: Sequence[LabeledTokens], grid: Tensor, attention: Tensor) -> Tensor:
        """The summed loss of these rows' labels, from logits [rows, keywords, outputs] and the logarithm of the
        attention [rows, keywords, queries, length]."""
        grid, device = grid.float(), grid.device
        review, keyword, score = (torch.from_numpy(part).to(device) for part in labels_of(chosen))
        total = self._finding(chosen, grid[:, :, -1]) if self.finds else grid.sum() * 0.0
        if not len(review):
            return total
        total = total + self._scoring(chosen, grid[review, keyword, : self.scores], score)
        return total + self.evidence * self._evidence(chosen, attention[review, keyword])

    def _scoring(self, chosen: Sequence[LabeledTokens], logits: Tensor, score: Tensor) -> Tensor:
        """The summed loss of the labels' scores; of a coarse one, of the scores with its sign together."""
        log_probabilities = logits.log_softmax(1)
        coarse = torch.tensor([label.coarse for row in chosen for label in row.labels], device=logits.device)
        exact = log_probabilities.gather(1, score[:, None])[:, 0]
        signs = torch.as_tensor(self.signs, device=logits.device)
        same = log_of_sign(log_probabilities, signs, signs[score])
        loss = -torch.where(coarse, same, exact)
        return (loss if self.weights is None else loss * torch.as_tensor(self.weights, device=loss.device)[score]).sum()

    def _finding(self, chosen: Sequence[LabeledTokens], logits: Tensor) -> Tensor:
        """The summed loss of [rows, keywords] whether the labels name a keyword. A joined row does not say whether it
        has a keyword about the whole of a review: nothing is asked of that."""
        named = torch.from_numpy(named_keywords(chosen, self.keywords)).to(logits.device, torch.float32)
        asked = torch.ones_like(named)
        for i, row in enumerate(chosen):
            if row.joined:
                asked[i, sorted(self.train.overall)] = 0
            if row.asked is not None:
                asked[i] = 0
                asked[i, sorted(row.asked - self.train.overall)] = 1
        return F.binary_cross_entropy_with_logits(logits, named, weight=asked, reduction="sum")

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
        """`metrics` of the validation labels; in the joint form `select` is the mean of both tasks'."""
        grid = self.validation_logits(model, device)
        review, keyword, _ = labels_of(self.validation)
        scores = self.metrics(grid[review, keyword, : self.scores])
        if not self.finds:
            return scores
        found = keyword_metrics(named_keywords(self.validation, self.keywords))(grid[:, :, -1])["select"]
        return {**scores, "keywords_f1": found, "select": round((found + scores["select"]) / 2, 4)}

    def validation_logits(self, model: KeywordScorer, device: Device) -> Floats:
        """[rows, keywords, outputs]."""
        sequences = Sequences.of([row.ids for row in self.validation])
        sequences = self.tokenizer.with_special_tokens(sequences, self.max_length)
        logits = predict_logits(model, sequences, device, self.tokenizer.pad_id)
        return logits.reshape(len(self.validation), self.keywords, -1)

    def validation_scores(self, model: KeywordScorer, device: Device) -> tuple[Floats, Ints]:
        """[labels, scores] logits of the validation labels, and [labels] their scores."""
        review, keyword, score = labels_of(self.validation)
        return self.validation_logits(model, device)[review, keyword, : self.scores], score

    def thresholds(self, model: KeywordScorer, device: Device, known: Sequence[float] | None = None) -> list[float]:
        """Per keyword, tuned on the validation rows; none where the model does not find keywords. `known`: what they
        were before it was trained further."""
        if not self.finds:
            return []
        named = named_keywords(self.validation, self.keywords)
        return keyword_thresholds(named, self.validation_logits(model, device)[:, :, -1], known)


def log_of_sign(log_probabilities: Tensor, signs: Tensor, wanted: Tensor) -> Tensor:
    """[labels] the logarithm of the probability of a score with the sign `wanted` [labels], from those of the scores
    [labels, scores], whose `signs` [scores] are -1, 0 or 1."""
    return log_probabilities.masked_fill(signs[None, :] != wanted[:, None], -torch.inf).logsumexp(1)


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
    finds: bool = False,
    head_rate: float = HEAD_RATE,
    encoder_rate: float = 1.0,
    draws: int = 0,
) -> KeywordScoreTask:
    """What a model whose keywords attend learns. `balance` is the power of `class_weights`."""
    learned = joining(train, taxonomy, tokenizer, max_length, join, seed, draws)
    held_out = labeled_tokens(validation, taxonomy, tokenizer, max_length)
    (_, _, scores), (_, _, true) = labels_of(learned.rows), labels_of(held_out)
    return KeywordScoreTask(
        train=learned,
        validation=held_out,
        metrics=score_metrics(true, taxonomy),
        tokenizer=tokenizer,
        max_length=max_length,
        keywords=len(taxonomy.names),
        scores=len(taxonomy.scores),
        signs=np.sign(np.array(taxonomy.scores, np.int64)),
        weights=class_weights(scores, len(taxonomy.scores), balance),
        evidence=evidence,
        finds=finds,
        head_rate=head_rate,
        encoder_rate=encoder_rate,
    )
