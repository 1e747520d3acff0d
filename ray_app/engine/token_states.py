"""What an encoder makes of texts, token by token: for what learns on top of one that stays as it is.

In: an encoder, texts as token ids. Out: per text its token states.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ray_app.engine.batching import padded
from ray_app.engine.device import Device
from ray_app.engine.ragged import Sequences

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH = 50


def padded_forward(encoder: "PreTrainedModel", ids: Tensor, mask: Tensor, batching: str = "auto") -> Tensor:
    """[texts, length, hidden] states of ids and mask [texts, length]; what they are at padding means nothing.

    `batching`: how the encoder may be run, see `agreement.py`. Where padding changes its answers (`alone`), texts of
    one length go through it together and none is padded: in training as at inference.
    """
    lengths = mask.sum(1).tolist() if batching == "alone" else []
    if len(set(lengths)) < 2:
        states: Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states
    parts, rows = [], []
    for length in sorted(set(lengths)):
        same = [row for row, own in enumerate(lengths) if own == length]
        states = encoder(input_ids=ids[same, :length], attention_mask=mask[same, :length]).last_hidden_state
        parts.append(F.pad(states, (0, 0, 0, ids.shape[1] - length)))
        rows += same
    return torch.cat(parts)[torch.tensor(rows, device=ids.device).argsort()]


@torch.no_grad()
def token_states(
    encoder: "PreTrainedModel",
    sequences: Sequences,
    pad_id: int,
    device: Device,
    bf16: bool = False,
    batching: str = "auto",
) -> list[Tensor]:
    """Per sequence, special tokens among it, its states [tokens, hidden] on the device, in fp32; `bf16` runs the
    products in it. The encoder is left as it was, in training or not."""
    training = encoder.training
    encoder.to(device.torch_device).eval()
    order = np.argsort(sequences.lengths, kind="stable")  # hardly any padding
    states: list[Tensor] = [torch.empty(0)] * len(order)
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        ids, mask = (t.to(device.torch_device) for t in padded(sequences.take(rows), pad_id))
        with torch.autocast(device.torch_device.type, torch.bfloat16, enabled=bf16):
            hidden = padded_forward(encoder, ids, mask, batching).float()
        for row, one, length in zip(rows.tolist(), hidden, sequences.lengths[rows].tolist(), strict=True):
            states[row] = one[:length].clone()
    encoder.train(training)
    return states


def padded_states(states: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """[texts, length, hidden] in fp32, and the mask [texts, length]."""
    lengths = torch.tensor([len(one) for one in states])
    mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
    return pad_sequence(list(states), batch_first=True).float().to(device), mask.to(device)
