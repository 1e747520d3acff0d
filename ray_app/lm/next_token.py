"""What a causal language model learns in the training loop: the next token, of the answer alone or of the whole text.

In: prompts and completions, a tokenizer, a model. Out: encoded rows, losses, the teacher-forced view.
Losses are sums and means over tokens that count, never means of batch means; padding and, by default, the prompt never
count. Position t predicts token t + 1: everything here that compares the two shifts one of them.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.arrays import Floats, Ints
from ray_app.engine.batching import batches
from ray_app.engine.device import Device
from ray_app.lm.encoding import IGNORED, Batch, Encoded, packed, padded
from ray_app.training.loop import Rank, Settings

LOGITS = 2**28  # of a validation batch: a gigabyte in fp32, however large the vocabulary


def token_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """(losses, rows), both [tokens that count]: the cross-entropy of every such token and the row it belongs to.

    Logits are made only for the columns in which some token counts, which spares most of a large vocabulary's work
    where the answer is short.
    """
    device = next(model.parameters()).device
    counts = batch.labels[:, 1:] != IGNORED  # position t predicts token t + 1
    columns = counts.any(0).nonzero()[:, 0]
    options = {"attention_mask": batch.mask, "position_ids": batch.positions, "logits_to_keep": columns}
    given = {name: t.to(device) for name, t in options.items() if t is not None and accepts(model, name)}
    logits = model(input_ids=batch.ids.to(device), use_cache=False, **given).logits
    if "logits_to_keep" not in given:
        logits = logits[:, columns.to(device)]
    chosen = logits[counts[:, columns].to(device)].float()
    return F.cross_entropy(chosen, batch.labels[:, 1:][counts].to(device), reduction="none"), batch.row[:, 1:][counts]


def accepts(model: Any, option: str) -> bool:
    """Whether a model's forward takes an option; what wraps the model takes any."""
    inner = getattr(model, "module", model)  # data-parallel
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner  # with adapters
    return option in inspect.signature(inner.forward).parameters


@torch.no_grad()
def row_losses(model: Any, rows: Encoded, placement: Device, pad_id: int) -> Floats:
    """[n] summed loss of each row's tokens that count. Their sum over `terms.sum()` is the loss of the whole set, and
    exp of that its perplexity."""
    was_training = model.training
    model.eval()
    summed = np.zeros(len(rows), np.float64)
    budget = max(1, min(placement.token_budget, LOGITS // model.config.get_text_config().vocab_size))
    for chosen in batches(rows.sequences.lengths, budget):
        with torch.autocast(placement.device.type, torch.bfloat16, enabled=placement.dtype == torch.bfloat16):
            losses, row = token_losses(model, padded(rows.take(chosen), pad_id))
        np.add.at(summed, chosen[row.numpy()], losses.double().cpu().numpy())
    model.train(was_training)
    return np.asarray(summed, np.float32)


@torch.no_grad()
def teacher_forced(model: Any, ids: Sequence[int]) -> list[int]:
    """What the model would say next after each true token: entry t is its guess at `ids[t + 1]`, given `ids[: t + 1]`.

    So it stands beside `ids[1:]`, one place further than the logits it comes from; beside `ids` it would be off by
    one. It is not what the model writes by itself: for that, generate.
    """
    device = next(model.parameters()).device
    logits = model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False).logits
    guesses: list[int] = logits[0, :-1].argmax(-1).tolist()
    return guesses


@dataclass(frozen=True, kw_only=True)
class NextTokenTask:
    """A `loop.Lesson`: every token that counts is one term of the loss. `pack`: width of packed lines, 0 to pad."""

    name: str
    train: Encoded
    validation: Encoded
    pad_id: int
    pack: int = 0

    @property
    def lengths(self) -> Ints:
        return self.train.sequences.lengths

    @property
    def terms(self) -> Ints:
        return self.train.terms

    def parts(self, model: nn.Module, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        return ((model, 1.0),)

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        chosen = self.train.take(rows)
        batch = packed(chosen, self.pad_id, self.pack) if self.pack else padded(chosen, self.pad_id)
        return token_losses(model, batch)[0].sum()

    def validate(self, model: nn.Module, placement: Device) -> dict[str, float]:
        """Workers share the rows; the loss is over the tokens of all of them."""
        world = Rank.current()
        own = self.validation.take(np.arange(world.rank, len(self.validation), world.size))
        summed = float(row_losses(model, own, placement, self.pad_id).sum(dtype=np.float64)) if len(own) else 0.0
        loss = world.total(summed, placement.device) / int(self.validation.terms.sum())
        return {"validation_loss": loss, "perplexity": float(np.exp(min(loss, 80.0))), "select": -loss}


def keeps_rows_apart(model: Any, rows: Encoded, pad_id: int) -> bool:
    """True where packing changes no loss of this model: some architectures know nothing of rows within a line."""
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
    """Losses of two baselines that know only how often a token occurs: counted in training (plus one each), and
    counted in the validation rows themselves, which is their entropy and the least that any such model can reach."""
    seen, held = (np.bincount(_counted(rows), minlength=vocabulary) for rows in (train, validation))
    share = (seen + 1) / (seen + 1).sum()
    own = held / held.sum()
    return float(-(own * np.log(share)).sum()), float(-(own[own > 0] * np.log(own[own > 0])).sum())


def _counted(rows: Encoded) -> Ints:
    """The tokens that count, end to end."""
    lengths, offsets = rows.sequences.lengths, rows.sequences.offsets
    place = np.arange(len(rows.sequences.ids)) - np.repeat(offsets[:-1], lengths)
    return np.asarray(rows.sequences.ids[place >= np.repeat(rows.begin, lengths)])
