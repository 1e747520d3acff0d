"""Ways to find highlights, ours and others', to compare: each takes the same texts and returns the same numbers.

In: a Workload. Out: a MethodResult.

ours          texts -> masked ids -> unpadded batches over all reviews
hf-review     transformers, one padded batch per review, SDPA: the oracle
naive         transformers, one variant at a time, padded to 256 tokens
captum        captum's FeatureAblation, 32 variants per evaluation, one review at a time
shap          shap's partition explainer over the review's tokens (Shapley values, so its highlights differ)
recheck       ours, with an int8 pass first

Reviews per second without highlights are measured by those that mask nothing:

classify      ours
hf-batch      transformers, 32 reviews per padded batch in the order given, as its pipeline does
hf-sorted     the same, longest first, as sentence-transformers and SetFit do
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ray_app.arrays import Floats, Ints
from ray_app.engine.batching import padded
from ray_app.engine.classifier import sigmoid
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.ragged import Sequences
from ray_app.inference.masking import Variants, above_threshold
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime

NAIVE_LENGTH, CAPTUM_VARIANTS, SHAP_EVALUATIONS = 256, 32, 200
BATCH = 32  # reviews: what both libraries take where nothing is said
PACKAGES = {"captum": "captum", "shap": "shap"}  # what a variant needs of the extra `bench`


@dataclass(frozen=True)
class MethodResult:
    """Probabilities: `before` [reviews, keywords], `after` [masked variants, keywords] where a method masks words."""

    before: Floats
    after: Floats | None


class Workload:
    """One bundle and one set of texts, ready for any method."""

    def __init__(self, bundle: str, texts: Sequence[str], device: str, threads: int) -> None:
        self.texts = list(texts)
        self.runtime = BundleRuntime(bundle, device, threads)
        self.occlusion = Occlusion(self.runtime)
        words = self.occlusion.words(self.texts)
        self.reviews, self.candidate = words.tokens, words.candidate
        self.variants: Variants = self.occlusion.mask(self.texts)[1]
        plain, length = self.runtime.tokenizer.with_special_tokens, self.runtime.meta.max_length
        self.whole, self.masked = plain(self.reviews, length), plain(self.variants.sequences, length)

    @property
    def tokens(self) -> int:
        """Tokens of every review and every masked variant, special tokens included, padding not."""
        return len(self.whole.ids) + len(self.masked.ids)

    @cached_property
    def stock(self) -> EncoderClassifier | KeywordScorer:
        """The model that finds keywords as transformers runs it."""
        device = self.runtime.device
        return self.runtime.keyword_model().to(device.torch_device, device.dtype).eval()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids and mask [n, length] -> probabilities [n, keywords], on the CPU, by the stock forward."""
        device = self.runtime.device.torch_device
        outputs: Tensor = self.stock(ids.to(device), mask.to(device))
        logits = self.runtime.keyword_logits(outputs.detach().float().cpu().numpy())
        return torch.from_numpy(np.ascontiguousarray(logits)).sigmoid()


def ours(workload: Workload) -> MethodResult:
    """The engine as the stages use it: all variants masked exactly."""
    runtime = workload.runtime
    reviews, _ = runtime.tokenize(workload.texts)
    _, variants = workload.occlusion.mask(workload.texts)
    before, after = (
        sigmoid(
            runtime.keyword_logits(
                runtime.keywords(runtime.tokenizer.with_special_tokens(rows, runtime.meta.max_length))
            )
        )
        for rows in (reviews.sequences, variants.sequences)
    )
    return MethodResult(before, after)


def recheck(workload: Workload) -> MethodResult:
    """The engine's `recheck` mode by int8: `after` is infinite for variants that the int8 pass ruled out."""
    runtime = workload.runtime
    reviews, _ = runtime.tokenize(workload.texts)
    before = runtime.probabilities(reviews.sequences)
    words, (_, variants) = workload.occlusion.words(workload.texts), workload.occlusion.mask(workload.texts)
    pairs = above_threshold(before, runtime.meta.thresholds)
    drop = Occlusion(runtime, mode="recheck", named_by="int8").decisive(words, variants, before, *pairs)
    return MethodResult(before, before[variants.review] - drop)


@torch.inference_mode()
def hf_review(workload: Workload) -> MethodResult:
    """The stock forward, one batch per review with all its variants."""
    return _forwards(workload, [np.flatnonzero(workload.variants.review == i) for i in range(len(workload.texts))])


@torch.inference_mode()
def naive(workload: Workload) -> MethodResult:
    """The stock forward, one padded text at a time."""
    return _forwards(workload, [np.array([v]) for v in range(len(workload.variants.review))], NAIVE_LENGTH)


