"""What a teacher says of unlabeled reviews, kept so that students learn from it: its logits, attention, token states.

In: a bundle of the joint form, texts. Out: Lessons. The teacher reads every review once, however many passes and
students there are; a token takes about 1 KB of memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_app.engine.batching import padded
from ray_app.engine.device import Device
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.ragged import Sequences
from ray_app.engine.token_states import padded_forward
from ray_app.engine.tokenizer import Tokenizer
from ray_app.training.joined_reviews import connectors

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """Reviews, and what the teacher says of them.

    Args:
        sequences: n reviews with special tokens, as the models read them.
        logits: [n, keywords, outputs]: per keyword a logit per score, and last whether it is there.
        attention: per review [keywords, queries, tokens] the logarithm of the attention, in half precision.
        states: per review [tokens, hidden] the standardized token states, in half precision.
    """

    sequences: Sequences
    logits: Tensor
    attention: list[Tensor]
    states: list[Tensor]

    def __len__(self) -> int:
        return len(self.sequences)


def drawn_reviews(texts: Sequence[str], tokenizer: Tokenizer, max_length: int, join: float, seed: int) -> Sequences:
    """The texts with special tokens, and for a share `join` of them one more each that is joined with another text:
    feelings are mixed in those, as they seldom are."""
    rng = np.random.default_rng([seed, 1])
    room = tokenizer.max_review_tokens(max_length)
    reviews = tokenizer(texts).cut(room).sequences
    rows = [reviews.row(i).tolist() for i in range(len(reviews))]
    between = connectors(texts, tokenizer)
    joined = []
    for _ in range(round(join * len(rows))):
        first, second = (rows[int(i)] for i in rng.integers(0, len(rows), 2))
        both = [*first, *between[int(rng.integers(len(between)))], *second]
        if len(both) <= room:
            joined.append(both)
    return tokenizer.with_special_tokens(Sequences.of([*rows, *joined]), max_length)


@torch.no_grad()
def lessons(teacher: KeywordScorer, sequences: Sequences, pad_id: int, device: Device, bf16: bool) -> Lessons:
    """What the teacher says of reviews with special tokens; `bf16` runs its products in it."""
    teacher.to(device.torch_device).eval()
    head, order = teacher.head, np.argsort(sequences.lengths, kind="stable")  # hardly any padding
    outputs = head.out.out_features
    logits = torch.empty(len(sequences), head.keywords, outputs)
    attention: list[Tensor] = [torch.empty(0)] * len(sequences)
    states: list[Tensor] = [torch.empty(0)] * len(sequences)
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        ids, mask = (part.to(device.torch_device) for part in padded(sequences.take(rows), pad_id))
        with torch.autocast(device.torch_device.type, torch.bfloat16, enabled=bf16):
            hidden = padded_forward(teacher.encoder, ids, mask, teacher.batching).float()
        own, weights = head(hidden, mask)
        logits[rows] = own.view(len(rows), head.keywords, outputs).float().cpu()
        standardized = head.standardized(hidden)
        for at, (row, length) in enumerate(zip(rows.tolist(), sequences.lengths[rows].tolist(), strict=True)):
            attention[row] = weights[at, :, :, :length].half().cpu().clone()
            states[row] = standardized[at, :length].half().cpu().clone()
    return Lessons(sequences=sequences, logits=logits, attention=attention, states=states)
