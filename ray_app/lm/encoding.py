"""Prompts and completions as token ids: encoded once, padded or packed into batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_app.arrays import Ints
from ray_app.engine.batching import batches
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer

IGNORED = -100  # the label of a token that does not count, as in transformers


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


@dataclass(frozen=True, kw_only=True)
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
    kept = len(wrapper.encode_fragment(tail))
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
    """`Tokenizer.encode_fragment` of many texts."""
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
    return Batch(ids=ids_, labels=labels_, positions=None if masked else positions_, mask=mask, row=row_)
