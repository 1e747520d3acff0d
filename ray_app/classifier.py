"""Token-id sequences in, logits out: the one place where a model runs, and where device, dtype and threads are chosen.

Sequences of a whole block are ordered by length and packed to a token budget, so that next to nothing is padding;
identical sequences run once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_app.config import check
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
    """A model in its place. Call it with Sequences to get logits [n, outputs] in fp32, in the order given."""

    def __init__(self, model: EncoderClassifier, placement: Placement, pad_id: int) -> None:
        self.model = model.to(placement.device, placement.dtype).eval()
        self.placement, self.pad_id = placement, pad_id
        self.tokens = 0  # how many tokens have run since the start, for throughput figures

    def __call__(self, sequences: Sequences) -> Floats:
        distinct, position = sequences.unique()
        logits = np.empty((len(distinct), self.model.head.out_features), np.float32)
        for rows in batches(distinct.lengths, self.placement.token_budget):
            logits[rows] = self._run(distinct.take(rows))
        self.tokens += len(distinct.ids)
        return np.asarray(logits[position])

    @torch.inference_mode()
    def _run(self, batch: Sequences) -> Floats:
        ids, mask = padded(batch, self.pad_id)
        device = self.placement.device
        return np.asarray(self.model(ids.to(device), mask.to(device)).float().cpu().numpy(), np.float32)


def batches(lengths: Ints, budget: int) -> Iterator[Ints]:
    """Row numbers in batches of similar length, each of at most `budget` tokens with padding (or one long row)."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        count = 1
        while start + count < len(order) and (count + 1) * lengths[order[start + count]] <= budget:
            count += 1
        yield order[start : start + count]
        start += count


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