def _forwards(workload: Workload, groups: Sequence[Ints], width: int = 0) -> MethodResult:
    """Each review with its variants where groups are by review; else reviews alone, then each group of variants.

    `groups`: numbers of masked variants. `width`: tokens that every row is padded to, at least.
    """
    pad = workload.runtime.tokenizer.pad_id
    before = np.empty((len(workload.whole), len(workload.runtime.meta.thresholds)), np.float32)
    after = np.empty((len(workload.masked), before.shape[1]), np.float32)
    whole_reviews = len(groups) == len(workload.whole) and not width
    for i in range(len(workload.whole)):
        own = groups[i] if whole_reviews else np.zeros(0, np.int64)
        rows = Sequences.of([workload.whole.row(i).tolist(), *(workload.masked.row(int(v)).tolist() for v in own)])
        probabilities = workload.forward(*_pad(rows, pad, width)).numpy()
        before[i], after[own] = probabilities[0], probabilities[1:]
    for group in () if whole_reviews else groups:
        after[group] = workload.forward(*_pad(workload.masked.take(group), pad, width)).numpy()
    return MethodResult(before, after)


def _pad(rows: Sequences, pad: int, width: int) -> tuple[Tensor, Tensor]:
    ids, mask = padded(rows, pad)
    more = max(0, width - ids.shape[1])
    return torch.nn.functional.pad(ids, (0, more), value=pad), torch.nn.functional.pad(mask, (0, more))


@torch.inference_mode()
def captum(workload: Workload) -> MethodResult:
    """FeatureAblation of each review's words, the other tokens being one feature."""
    from captum.attr import FeatureAblation

    tokenizer = workload.runtime.tokenizer
    before = np.empty((len(workload.texts), len(workload.runtime.meta.thresholds)), np.float32)
    drops = np.zeros((len(workload.masked), before.shape[1]), np.float32)

    def forward(ids: Tensor) -> Tensor:
        prefix, suffix = (torch.tensor(end).expand(len(ids), -1) for end in (tokenizer.prefix, tokenizer.suffix))
        whole = torch.cat([prefix, ids, suffix], 1)
        return workload.forward(whole, torch.ones_like(whole))

    ablation = FeatureAblation(forward)
    for i in range(len(workload.texts)):
        low, high = workload.reviews.offsets[i : i + 2]
        ids = torch.from_numpy(workload.reviews.ids[low:high])[None]
        words = workload.candidate[low:high]
        features = torch.from_numpy(np.where(words < 0, words.max() + 1, words))[None]
        drop = ablation.attribute(
            ids, baselines=tokenizer.mask_id, feature_mask=features, perturbations_per_eval=CAPTUM_VARIANTS
        ).numpy()
        before[i] = forward(ids)[0]
        for v in np.flatnonzero(workload.variants.review == i):
            drops[v] = drop[:, int(np.argmax(words == workload.variants.candidate[v]))]
    return MethodResult(before, before[workload.variants.review] - drops)


@torch.inference_mode()
def shap(workload: Workload) -> MethodResult:
    """Shapley values of each review's tokens; their time is measured, `after` stays None."""
    import shap as package

    runtime = workload.runtime

    def probabilities(texts: Iterable[str]) -> Floats:
        reviews, _ = runtime.tokenize([str(text) for text in texts])
        rows = runtime.tokenizer.with_special_tokens(reviews.sequences, runtime.meta.max_length)
        return np.asarray(workload.forward(*padded(rows, runtime.tokenizer.pad_id)).numpy(), np.float32)

    explain = package.Explainer(probabilities, package.maskers.Text(runtime.tokenizer.hf), algorithm="partition")
    explain(workload.texts, max_evals=SHAP_EVALUATIONS, batch_size=CAPTUM_VARIANTS, silent=True)
    return MethodResult(probabilities(workload.texts), None)


def classify(workload: Workload) -> MethodResult:
    """The engine without highlights."""
    runtime = workload.runtime
    reviews, _ = runtime.tokenize(workload.texts)
    return MethodResult(runtime.probabilities(reviews.sequences), None)


def hf_batch(workload: Workload) -> MethodResult:
    """The stock forward, padded batches in the order given."""
    return _whole_batches(workload, np.arange(len(workload.texts)))


def hf_sorted(workload: Workload) -> MethodResult:
    """The stock forward, padded batches in order of length."""
    return _whole_batches(workload, np.argsort([-len(text) for text in workload.texts], kind="stable"))


@torch.inference_mode()
def _whole_batches(workload: Workload, order: Ints) -> MethodResult:
    """Probabilities of whole reviews, from their texts on, BATCH of them at a time in this order."""
    runtime = workload.runtime
    before = np.empty((len(order), len(runtime.meta.thresholds)), np.float32)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        reviews, _ = runtime.tokenize([workload.texts[i] for i in rows])
        batch = runtime.tokenizer.with_special_tokens(reviews.sequences, runtime.meta.max_length)
        before[rows] = workload.forward(*padded(batch, runtime.tokenizer.pad_id)).numpy()
    return MethodResult(before, None)


METHODS: dict[str, Callable[[Workload], MethodResult]] = {
    "ours": ours,
    "recheck": recheck,
    "hf-review": hf_review,
    "captum": captum,
    "naive": naive,
    "shap": shap,
    "classify": classify,
    "hf-batch": hf_batch,
    "hf-sorted": hf_sorted,
}
