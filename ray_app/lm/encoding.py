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
from ray_app.engine.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ray_app.lm.templates import Template

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
    prompts: Sequence[str],
    completions: Sequence[str],
    max_length: int,
    tail: str = "",
    loss_on: str = "answer",
) -> Encoded:
    """Tokenizes prompt and completion apart, so that a prompt has the same tokens without its completion.

    A row that is too long loses the middle of its prompt, down to half of `max_length`, then the completion's end.

    Args:
        tail: the end of every prompt, which stays when a prompt is cut (`Template.tail`).
        loss_on: `answer` counts completion and end of text, `all` also the prompt except its first token.
    """
    wrapper = Tokenizer(tokenizer)
    tail_tokens = len(wrapper.encode_fragment(tail))
    rows, begin, cut = [], [], 0
    for prompt, completion in zip(prompt_ids(wrapper, prompts), _fragment_ids(wrapper, completions), strict=True):
        answer = [*completion, tokenizer.eos_token_id]
        front = cut_prompt(prompt, tail_tokens, max(max_length - len(answer), max_length // 2))
        rows.append([*front, *answer][:max_length])
        cut += len(prompt) + len(answer) > max_length
        begin.append(max(1, len(front)) if loss_on == "answer" else 1)
    return Encoded(Sequences.of(rows), np.array(begin, np.int64), cut)


def marks_in(template: "Template", tokenizer: "PreTrainedTokenizerFast") -> str:
    """What is wrong with a template that writes the model's own special tokens; "" where it does not.

    Whoever writes `</s>` in a review must not end it, so all of a prompt is plain text, the template's words too.
    """
    written = f"{template.prompt_format} {template.completion_format}"
    found = [name for name in tokenizer.all_special_tokens if name in written]
    return (
        f"template {template.name!r}: {', '.join(found)} are special tokens of this model; in a template they are read "
        "letter by letter, as in reviews: leave them out"
        if found
        else ""
    )


def prompt_ids(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """The tokens that generation starts from: the tokenizer's own first tokens, then the prompt."""
    return [[*tokenizer.prefix, *ids] for ids in _fragment_ids(tokenizer, prompts)]


def _fragment_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """`Tokenizer.encode_fragment` of many texts."""
    stripped = [text.rstrip(" ") if tokenizer.own_space else text for text in texts]
    return [ids for ids, _ in tokenizer.plain(stripped)]


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
