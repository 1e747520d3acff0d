"""Token-id sequences in, logits out: the one place where a model runs, and where device, dtype and threads are chosen.

Sequences of a whole block are ordered by length and packed to a token budget; identical sequences run once.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_app.config import check
from ray_app.flat import FlatClassifier, supports
from ray_app.model import EncoderClassifier
from ray_app.sequences import Floats, Ints, Sequences

CPU_TOKENS, CUDA_TOKENS = 1_024, 32_768  # a batch: CPUs like their caches, GPUs their occupancy


@dataclass(frozen=True)
class Placement:
    """Where a model runs and in which dtype."""

    device: torch.device
    dtype: torch.dtype
    token_budget: int


def place(device: str = "auto", threads: int = 0) -> Placement:
    """`auto` takes a GPU in bf16 where there is one, else the CPU in fp32. `threads` 0 leaves torch's own choice."""
    check(device in ("auto", "cpu", "cuda"), f"--device {device}: write auto, cpu or cuda")
    cuda = torch.cuda.is_available()
    check(device != "cuda" or cuda, "--device cuda: torch sees no GPU here; write --device cpu")
    if threads:
        torch.set_num_threads(threads)
    if cuda and device != "cpu":
        return Placement(torch.device("cuda"), torch.bfloat16, CUDA_TOKENS)
    return Placement(torch.device("cpu"), torch.float32, CPU_TOKENS)


class Classifier:
    """A model in its place. Call it with Sequences to get logits [n, outputs] in fp32, in the order given.

    Models of known families run flat (`flat.py`), others through the stock transformers forward with padding.
    """

    def __init__(self, model: EncoderClassifier, placement: Placement, pad_id: int, flat: bool = True) -> None:
        self.outputs, self.placement, self.pad_id = model.head.out_features, placement, pad_id
        self.flat = FlatClassifier(model, placement.device, placement.dtype) if flat and supports(model) else None
        self.stock = None if self.flat else model.to(placement.device, placement.dtype).eval()
        self.tokens = 0  # that have run so far, for throughput figures
        if flat and self.stock is not None:
            kind = model.encoder.config.model_type  # type: ignore[union-attr]
            logging.getLogger(__name__).warning("%s encoders run through transformers, with padding: slower", kind)

    def __call__(self, sequences: Sequences) -> Floats:
        distinct, position = sequences.unique()
        logits = np.empty((len(distinct), self.outputs), np.float32)
        for rows in batches(distinct.lengths, self.placement.token_budget, pad=self.flat is None):
            logits[rows] = self._run(distinct.take(rows)).float().cpu().numpy()
        self.tokens += len(distinct.ids)
        return np.asarray(logits[position])

    @torch.inference_mode()
    def _run(self, batch: Sequences) -> Tensor:
        if self.flat:
            return self.flat(batch)
        assert self.stock is not None
        ids, mask = padded(batch, self.pad_id)
        logits: Tensor = self.stock(ids.to(self.placement.device), mask.to(self.placement.device))
        return logits


def batches(lengths: Ints, budget: int, pad: bool = True) -> Iterator[Ints]:
    """Row numbers in ascending order of length, in batches of at most `budget` tokens (or one longer row).

    `pad` counts the padding to a batch's longest row too.
    """
    order = np.argsort(lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    start = 0
    while start < len(order):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + budget, "right")))
        while pad and stop > start + 1 and (stop - start) * lengths[order[stop - 1]] > budget:
            stop -= 1
        yield order[start:stop]
        start = stop


def padded(batch: Sequences, pad_id: int) -> tuple[Tensor, Tensor]:
    """ids and mask, both [n, longest]."""
    lengths = batch.lengths
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = batch.ids
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def sigmoid(logits: Floats) -> Floats:
    """[n, k] independent probabilities."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)


def softmax(logits: Floats) -> Floats:
    """[n, k] probabilities that sum to one over k."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True, initial=-np.inf))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float32)
