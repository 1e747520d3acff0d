"""The training task of a student: to say of unlabeled reviews what its teacher says.

In: Lessons, labeled validation rows. Out: a StudentTask for `loop.train_model`. Four things are imitated: how probable
each keyword is; how the scores of each keyword are distributed, as much as the keyword is there; where both queries of
each keyword look, in the same measure; and the token states that all of it is read from (Jiao et al. 2020, TinyBERT,
arXiv:1909.10351, imitates states and attention; here attention is that of the keywords, not of the encoder).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ray_app.arrays import Ints
from ray_app.compression.targets import Lessons
from ray_app.engine.batching import padded
from ray_app.engine.device import Device
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.token_states import padded_forward
from ray_app.training.keyword_scores import KeywordScoreTask
from ray_app.training.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How much each of the four counts beside the keywords' own loss."""

    scores: float = 1.0
    attention: float = 0.3
    states: float = 10.0


@dataclass(kw_only=True)
class StudentTask:
    """A `loop.TrainingTask` in which every review is one term of the loss.

    `judge` has the labeled validation rows: it selects the best epoch, and tunes thresholds and calibration anew.
    """

    lessons: Lessons
    judge: KeywordScoreTask
    weights: Weights
    pad_id: int
    name = "student"

    @property
    def lengths(self) -> Ints:
        """[n] tokens of every review."""
        return self.lessons.sequences.lengths

    @property
    def terms(self) -> Ints:
        """[n] ones."""
        return np.ones(len(self.lessons), np.int64)

    def begin_epoch(self, epoch: int) -> None:
        """The reviews are the same in every epoch."""

    def parts(self, model: KeywordScorer, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """Encoder and head learn alike: both were trained."""
        return ((model, 1.0),)

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The summed loss of these reviews."""
        ids, mask = (part.to(device) for part in padded(self.lessons.sequences.take(rows), self.pad_id))
        scorer = cast(KeywordScorer, model)  # in this process alone: nothing wraps it
        states = padded_forward(scorer.encoder, ids, mask, scorer.batching)
        logits, attention = scorer.head(states, mask)
        wanted = torch.stack([self.lessons.logits[row] for row in rows]).to(device)
        total = imitation(logits.view(wanted.shape).float(), wanted, self.weights.scores)
        there = wanted[:, :, -1].sigmoid()
        total = total + self.weights.attention * self._attention(rows, attention, there)
        return total + self.weights.states * self._states(rows, scorer.head.standardized(states.float()), mask)

    def _attention(self, rows: Ints, attention: Tensor, there: Tensor) -> Tensor:
        """The summed cross-entropy between the teacher's attention and the student's logarithm of it [reviews,
        keywords, queries, length], less what it is at best."""
        shares = [self.lessons.attention[row].permute(2, 0, 1) for row in rows]
        wanted = pad_sequence(shares, batch_first=True, padding_value=-torch.inf).permute(0, 2, 3, 1)
        wanted = wanted.to(attention.device).float()
        share = wanted.exp()
        apart = (share * (wanted.clamp_min(-30.0) - attention[..., : share.shape[-1]].float())).sum(-1)
        return (apart.sum(2) * there).sum()

    def _states(self, rows: Ints, states: Tensor, mask: Tensor) -> Tensor:
        """The summed distance between the token states of teacher and student, each review's a mean over its tokens."""
        wanted = pad_sequence([self.lessons.states[row] for row in rows], batch_first=True).to(states.device).float()
        apart = F.smooth_l1_loss(states[:, : wanted.shape[1]], wanted, reduction="none").mean(2)
        real = mask[:, : wanted.shape[1]].to(apart.dtype)
        return ((apart * real).sum(1) / real.sum(1)).sum()

    def validate(self, model: KeywordScorer, device: Device) -> dict[str, float]:
        """Those of the labeled validation rows."""
        return self.judge.validate(model, device)


def imitation(logits: Tensor, wanted: Tensor, scores: float = 1.0) -> Tensor:
    """The summed loss of logits [reviews, keywords, outputs] against the teacher's: cross-entropy of whether keywords
    are there, and `scores` times that of their scores, as much as they are there; less what each is at best, so that
    it is 0 where both say the same."""
    there, told = wanted[..., -1].sigmoid(), wanted[..., -1]
    found = F.binary_cross_entropy_with_logits(logits[..., -1], there, reduction="sum")
    best = F.binary_cross_entropy_with_logits(told, there, reduction="sum")
    shares, own = wanted[..., :-1].softmax(-1), logits[..., :-1].log_softmax(-1)
    apart = (shares * (wanted[..., :-1].log_softmax(-1) - own)).sum(-1)
    return found - best + scores * (apart * there).sum()
