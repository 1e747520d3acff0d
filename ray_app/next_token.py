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

from ray_app.classifier import Placement, batches
from ray_app.loop import Settings, World
from ray_app.sequences import Floats, Ints, Sequences
from ray_app.tokens import Tokenizer

IGNORED = -100  # the label of a token that does not count, as in transformers
LOGITS = 2**28  # of a validation batch: a gigabyte in fp32, however large the vocabulary


@dataclass(frozen=True)
class Encoded:
    """n rows of prompt, completion and end of text; `begin` [n]: where the tokens that count begin, always from 1 up.

    `cut`: how many rows were longer than allowed.
    """

    sequences: Sequences
    begin: Ints
    cut: int = 0

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def terms(self) -> Ints:
        """[n] tokens that count."""
        return self.sequences.lengths - self.begin

    def take(self, rows: Ints) -> "Encoded":
        return Encoded(self.sequences.take(rows), self.begin[rows])


@dataclass(frozen=True)
class Batch:
    """Rows as a model takes them, all [lines, width]: padded (a row a line, a mask) or packed (end to end, positions).

    `labels` stand at their own token, not before it; `row`: which row a place belongs to, counted from 0 in the order
    given.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor | None
    mask: Tensor | None
    row: Tensor


def encode(
    tokenizer: Any,
    prompts: Sequence[str],
    completions: Sequence[str],
    max_length: int,
    tail: str = "",
    loss_on: str = "answer",
) -> Encoded:
    """Prompt and completion are tokenized apart, so that a prompt is the same tokens when there is no completion yet.

    Args:
        tail: the end of every prompt that stays when a prompt is cut (`Template.tail`).
        loss_on: `answer` counts completion and end of text, `all` also the prompt but for its first token.
    A row that is too long loses the middle of its prompt, down to half of `max_length`, then the completion's end.
    """
    wrapper = Tokenizer(tokenizer)
    kept = len(wrapper.piece(tail))
    rows, begin, cut = [], [], 0
    for prompt, completion in zip(prompt_ids(wrapper, prompts), _pieces(wrapper, completions), strict=True):
        answer = [*completion, tokenizer.eos_token_id]
        front = cut_prompt(prompt, kept, max(max_length - len(answer), max_length // 2))
        rows.append([*front, *answer][:max_length])
        cut += len(prompt) + len(answer) > max_length
        begin.append(max(1, len(front)) if loss_on == "answer" else 1)
    return Encoded(Sequences.of(rows), np.array(begin, np.int64), cut)


def prompt_ids(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """The tokens that generation starts from: what the tokenizer begins every text with, then the prompt."""
    return [[*tokenizer.prefix, *ids] for ids in _pieces(tokenizer, prompts)]


def _pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """`Tokenizer.piece` of many texts."""
    ready = [text.rstrip(" ") if tokenizer.own_space else text for text in texts]
    return [e.ids for e in tokenizer.hf.backend_tokenizer.encode_batch(ready, add_special_tokens=False)]


def cut_prompt(ids: list[int], tail: int, room: int) -> list[int]:
    """A prompt's first tokens and its last `tail` tokens, `room` together at most."""
    if len(ids) <= room:
        return ids
    tail = min(tail, room - 1)
    return ids[: room - tail] + ids[len(ids) - tail :]


def padded(rows: Encoded, pad_id: int) -> Batch:
    """A row a line."""
    return _laid_out(rows, [np.array([i]) for i in range(len(rows))], pad_id, masked=True)


def packed(rows: Encoded, pad_id: int, width: int) -> Batch:
    """Short rows end to end in lines of at most `width` tokens (or one longer row).

    Positions begin again at 0 with every row. From that, and from there being no mask, transformers knows where one row
    ends, and lets none attend to another; what fills a line up is rows of one token to it.
    """
    lines = batches(rows.sequences.lengths, width, pad=False)
    return _laid_out(rows, list(lines), pad_id, masked=False)


def _laid_out(rows: Encoded, lines: Sequence[Ints], pad_id: int, masked: bool) -> Batch:
    widths = [int(rows.sequences.lengths[line].sum()) for line in lines]
    shape = (len(lines), max(widths))
    ids, positions, row = np.full(shape, pad_id), np.zeros(shape, np.int64), np.full(shape, -1)
    labels = np.full(shape, IGNORED)
    for i, line in enumerate(lines):
        place = np.concatenate([np.arange(rows.sequences.lengths[j]) for j in line])
        owner = np.repeat(line, rows.sequences.lengths[line])
        tokens = rows.sequences.take(line).ids
        ids[i, : widths[i]], positions[i, : widths[i]], row[i, : widths[i]] = tokens, place, owner
        labels[i, : widths[i]] = np.where(place >= rows.begin[owner], tokens, IGNORED)
    mask = torch.from_numpy((row >= 0).astype(np.int64)) if masked else None
    ids_, labels_, positions_, row_ = map(torch.from_numpy, (ids, labels, positions, row))
    return Batch(ids_, labels_, None if masked else positions_, mask, row_)


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
def row_losses(model: Any, rows: Encoded, placement: Placement, pad_id: int) -> Floats:
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


@dataclass(frozen=True)
class NextToken:
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

    def validate(self, model: nn.Module, placement: Placement) -> dict[str, float]:
        """Workers share the rows; the loss is over the tokens of all of them."""
        world = World.current()
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
