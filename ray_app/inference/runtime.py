"""What the stages of one process share: bundle, tokenizer and classifiers, each loaded at most once."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ray_app.arrays import Floats
from ray_app.engine.classifier import Classifier, sigmoid
from ray_app.engine.device import Device, choose_device
from ray_app.engine.encoder import load_model
from ray_app.engine.flops import WorkCounters, measure_gemm_flops
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import TokenizedReviews, Tokenizer
from ray_app.errors import check
from ray_app.inference import bundle as bundles
from ray_app.inference.bundle import Bundle
from ray_app.inference.masking import DECIMALS

NO_RECHECK = "--highlights recheck is for CPUs: on a GPU bf16 is as quick as its shortlist; write exact"


class BundleRuntime:
    """A bundle ready to run. `work` counts what its classifiers and stages do; `probe` compares that with a GEMM."""

    def __init__(self, bundle: str | Bundle, device: str = "auto", threads: int = 0, probe: bool = False) -> None:
        self.bundle = bundles.load(bundle) if isinstance(bundle, str) else bundle
        self.meta = self.bundle.meta
        self.placement = choose_device(device, threads, self.meta.backend)
        self.work = WorkCounters()
        self.gemm = measure_gemm_flops(self.placement.device, self.placement.backend) if probe else 0.0

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.bundle.path / "tokenizer")

    @cached_property
    def keywords(self) -> Classifier:
        return self._classifier("keywords", len(self.meta.taxonomy.keywords), self.placement)

    @cached_property
    def keywords_int8(self) -> Classifier:
        """The keyword classifier a second time, quick and rough, for shortlists."""
        check(self.placement.device.type == "cpu", NO_RECHECK)
        return self._classifier("keywords", len(self.meta.taxonomy.keywords), choose_device("cpu", backend="int8"))

    @cached_property
    def scores(self) -> Classifier:
        return self._classifier("scores", len(self.meta.taxonomy.scores), self.placement)

    def tokenize(self, texts: Sequence[str]) -> tuple[TokenizedReviews, NDArray[np.bool_]]:
        """Tokens of each text cut to what the keyword classifier reads, and which were cut."""
        tokens = self.tokenizer(texts)
        room = self.tokenizer.max_review_tokens(self.meta.max_length)
        return tokens.cut(room), tokens.sequences.lengths > room

    def probabilities(self, reviews: Sequences, classifier: Classifier | None = None) -> Floats:
        """[n, keywords] sigmoid probabilities of reviews without special tokens, rounded."""
        model = self.keywords if classifier is None else classifier
        return rounded(sigmoid(model(self.tokenizer.with_special_tokens(reviews, self.meta.max_length))))

    def probabilities_and_embeddings(self, reviews: Sequences) -> tuple[Floats, NDArray[np.float16]]:
        """[n, keywords] the same, and [n, hidden] the keyword encoder's pooled vectors, from one pass."""
        found = self.keywords(self.tokenizer.with_special_tokens(reviews, self.meta.max_length), vectors=True)
        width = self.keywords.outputs
        return rounded(sigmoid(found[:, :width])), found[:, width:].astype(np.float16)

    def _classifier(self, name: str, outputs: int, placement: Device) -> Classifier:
        model = load_model(self.bundle.path / name, self.meta.pooling)
        check(
            model.head.out_features == outputs,
            f"bundle {self.bundle.path}: {name} has {model.head.out_features} outputs where its taxonomy has {outputs}",
        )
        own = placement == self.placement
        gemm = self.gemm if own or not self.gemm else measure_gemm_flops(placement.device, placement.backend)
        return Classifier(model, placement, self.tokenizer.pad_id, work=self.work, probe=gemm)


def rounded(probabilities: Floats) -> Floats:
    """To 1e-4, so that a result does not depend on its batch."""
    return np.round(probabilities, DECIMALS)
