"""Rows in batches of about equal token counts, and the padded tensors that a stock forward reads.

In: lengths or Sequences. Out: row numbers per batch; ids and mask.
"""

import bisect
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ray_app.arrays import Ints
from ray_app.engine.ragged import Sequences

GROUP = 32  # batches whose rows are sorted together by length: less padding, still random


def batches(lengths: Ints, budget: int, pad: bool = True) -> Iterator[Ints]:
    """Row numbers in ascending order of length, in batches of at most `budget` tokens (or one longer row).

    With `pad`, rows of a batch are of similar length, and padding to its longest row counts as tokens. Without, batches
    are full: the longest rows that are left, and shorter ones that fill the rest.
    """
    order = np.argsort(lengths, kind="stable")
    if pad:
        yield from (order[start:stop] for start, stop in _padded_runs(lengths[order], budget))
    else:
        yield from _full(lengths, order, budget)


def of_equal_length(lengths: Ints, budget: int) -> Iterator[Ints]:
    """The same where all rows of a batch have one length: nothing is padded, whatever runs it."""
    order = np.argsort(lengths, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        rows = max(1, budget // max(1, int(lengths[same[0]]))) if len(same) else 1
        yield from (same[start : start + rows] for start in range(0, len(same), rows))


def _full(lengths: Ints, order: Ints, budget: int) -> Iterator[Ints]:
    """First fit, longest first: nearly every batch has exactly `budget` tokens, so that products have one shape."""
    distinct, starts, counts = np.unique(lengths[order], return_index=True, return_counts=True)
    sizes, begin = distinct.tolist(), dict(zip(distinct.tolist(), starts.tolist(), strict=True))
    end = {size: begin[size] + count for size, count in zip(sizes, counts.tolist(), strict=True)}
    while sizes:
        picked: list[Ints] = []
        room, at = budget, len(sizes) - 1
        while at >= 0:
            size = sizes[at]
            count = min(end[size] - begin[size], max(room // size, 0 if picked else 1))
            end[size] -= count
            picked.append(order[end[size] : end[size] + count])
            room -= count * size
            if end[size] == begin[size]:
                sizes.pop(at)
            at = bisect.bisect_right(sizes, room) - 1
        yield np.concatenate(picked[::-1])


def _padded_runs(lengths: Ints, budget: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of runs of ascending lengths that stay within the budget when padded."""
    start = 0
    for stop in range(1, len(lengths) + 1):
        if stop == len(lengths) or (stop + 1 - start) * lengths[stop] > budget:
            yield start, stop
            start = stop


def padded(batch: Sequences, pad_id: int) -> tuple[Tensor, Tensor]:
    """ids and mask, both int64 [n, longest]; the mask is 0 on padding."""
    lengths = batch.lengths
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = batch.ids
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def global_batches(lengths: Ints, batch_size: int, epoch: int, seed: int) -> Iterator[Ints]:
    """Row numbers of every global batch of an epoch: random, similar lengths together, the same on every worker."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * GROUP):
        chunk = order[start : start + batch_size * GROUP]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    for i in rng.permutation(len(batches)):
        yield batches[i]
