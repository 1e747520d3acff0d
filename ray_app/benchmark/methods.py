"""Highlights the ways others find them, to measure ours against: each takes the same texts and gives the same numbers.

ours          texts -> masked ids -> flat batches over all reviews
hf-review     transformers, one padded batch a review, SDPA: the oracle
naive         transformers, one variant at a time, padded to 256 tokens
captum        captum's FeatureAblation, 32 variants an evaluation, one review at a time
shap          shap's partition explainer over the review's tokens (Shapley values, so its highlights differ)
recheck       ours, an int8 pass first
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_app.arrays import Floats
from ray_app.engine.batching import padded
from ray_app.engine.classifier import sigmoid
from ray_app.engine.encoder import EncoderClassifier, load_model
from ray_app.engine.ragged import Sequences
from ray_app.inference.masking import Variants, above_threshold
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime

NAIVE_LENGTH, CAPTUM_VARIANTS, SHAP_EVALUATIONS = 256, 32, 200
EXTRAS = {"captum": "captum", "shap": "shap"}  # variants that need a package of the extra `bench`


@dataclass(frozen=True)
class MethodResult:
    """Probabilities a variant found: [reviews, keywords], and [variants, keywords] where it masks words."""

    before: Floats
    after: Floats | None


class Workload:
    """One bundle and one set of texts, ready for any variant."""

    def __init__(self, bundle: str, texts: Sequence[str], device: str, threads: int) -> None:
        self.texts = list(texts)
        self.runtime = BundleRuntime(bundle, device, threads)
        self.occlusion = Occlusion(self.runtime)
        _, self.reviews, _, self.candidate = self.occlusion.words(self.texts)
        self.variants: Variants = self.occlusion.mask(self.texts)[1]
        plain, length = self.runtime.tokenizer.with_special_tokens, self.runtime.meta.max_length
        self.whole, self.masked = plain(self.reviews, length), plain(self.variants.sequences, length)

    @property
    def tokens(self) -> int:
        """Useful tokens: of every review and of every masked variant, special tokens too."""
        return len(self.whole.ids) + len(self.masked.ids)

    @cached_property
    def stock(self) -> EncoderClassifier:
        place = self.runtime.placement
        model = load_model(self.runtime.bundle.path / "keywords", self.runtime.meta.pooling)
        return model.to(place.device, place.dtype).eval()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[n, length] -> probabilities [n, keywords] by the stock forward."""
        device = self.runtime.placement.device
        logits: Tensor = self.stock(ids.to(device), mask.to(device))
        return logits.float().sigmoid().cpu()


def ours(subject: Workload) -> MethodResult:
    runtime = subject.runtime
    reviews, _ = runtime.tokenize(subject.texts)
    _, variants = subject.occlusion.mask(subject.texts)
    before, after = (
        sigmoid(runtime.keywords(runtime.tokenizer.with_special_tokens(rows, runtime.meta.max_length)))
        for rows in (reviews.sequences, variants.sequences)
    )
    return MethodResult(before, after)


def recheck(subject: Workload) -> MethodResult:
    runtime = subject.runtime
    reviews, _ = runtime.tokenize(subject.texts)
    before = runtime.probabilities(reviews.sequences)
    _, variants = subject.occlusion.mask(subject.texts)
    pairs = above_threshold(before, runtime.meta.thresholds)
    drop = Occlusion(runtime, mode="recheck").decisive(variants, before, *pairs)
    return MethodResult(before, before[variants.review] - drop)


@torch.inference_mode()
def hf_review(subject: Workload) -> MethodResult:
    return _forwards(subject, [np.flatnonzero(subject.variants.review == i) for i in range(len(subject.texts))])


@torch.inference_mode()
def naive(subject: Workload) -> MethodResult:
    return _forwards(subject, [np.array([v]) for v in range(len(subject.variants.review))], NAIVE_LENGTH)


def _forwards(subject: Workload, groups: Sequence[Any], width: int = 0) -> MethodResult:
    """Each review with its variants where groups are by review; else reviews alone, then each group of variants."""
    pad = subject.runtime.tokenizer.pad_id
    before = np.empty((len(subject.whole), len(subject.runtime.meta.thresholds)), np.float32)
    after = np.empty((len(subject.masked), before.shape[1]), np.float32)
    whole_reviews = len(groups) == len(subject.whole) and not width
    for i in range(len(subject.whole)):
        own = groups[i] if whole_reviews else np.zeros(0, np.int64)
        rows = Sequences.of([subject.whole.row(i).tolist(), *(subject.masked.row(int(v)).tolist() for v in own)])
        found = subject.forward(*_pad(rows, pad, width)).numpy()
        before[i], after[own] = found[0], found[1:]
    for group in () if whole_reviews else groups:
        after[group] = subject.forward(*_pad(subject.masked.take(group), pad, width)).numpy()
    return MethodResult(before, after)


def _pad(rows: Sequences, pad: int, width: int) -> tuple[Tensor, Tensor]:
    ids, mask = padded(rows, pad)
    more = max(0, width - ids.shape[1])
    return torch.nn.functional.pad(ids, (0, more), value=pad), torch.nn.functional.pad(mask, (0, more))


@torch.inference_mode()
def captum(subject: Workload) -> MethodResult:
    from captum.attr import FeatureAblation

    tokenizer = subject.runtime.tokenizer
    before = np.empty((len(subject.texts), len(subject.runtime.meta.thresholds)), np.float32)
    found = np.zeros((len(subject.masked), before.shape[1]), np.float32)

    def wrapped(ids: Tensor) -> Tensor:
        ends = (torch.tensor(end).expand(len(ids), -1) for end in (tokenizer.prefix, tokenizer.suffix))
        front, back = ends
        whole = torch.cat([front, ids, back], 1)
        return subject.forward(whole, torch.ones_like(whole))

    ablation = FeatureAblation(wrapped)
    for i in range(len(subject.texts)):
        low, high = subject.reviews.offsets[i : i + 2]
        ids = torch.from_numpy(subject.reviews.ids[low:high])[None]
        words = subject.candidate[low:high]
        features = torch.from_numpy(np.where(words < 0, words.max() + 1, words))[None]
        drop = ablation.attribute(
            ids, baselines=tokenizer.mask_id, feature_mask=features, perturbations_per_eval=CAPTUM_VARIANTS
        ).numpy()
        before[i] = wrapped(ids)[0]
        for v in np.flatnonzero(subject.variants.review == i):
            found[v] = drop[:, int(np.argmax(words == subject.variants.candidate[v]))]
    return MethodResult(before, before[subject.variants.review] - found)


@torch.inference_mode()
def shap(subject: Workload) -> MethodResult:
    import shap as package

    runtime = subject.runtime

    def probabilities(texts: Any) -> Any:
        sequences, _ = runtime.tokenize([str(text) for text in texts])
        return subject.forward(
            *padded(
                runtime.tokenizer.with_special_tokens(sequences.sequences, runtime.meta.max_length),
                runtime.tokenizer.pad_id,
            )
        ).numpy()

    explain = package.Explainer(probabilities, package.maskers.Text(runtime.tokenizer.hf), algorithm="partition")
    explain(subject.texts, max_evals=SHAP_EVALUATIONS, batch_size=CAPTUM_VARIANTS, silent=True)
    return MethodResult(np.asarray(probabilities(subject.texts), np.float32), None)


METHODS: dict[str, Callable[[Workload], MethodResult]] = {
    "ours": ours,
    "recheck": recheck,
    "hf-review": hf_review,
    "captum": captum,
    "naive": naive,
    "shap": shap,
}
