"""Prompts and completions as token ids: encoded once, padded or packed into batches.

In: texts and a tokenizer. Out: `Encoded` rows, and from them `Batch`es as a model takes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ray_app.arrays import Ints
from ray_app.engine.batching import batches
from ray_app.engine.ragged import Sequences
from ray_app.errors import check
from ray_app.lm.prompt_tokens import PromptTokenizer, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORED = -100  # the label of a token that does not count, as in transformers


@dataclass(frozen=True)
class Encoded:
    """n rows of prompt, completion and end-of-text token.

    `begin` [n]: position of each row's first token that counts, at least 1. `cut`: how many rows were too long.
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
        """The named rows, in that order."""
        return Encoded(self.sequences.take(rows), self.begin[rows])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows as a model takes them, all tensors [lines, width].

    Padded: one row per line, with a mask. Packed: rows end to end, with positions.
    `labels[i, t]` is the label of token t itself, not of the next one; `row[i, t]` is the row it belongs to, counted
    from 0 in the order given, -1 for padding.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor | None
    mask: Tensor | None
    row: Tensor


def encode(
    tokenizer: "PreTrainedTokenizerFast",
    prompts: Sequence[Text],
    completions: Sequence[Text],
    max_length: int,
    tail: str = "",
    loss_on: str = "answer",
    virtual: Sequence[int] = (),
) -> Encoded:
    """Tokenizes prompt and completion apart, so that a prompt has the same tokens without its completion.

    The end-of-text token follows a completion that does not write it itself. A row that is too long loses the middle of
    its prompt, down to half of `max_length`, then the completion's end.

    Args:
        tail: the end of every prompt, which stays when a prompt is cut (`Template.tail`).
        loss_on: `answer` counts completion and end of text, `all` also the prompt except its first token and virtual
            ones.
        virtual: ids of the model's virtual tokens, with which every prompt begins.
    Raises: UserError where `max_length` leaves no room beside them.
    """
    wrapper, end = PromptTokenizer(tokenizer, virtual), tokenizer.eos_token_id
    tail_tokens = len(wrapper.own(tail))
    check(
        not virtual or wrapper.kept + tail_tokens < max_length // 2,
        f"--max-length {max_length}: half of it is for prompts, of which {wrapper.kept} tokens at the beginning, with "
        f"{len(virtual)} virtual ones, and {tail_tokens} at the end stay; write more, or fewer --virtual-tokens",
    )
    rows, begin, cut = [], [], 0
    for prompt, completion in zip(wrapper.prompts(prompts), wrapper(completions), strict=True):
        answer = completion if completion[-1:] == [end] else [*completion, end]
        front = cut_prompt(prompt, tail_tokens, max(max_length - len(answer), max_length // 2))
        rows.append([*front, *answer][:max_length])
        cut += len(prompt) + len(answer) > max_length
        begin.append(max(1, len(front) if loss_on == "answer" else wrapper.kept))
    return Encoded(Sequences.of(rows), np.array(begin, np.int64), cut)


def cut_prompt(ids: list[int], tail: int, room: int) -> list[int]:
    """A prompt's first tokens and its last `tail` tokens, at most `room` together."""
    if len(ids) <= room:
        return ids
    tail = min(tail, room - 1)
    return ids[: room - tail] + ids[len(ids) - tail :]


def padded(rows: Encoded, pad_id: int) -> Batch:
    """One row per line."""
    return _lay_out(rows, [np.array([i]) for i in range(len(rows))], pad_id, masked=True)


def packed(rows: Encoded, pad_id: int, width: int) -> Batch:
    """Short rows end to end in lines of at most `width` tokens (or one longer row).

    Positions restart at 0 with every row. From that, and from the missing mask, transformers tells where a row ends and
    lets no row attend to another; every padding token, at position 0 too, is to it a row of its own.
    """
    lines = batches(rows.sequences.lengths, width, pad=False)
    return _lay_out(rows, list(lines), pad_id, masked=False)


def _lay_out(rows: Encoded, lines: Sequence[Ints], pad_id: int, masked: bool) -> Batch:
    """`lines`: the rows of each line, in order."""
    widths = [int(rows.sequences.lengths[line].sum()) for line in lines]
    shape = (len(lines), max(widths))
    ids, positions, row = np.full(shape, pad_id), np.zeros(shape, np.int64), np.full(shape, -1)
    labels = np.full(shape, IGNORED)
    for i, line in enumerate(lines):
        position = np.concatenate([np.arange(rows.sequences.lengths[j]) for j in line])
        owner = np.repeat(line, rows.sequences.lengths[line])
        tokens = rows.sequences.take(line).ids
        ids[i, : widths[i]], positions[i, : widths[i]], row[i, : widths[i]] = tokens, position, owner
        labels[i, : widths[i]] = np.where(position >= rows.begin[owner], tokens, IGNORED)
    mask = torch.from_numpy((row >= 0).astype(np.int64)) if masked else None
    ids_, labels_, positions_, row_ = map(torch.from_numpy, (ids, labels, positions, row))
    return Batch(ids=ids_, labels=labels_, positions=None if masked else positions_, mask=mask, row=row_)
