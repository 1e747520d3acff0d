"""Attention over sequences that lie end to end, without padding.

In: query, key, value per token, and the Layout of the sequences. Out: the mixed values. `grouped` runs torch's scaled
dot product attention once per run of equally long sequences; `varlen` runs one kernel over all of them (CUDA, half
precision). `choose` tells which of them a device has: by what runs and not by what was quicker once, so that all
workers of a run on like devices choose alike. A layer may have keys and values of a prefix, which every query sees
before those of its own sequence.
"""

import inspect
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ray_app.arrays import Ints
from ray_app.engine.ragged import offsets_of
from ray_app.errors import first_line

log = logging.getLogger(__name__)
Group = tuple[int, int, int, int]  # first sequence, first token, sequences, length of each


@dataclass(frozen=True)
class Layout:
    """Where the sequences of a batch lie among its tokens: `lengths` [n] in ascending order."""

    lengths: Ints
    device: torch.device
    kept: int = 0  # keys of a prefix before those of each sequence

    @cached_property
    def groups(self) -> list[Group]:
        """Runs of equally long sequences."""
        starts = np.flatnonzero(np.concatenate([[True], self.lengths[1:] != self.lengths[:-1]]))
        counts = np.diff(np.append(starts, len(self.lengths)))
        tokens = offsets_of(self.lengths)[starts]
        sizes = self.lengths[starts]
        return list(zip(starts.tolist(), tokens.tolist(), counts.tolist(), sizes.tolist(), strict=True))

    @cached_property
    def first(self) -> Tensor:
        """[n] the first token of each sequence."""
        return torch.from_numpy(offsets_of(self.lengths)[:-1]).to(self.device, non_blocking=True)

    @cached_property
    def bounds(self) -> Tensor:
        """[n + 1] int32 offsets of the tokens, as variable-length kernels need them."""
        return torch.from_numpy(offsets_of(self.lengths).astype(np.int32)).to(self.device, non_blocking=True)

    @cached_property
    def ones(self) -> Tensor:
        """[n + 1] int32 offsets of one query per sequence."""
        return torch.arange(len(self.lengths) + 1, dtype=torch.int32, device=self.device)

    @cached_property
    def key_bounds(self) -> Tensor:
        """[n + 1] `bounds` of the keys, those of a prefix among them."""
        return self.bounds + self.kept * self.ones

    @cached_property
    def key_order(self) -> Tensor:
        """[tokens + n * kept] where each key of each sequence lies in a prefix that the tokens' keys follow."""
        own = np.split(self.kept + np.arange(int(self.lengths.sum())), offsets_of(self.lengths)[1:-1])
        order = np.concatenate([part for tokens in own for part in (np.arange(self.kept), tokens)])
        return torch.from_numpy(order).to(self.device, non_blocking=True)


Kept = tuple[Tensor, Tensor]  # keys and values of a layer's prefix, [kept, heads, width] each
Attention = Callable[[Tensor, Tensor, Tensor, Layout, bool, Kept | None], Tensor]
# query, key, value [rows, heads, width] -> [query rows, heads, width]. Row t belongs to token t; where the flag is
# true, query row i is the only one of sequence i. Rows beyond the layout's fill up a shape: zeros come back


def grouped(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, single: bool, prefix: Kept | None = None
) -> Tensor:
    """One call per group of equal length. On a CPU a sequence's bits do not depend on the other sequences."""
    mixed = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    mixed[len(layout.lengths) if single else int(layout.lengths.sum()) :] = 0
    attend = _one_query if single else _all_queries
    for sequence, token, n, size in layout.groups:
        tokens = slice(token, token + n * size)
        rows = slice(sequence, sequence + n) if single else tokens
        k, v = (x[tokens].view(n, size, *x.shape[1:]) for x in (key, value))
        if prefix is not None:
            k, v = (torch.cat([kept.expand(n, *kept.shape), x], 1) for kept, x in zip(prefix, (k, v), strict=True))
        mixed[rows] = attend(query[rows].view(n, -1, *query.shape[1:]), k, v).flatten(0, 1)
    return mixed


def _all_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q, k, v and the result [n, size, heads, width]."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def _one_query(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [n, 1, heads, width]. By sums: torch's kernel gives one query other bits on another thread."""
    scores = (q * k).sum(-1) / math.sqrt(q.shape[-1])
    # over the last axis: elsewhere torch's softmax takes heads in vectors, and which ones depends on the other rows
    shares = scores.transpose(1, 2).contiguous().softmax(-1).transpose(1, 2)
    return (shares.unsqueeze(-1) * v).sum(1, keepdim=True)


def varlen(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, single: bool, prefix: Kept | None = None
) -> Tensor:
    """One kernel for the whole batch."""
    from torch.nn.attention.varlen import varlen_attn

    longest = int(layout.lengths[-1])
    bounds, most = (layout.ones, 1) if single else (layout.bounds, longest)
    if prefix is not None:
        key, value = (behind(kept, x, layout) for kept, x in zip(prefix, (key, value), strict=True))
        longest += layout.kept
    one = splits(query.device, query.shape[-1])
    mixed: Tensor = varlen_attn(query, key, value, bounds, layout.key_bounds, most, longest, **one)  # type: ignore[assignment, arg-type]
    return mixed


@cache
def splits(device: torch.device, width: int) -> dict[str, int]:
    """For heads of this width, what makes a sequence's result independent of its neighbors: `num_splits=1`. Torch 2.11
    does not know it, and 2.12 has it for some kernels only: those that do not split at all need no telling.

    Raises whatever torch does where no such kernel runs on this device, or none for this width: most know multiples of
    8 up to 256.
    """
    from torch.nn.attention.varlen import varlen_attn

    tokens = torch.zeros(8, 2, width, device=device, dtype=torch.bfloat16)
    bounds = torch.tensor([0, 3, 8], dtype=torch.int32, device=device)
    if "num_splits" in inspect.signature(varlen_attn).parameters:
        try:
            varlen_attn(tokens, tokens, tokens, bounds, bounds, 5, 5, num_splits=1)
        except RuntimeError:
            log.debug("varlen_attn does not take num_splits here", exc_info=True)
        else:
            return {"num_splits": 1}
    varlen_attn(tokens, tokens, tokens, bounds, bounds, 5, 5)
    return {}


def behind(kept: Tensor, own: Tensor, layout: Layout) -> Tensor:
    """The keys or values of each sequence behind those of a prefix, end to end, as `Layout.key_bounds` says."""
    return torch.cat([kept, own])[layout.key_order]


@cache
def choose(device: torch.device, dtype: torch.dtype, width: int = 64) -> Attention:
    """`grouped` on CPUs and in fp32; elsewhere `varlen` where this torch has it for this GPU and heads of this width,
    tried once a process."""
    if device.type != "cuda" or dtype == torch.float32:
        return grouped
    try:
        splits(device, width)
    except Exception as error:  # another torch, another card: any of its errors means that there is no such kernel
        log.warning("attention runs once per length, which is slower: torch's varlen_attn fails: %s", first_line(error))
        return grouped
    return varlen
