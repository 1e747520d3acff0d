"""Pre-trains a small encoder: masked tokens, ratings, and the hidden states of a teacher.

In: a student, a teacher or none, token sequences, a rating per sequence. Out: the student, trained in place, and the
mean losses of every epoch.

Per batch the student reads a masked copy and the teacher the clean text. The loss is the sum of: distance to the
teacher's standardized hidden states (every token, and their mean), masked-token prediction, and the review's rating
predicted from the mean. Without a teacher only the last two.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.arrays import Floats, Ints
from ray_app.engine.batching import batches, padded
from ray_app.engine.ragged import Sequences
from ray_app.progress import Pace

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LOG_SECONDS = 10.0
UNKNOWN = 3  # <unk> of the XLM-R family: what the teacher reads for a piece it lacks
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """An encoder to imitate, and [pieces] the id of each of the student's pieces in its vocabulary, -1 for none."""

    model: "PreTrainedModel"
    ids: Ints


@dataclass(frozen=True, kw_only=True)
class DistillationSettings:
    """How a student is trained; `batch_tokens` counts padding, `mask_share` is the share of tokens that are masked."""

    epochs: int
    batch_tokens: int
    learning_rate: float
    mask_share: float
    seed: int = 0


class Distiller:
    """A student, the heads it learns through, and the teacher it imitates, where there is one."""

    def __init__(
        self,
        student: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerFast",
        teacher: Teacher | None,
        settings: DistillationSettings,
        device: torch.device,
    ) -> None:
        self.tokenizer, self.settings, self.device = tokenizer, settings, device
        width = student.config.hidden_size
        teacher_width = teacher.model.config.hidden_size if teacher else 1
        self.heads = nn.ModuleDict(
            {
                "token": nn.Linear(width, teacher_width),
                "review": nn.Linear(width, teacher_width),
                "transform": nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)),
                "rating": nn.Linear(width, 1),
            }
        ).to(device)
        self.student = student.to(device).train()
        self.teacher = teacher.model.to(device).eval() if teacher else None
        self.teacher_ids = torch.from_numpy(teacher_reads(teacher)).to(device) if teacher else None
        self.moments: tuple[Tensor, Tensor] | None = None  # [width] mean and spread of the teacher's hidden states
        self.parameters = [*self.student.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, settings.learning_rate, weight_decay=0.01, betas=(0.9, 0.98)
        )

    def train(self, sequences: Sequences, ratings: Floats) -> list[dict[str, float]]:
        """Trains the student in place; returns the mean losses of each epoch.

        `ratings` [n] are 0 to 1, NaN where unknown.
        """
        rng = np.random.default_rng(self.settings.seed)
        plan = [list(_shuffled(sequences, self.settings.batch_tokens, rng)) for _ in range(self.settings.epochs)]
        steps = sum(map(len, plan))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / (0.05 * steps + 1), max(0.02, 1 - step / steps))
        )
        pace = Pace(LOG_SECONDS)
        history: list[dict[str, float]] = []
        for epoch, order in enumerate(plan, 1):
            sums: dict[str, Tensor] = {}
            for done, rows in enumerate(order, 1):
                losses = self._step(sequences.take(rows), torch.from_numpy(ratings[rows]).to(self.device))
                schedule.step()
                for name, loss in losses.items():
                    sums[name] = sums.get(name, 0) + loss
                if pace.due():
                    shown = as_line(_means(sums, done))
                    log.info("epoch %d %d/%d %s %.0f s", epoch, done, len(order), shown, pace.seconds)
            history.append(_means(sums, len(order)))
            log.info("epoch %d/%d %s %.0f s", epoch, len(plan), as_line(history[-1]), pace.seconds)
        return history

    def _step(self, batch: Sequences, rating: Tensor) -> dict[str, Tensor]:
        """One optimizer step; returns the batch's losses."""
        losses = self.losses(batch, rating)
        torch.autograd.backward(sum(losses.values(), torch.zeros((), device=self.device)))
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {name: loss.detach() for name, loss in losses.items()}

    def losses(self, batch: Sequences, rating: Tensor) -> dict[str, Tensor]:
        """The named losses of one batch; their sum is minimized. `rating` [n]: NaN where unknown."""
        ids, mask = (t.to(self.device, non_blocking=True) for t in padded(batch, self.tokenizer.pad_token_id))
        specials = (ids == self.tokenizer.bos_token_id) | (ids == self.tokenizer.eos_token_id)
        masked = (torch.rand(ids.shape, device=self.device) < self.settings.mask_share) & mask.bool() & ~specials
        shown = torch.where(masked, self.tokenizer.mask_token_id, ids)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            hidden = self.student(input_ids=shown, attention_mask=mask).last_hidden_state
            pooled = _mean(hidden, mask)
            losses = self._imitation(ids, mask, hidden, pooled)
            predicted = self.heads["transform"](hidden[masked]) @ self.student.get_input_embeddings().weight.T
            losses["masked"] = 0.2 * F.cross_entropy(predicted.float(), ids[masked])
            rated = torch.isfinite(rating)
            logit = self.heads["rating"](pooled).float().squeeze(-1)
            error = F.binary_cross_entropy_with_logits(logit, torch.nan_to_num(rating), reduction="none")
            losses["rating"] = 0.5 * (error * rated).sum() / rated.sum().clamp_min(1)
        return losses

    def _imitation(self, ids: Tensor, mask: Tensor, hidden: Tensor, pooled: Tensor) -> dict[str, Tensor]:
        """Distances to the teacher's hidden states, per token and of their mean; none without a teacher."""
        if self.teacher is None or self.teacher_ids is None:
            return {}
        real = mask.bool()
        with torch.no_grad():
            target = self.teacher(input_ids=self.teacher_ids[ids], attention_mask=mask).last_hidden_state.float()
            if self.moments is None:  # the first batch fixes each dimension's mean and spread
                self.moments = target[real].mean(0), target[real].std(0)
            target = (target - self.moments[0]) / self.moments[1]
        of_tokens = F.smooth_l1_loss(self.heads["token"](hidden[real]).float(), target[real])
        of_review = F.smooth_l1_loss(self.heads["review"](pooled).float(), _mean(target, mask))
        return {"tokens": of_tokens, "review": of_review * 4}


def teacher_reads(teacher: Teacher) -> Ints:
    """[pieces] what the teacher reads for each: its own id, also of <s> and </s>, and <unk> for a piece it lacks."""
    return np.where(teacher.ids < 0, UNKNOWN, teacher.ids)


def as_line(losses: dict[str, float]) -> str:
    """`masked 1.3401, rating 0.3183`."""
    return ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """[n, tokens, width] -> [n, width] over real tokens."""
    return (hidden * (mask.unsqueeze(-1) / mask.sum(1)[:, None, None])).sum(1)


def _means(sums: dict[str, Tensor], count: int) -> dict[str, float]:
    return {name: round(float(value) / count, 4) for name, value in sums.items()}


def _shuffled(sequences: Sequences, budget: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Batches of similar length in random order, drawn anew each epoch."""
    noisy = sequences.lengths + rng.integers(0, 4, len(sequences))  # so that batches differ from epoch to epoch
    order = list(batches(np.asarray(noisy), budget))
    for i in rng.permutation(len(order)):
        yield order[i]
