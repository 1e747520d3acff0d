"""Token-id sequences in, logits out: the one place where a model runs, and where device, backend, threads are chosen.

Sequences of a whole block are ordered by length and packed to a token budget; identical sequences run once.
"""

import logging
import time

import numpy as np
import torch
from torch import Tensor

from ray_app.arrays import Floats, Ints
from ray_app.engine.batching import batches, padded
from ray_app.engine.device import Device
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.flops import WorkCounters, encoder_flops
from ray_app.engine.ragged import Sequences
from ray_app.engine.unpadded import UnpaddedClassifier, supports
from ray_app.errors import check


class Classifier:
    """A model in its place. Call it with Sequences to get logits [n, outputs] in fp32, in the order given.

    Models of known families run flat (`flat.py`), others through the stock transformers forward with padding.
    `work` counts what was run.
    """

    def __init__(
        self,
        model: EncoderClassifier,
        placement: Device,
        pad_id: int,
        flat: bool = True,
        work: WorkCounters | None = None,
        probe: float = 0.0,
    ) -> None:
        self.outputs, self.placement, self.pad_id = model.head.out_features, placement, pad_id
        self.config = model.encoder.config
        self.work, self.probe = WorkCounters() if work is None else work, probe
        self.flat = UnpaddedClassifier(model, placement.device, placement.backend) if flat and supports(model) else None
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


def sigmoid(logits: Floats) -> Floats:
    """[n, k] independent probabilities."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)


def softmax(logits: Floats) -> Floats:
    """[n, k] probabilities that sum to one over k."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True, initial=-np.inf))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float32)
