"""Token-id sequences in, logits out: the one place where a model runs, and where device, backend, threads are chosen.

Sequences of a whole block are ordered by length and packed to a token budget; identical sequences run once.
"""

import bisect
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_app.config import check
from ray_app.flat import FlatClassifier, supports
from ray_app.linear import DTYPES, Backend, has_int8
from ray_app.model import EncoderClassifier
from ray_app.sequences import Floats, Ints, Sequences
from ray_app.work import Work, encoder_flops

CPU_TOKENS, CUDA_TOKENS = 2_048, 32_768  # a batch: CPUs like their caches, GPUs their occupancy
BACKENDS = ("auto", "fp32", "bf16", "int8")


@dataclass(frozen=True)
class Placement:
    """Where a model runs, with which arithmetic, and how many tokens at a time."""

    device: torch.device
    backend: Backend
    token_budget: int

    @property
    def dtype(self) -> torch.dtype:
        """Of activations."""
        return DTYPES[self.backend]


def place(device: str = "auto", threads: int = 0, backend: str = "auto") -> Placement:
    """`auto` takes a GPU in bf16 where there is one, else the CPU in fp32. `threads` 0 leaves torch's own choice."""
    check(device in ("auto", "cpu", "cuda"), f"--device {device}: write auto, cpu or cuda")
    check(backend in BACKENDS, f"backend {backend!r}: write {', '.join(BACKENDS)}")
    cuda = torch.cuda.is_available()
    check(device != "cuda" or cuda, "--device cuda: torch sees no GPU here; write --device cpu")
    on_gpu = cuda and device != "cpu"
    if threads:
        torch.set_num_threads(threads)
    if backend == "int8":
        check(not on_gpu, "backend int8 is for CPUs; on a GPU write bf16")
        check(has_int8(), "backend int8: this torch has no int8 product for this processor; write fp32")
    default: Backend = "bf16" if on_gpu else "fp32"
    chosen: Backend = default if backend == "auto" else backend  # type: ignore[assignment]
    return Placement(torch.device("cuda" if on_gpu else "cpu"), chosen, CUDA_TOKENS if on_gpu else CPU_TOKENS)


class Classifier:
    """A model in its place. Call it with Sequences to get logits [n, outputs] in fp32, in the order given.

    Models of known families run flat (`flat.py`), others through the stock transformers forward with padding.
    `work` counts what was run.
    """

    def __init__(
        self,
        model: EncoderClassifier,
        placement: Placement,
        pad_id: int,
        flat: bool = True,
        work: Work | None = None,
        probe: float = 0.0,
    ) -> None:
        self.outputs, self.placement, self.pad_id = model.head.out_features, placement, pad_id
        self.config = model.encoder.config
        self.work, self.probe = Work() if work is None else work, probe
        self.flat = FlatClassifier(model, placement.device, placement.backend) if flat and supports(model) else None
        self.stock = None if self.flat else model.to(placement.device, placement.dtype).eval()
        self.first_row_only = self.flat is not None and model.pooling == "first"
        if flat and self.stock is not None:
            kind = self.config.model_type  # type: ignore[union-attr]
            check(placement.backend != "int8", f"backend int8: not for {kind} encoders; write fp32")
            logging.getLogger(__name__).warning("%s encoders run through transformers, with padding: slower", kind)

    def __call__(self, sequences: Sequences, vectors: bool = False) -> Floats:
        """Logits; with `vectors` each sequence's pooled vector beside them, [n, outputs + hidden]."""
        began = time.perf_counter()
        distinct, position = sequences.unique()
        order = list(batches(distinct.lengths, self.placement.token_budget, pad=self.flat is None))
        # nothing waits for a GPU until all are under way
        found = [self._run(distinct.take(rows), vectors) for rows in order]
        width = self.outputs + int(self.config.hidden_size) * vectors  # type: ignore[union-attr, arg-type]
        logits = np.empty((len(distinct), width), np.float32)
        if found:
            logits[np.concatenate(order)] = torch.cat(found).float().cpu().numpy()
        self._count(len(sequences), distinct.lengths, time.perf_counter() - began)
        return np.asarray(logits[position])

    @torch.inference_mode()
    def _run(self, batch: Sequences, vectors: bool) -> Tensor:
        if self.flat:
            self.work.add(padding=self.flat.rows(len(batch.ids)) - len(batch.ids))
            return self.flat(batch, vectors)
        assert self.stock is not None
        ids, mask = padded(batch, self.pad_id)
        self.work.add(padding=ids.numel() - len(batch.ids))
        logits: Tensor = self.stock(ids.to(self.placement.device), mask.to(self.placement.device), vectors)
        return logits

    def _count(self, asked: int, lengths: Ints, seconds: float) -> None:
        flops = encoder_flops(self.config, self.outputs, lengths, self.first_row_only)
        tokens = int(lengths.sum())
        self.work.add(sequences=asked, sequences_run=len(lengths), tokens=tokens, flops=flops, seconds=seconds)
        if self.probe:
            self.work.add(gemm_seconds=flops / self.probe)


def batches(lengths: Ints, budget: int, pad: bool = True) -> Iterator[Ints]:
    """Row numbers in ascending order of length, in batches of at most `budget` tokens (or one longer row).

    With `pad` rows of a batch are of similar length, and padding to its longest row counts as tokens. Without, batches
    are full: the longest rows that are left, and shorter ones that fill the rest.
    """
    order = np.argsort(lengths, kind="stable")
    if pad:
        yield from (order[start:stop] for start, stop in _padded_runs(lengths[order], budget))
    else:
        yield from _full(lengths, order, budget)


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
    start = 0
    for stop in range(1, len(lengths) + 1):
        if stop == len(lengths) or (stop + 1 - start) * lengths[stop] > budget:
            yield start, stop
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
