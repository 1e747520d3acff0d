"""The one place where a classifier runs. In: token-id sequences. Out: logits, and their probabilities.

Sequences of a whole block are ordered by length and packed to a token budget; identical sequences run once.
"""

import copy
import logging
import time

import numpy as np
import torch
from scipy import special
from torch import Tensor

from ray_app.arrays import Floats, Ints
from ray_app.engine.batching import batches, of_equal_length, padded
from ray_app.engine.device import Device
from ray_app.engine.device_faults import within_memory
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.flops import WorkCounters, encoder_flops
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.ragged import Sequences, expand_ranges
from ray_app.engine.unpadded import UnpaddedClassifier, supports
from ray_app.errors import check

log = logging.getLogger(__name__)


class Classifier:
    """A model on its device. Call it with Sequences to get logits [n, outputs] in fp32, in the order given.

    Args:
        flat: run models of known families without padding (`unpadded.py`); others, those whose `batching` says so, and
            with False all, run through the stock transformers forward.
        work: counts what is run.
        probe: FLOP/s of a GEMM to compare with; 0 compares nothing.
        quiet: say nothing of a slower way.
    """

    def __init__(
        self,
        model: EncoderClassifier | KeywordScorer,
        device: Device,
        pad_id: int,
        flat: bool = True,
        work: WorkCounters | None = None,
        probe: float = 0.0,
        quiet: bool = False,
    ) -> None:
        self.outputs, self.device, self.pad_id = model.head.out_features, device, pad_id
        self.queries = len(model.head.query) if isinstance(model, KeywordScorer) else 0
        self.config = model.encoder.config
        self.work, self.probe = WorkCounters() if work is None else work, probe
        self.alone = model.batching == "alone"
        unpadded = flat and model.batching == "auto" and supports(model)
        self.flat = UnpaddedClassifier(model, device.torch_device, device.backend) if unpadded else None
        self.stock = None if self.flat else model.to(device.torch_device, device.dtype).eval()
        self.first_row_only = self.flat is not None and model.pooling == "first"
        if flat and self.stock is not None:
            kind = self.config.model_type
            check(device.backend != "int8", f"backend int8: not for {kind} encoders; write fp32")
            if not quiet:
                log.warning("%s encoders run through transformers, %s: slower", kind, self._how())

    @within_memory
    def __call__(self, sequences: Sequences, vectors: bool = False) -> Floats:
        """Logits; with `vectors` each sequence's pooled vector beside them, [n, outputs + hidden]."""
        began = time.perf_counter()
        distinct, position = sequences.unique()
        order = self._batches(distinct.lengths)
        # results stay on the device until all batches are queued, so nothing waits for a GPU in between
        outputs = [self._run(distinct.take(rows), vectors) for rows in order]
        width = self.outputs + int(self.config.hidden_size) * vectors
        logits = np.empty((len(distinct), width), np.float32)
        if outputs:
            logits[np.concatenate(order)] = torch.cat(outputs).float().cpu().numpy()
        self._count(len(sequences), distinct.lengths, time.perf_counter() - began)
        return np.asarray(logits[position])

    @within_memory
    def attended(self, sequences: Sequences) -> tuple[Floats, Floats]:
        """Of a KeywordScorer: logits [n, outputs], and [tokens, queries of all keywords] the share of each query's
        attention that lies on a token of its sequence, in the order given."""
        began = time.perf_counter()
        distinct, position = sequences.unique()
        order = self._batches(distinct.lengths)
        outputs = [self._run_attended(distinct.take(rows)) for rows in order]
        logits = np.empty((len(distinct), self.outputs), np.float32)
        attention = np.empty((len(distinct.ids), self.queries), np.float32)
        for rows, (own, weights) in zip(order, outputs, strict=True):
            logits[rows] = own.float().cpu().numpy()
            attention[_tokens_of(distinct, rows)] = weights.float().cpu().numpy()
        self._count(len(sequences), distinct.lengths, time.perf_counter() - began)
        return logits[position], attention[_tokens_of(distinct, position)]

    def twin(self, work: WorkCounters) -> "Classifier":
        """The same model for another thread, which counts its own work and keeps its own token budget."""
        twin = copy.copy(self)
        twin.work = work
        return twin

    def _how(self) -> str:
        return "texts of one length at a time" if self.alone else "with padding"

    def _batches(self, lengths: Ints) -> list[Ints]:
        """Rows that run together."""
        budget = self.device.token_budget
        if self.alone:
            return list(of_equal_length(lengths, budget)) if len(lengths) else []
        return list(batches(lengths, budget, pad=self.flat is None))

    @torch.inference_mode()
    def _run_attended(self, batch: Sequences) -> tuple[Tensor, Tensor]:
        if self.flat:
            self.work.add(padding=self.flat.rows(len(batch.ids)) - len(batch.ids))
            return self.flat.attended(batch)
        assert self.stock is not None
        ids, mask = self._padded(batch)
        logits, attention = self.stock(ids, mask, attention=True)
        return logits, attention.exp().flatten(1, 2).transpose(1, 2)[mask.bool()]

    @torch.inference_mode()
    def _run(self, batch: Sequences, vectors: bool) -> Tensor:
        if self.flat:
            self.work.add(padding=self.flat.rows(len(batch.ids)) - len(batch.ids))
            return self.flat(batch, vectors)
        assert self.stock is not None
        logits: Tensor = self.stock(*self._padded(batch), vectors)
        return logits

    def _padded(self, batch: Sequences) -> tuple[Tensor, Tensor]:
        """Ids and mask on the device; the padding is counted."""
        ids, mask = padded(batch, self.pad_id)
        self.work.add(padding=ids.numel() - len(batch.ids))
        return ids.to(self.device.torch_device), mask.to(self.device.torch_device)

    def _count(self, sequences: int, lengths: Ints, seconds: float) -> None:
        """`lengths` [distinct sequences]."""
        flops = encoder_flops(self.config, self.outputs, lengths, self.first_row_only)
        tokens = int(lengths.sum())
        self.work.add(sequences=sequences, sequences_run=len(lengths), tokens=tokens, flops=flops, seconds=seconds)
        if self.probe:
            self.work.add(gemm_seconds=flops / self.probe)


def _tokens_of(sequences: Sequences, rows: Ints) -> Ints:
    """Where the tokens of these rows lie, row by row."""
    return expand_ranges(sequences.offsets[:-1][rows], sequences.lengths[rows])


def sigmoid(logits: Floats) -> Floats:
    """[n, k] independent probabilities, computed in fp64."""
    return np.asarray(special.expit(logits.astype(np.float64)), np.float32)


def softmax(logits: Floats) -> Floats:
    """[n, k] probabilities that sum to one over k, computed in fp64."""
    return np.asarray(special.softmax(logits.astype(np.float64), axis=1), np.float32)
