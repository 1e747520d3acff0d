"""The training task of a causal language model: to predict the next token, of the answer alone or of the whole text.

In: encoded rows and a model. Out: losses, and the task as the training loop takes it.
Losses are sums and means over tokens that count, never means of batch means; padding and, by default, the prompt never
count. Position t predicts token t + 1: everything here that compares the two shifts one of them.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.arrays import Floats, Ints
from ray_app.engine.batching import batches
from ray_app.engine.device import Device
from ray_app.lm.encoding import IGNORED, Batch, Encoded, packed, padded
from ray_app.training.loop import EpochRow, Rank
from ray_app.training.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGITS = 2**28  # the most logits of a validation batch: a gigabyte in fp32, however large the vocabulary


class LMMetrics(EpochRow):
    """`metrics` of nunchi_lm.json: the kept epoch's, and two losses from token frequencies alone (see `unigram`)."""

    unigram_loss: float
    unigram_entropy: float


def token_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """(losses, rows), both [tokens that count]: the cross-entropy of every such token and the row it belongs to.

    Logits are computed only for columns in which some token counts: with short answers and a large vocabulary they are
    most of the work.
    """
    device = next(model.parameters()).device
    counts = batch.labels[:, 1:] != IGNORED  # position t predicts token t + 1
    columns = counts.any(0).nonzero()[:, 0]
    options = {"attention_mask": batch.mask, "position_ids": batch.positions, "logits_to_keep": columns}
    accepted = {name: t.to(device) for name, t in options.items() if t is not None and accepts(model, name)}
    logits = model(input_ids=batch.ids.to(device), use_cache=False, **accepted).logits
    if "logits_to_keep" not in accepted:
        logits = logits[:, columns.to(device)]
    chosen = logits[counts[:, columns].to(device)].float()
    return F.cross_entropy(chosen, batch.labels[:, 1:][counts].to(device), reduction="none"), batch.row[:, 1:][counts]


def accepts(model: nn.Module, option: str) -> bool:
    """Whether a model's forward takes an option. Wrappers take any, so the model inside is asked."""
    inner = getattr(model, "module", model)  # of DistributedDataParallel
    inner = getattr(inner, "get_base_model", lambda: inner)()  # of adapters
    return option in inspect.signature(inner.forward).parameters


@torch.no_grad()
def row_losses(model: "PreTrainedModel", rows: Encoded, device: Device, pad_id: int) -> Floats:
    """[n] summed loss of each row's tokens that count.

    Their sum divided by `rows.terms.sum()` is the loss of the whole set, and exp of that its perplexity.
    """
    was_training = model.training
    model.eval()
    summed = np.zeros(len(rows), np.float64)
    budget = max(1, min(device.token_budget, LOGITS // model.config.get_text_config().vocab_size))
    for chosen in batches(rows.sequences.lengths, budget):
        with torch.autocast(device.torch_device.type, torch.bfloat16, enabled=device.dtype == torch.bfloat16):
            losses, row = token_losses(model, padded(rows.take(chosen), pad_id))
        np.add.at(summed, chosen[row.numpy()], losses.double().cpu().numpy())
    model.train(was_training)
    return np.asarray(summed, np.float32)


@dataclass(frozen=True, kw_only=True)
class NextTokenTask:
    """A `TrainingTask` in which every token that counts is one term. `pack`: width of packed lines, 0 to pad."""

    name: str
    train: Encoded
    validation: Encoded
    pad_id: int
    pack: int = 0

    @property
    def lengths(self) -> Ints:
        """[n] tokens of every training row."""
        return self.train.sequences.lengths

    @property
    def terms(self) -> Ints:
        """[n] tokens that count of every training row."""
        return self.train.terms

    def begin_epoch(self, epoch: int) -> None:
        """Rows stay as they are."""

    def parts(self, model: nn.Module, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """The whole model, at the learning rate of the settings."""
        return ((model, 1.0),)

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The summed loss of these training rows."""
        chosen = self.train.take(rows)
        batch = packed(chosen, self.pad_id, self.pack) if self.pack else padded(chosen, self.pad_id)
        return token_losses(model, batch)[0].sum()

    def validate(self, model: nn.Module, device: Device) -> dict[str, float]:
        """Loss and perplexity over the tokens of all validation rows, each worker computing its share of the rows."""
        world = Rank.current()
        own = self.validation.take(np.arange(world.rank, len(self.validation), world.size))
        summed = float(row_losses(model, own, device, self.pad_id).sum(dtype=np.float64)) if len(own) else 0.0
        loss = world.total(summed, device.torch_device) / int(self.validation.terms.sum())
        return {"validation_loss": loss, "perplexity": float(np.exp(min(loss, 80.0))), "select": -loss}


def keeps_rows_apart(model: nn.Module, rows: Encoded, pad_id: int) -> bool:
    """True where packing changes no loss of this model: some architectures let packed rows attend to each other."""
    if not accepts(model, "position_ids"):
        return False
    some = rows.take(np.arange(min(4, len(rows))))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        apart, together = (
            torch.zeros(len(some)).index_add(0, row, losses.float().cpu())
            for losses, row in (
                token_losses(model, padded(some, pad_id)),
                token_losses(model, packed(some, pad_id, int(some.sequences.lengths.sum()))),
            )
        )
    model.train(was_training)
    return torch.allclose(apart, together, rtol=1e-3, atol=1e-3)


def unigram(train: Encoded, validation: Encoded, vocabulary: int) -> tuple[float, float]:
    """Validation losses of two baselines that know only how often each token occurs.

    The first counts the training rows (plus one per token). The second counts the validation rows themselves: that is
    their entropy, and the least that any such model can reach.
    """
    counts, own_counts = (np.bincount(_counted_tokens(rows), minlength=vocabulary) for rows in (train, validation))
    share = (counts + 1) / (counts + 1).sum()
    own = own_counts / own_counts.sum()
    return float(-(own * np.log(share)).sum()), float(-(own[own > 0] * np.log(own[own > 0])).sum())


def _counted_tokens(rows: Encoded) -> Ints:
    """The tokens that count, end to end."""
    lengths, offsets = rows.sequences.lengths, rows.sequences.offsets
    position = np.arange(len(rows.sequences.ids)) - np.repeat(offsets[:-1], lengths)
    return np.asarray(rows.sequences.ids[position >= np.repeat(rows.begin, lengths)])
