"""What the stages of one process share: bundle, tokenizer and classifiers, each loaded at most once.

In: a bundle and a device. Out: tokens, probabilities and embeddings of texts.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ray_app.arrays import Flags, Floats, Ints
from ray_app.engine.base_model import check_tokens
from ray_app.engine.classifier import Classifier, sigmoid, softmax
from ray_app.engine.device import Device, choose_device, device_for_bundle
from ray_app.engine.encoder import EncoderClassifier, load_keyword_scorer, load_model
from ray_app.engine.flops import WorkCounters, measure_gemm_flops
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.ragged import Sequences, expand_ranges
from ray_app.engine.tokenizer import ScorePrompt, TokenizedReviews, Tokenizer
from ray_app.errors import UserError, check, first_line
from ray_app.inference.bundle import Bundle, models_of
from ray_app.inference.bundle import load as load_bundle
from ray_app.inference.masking import DECIMALS
from ray_app.inference.thresholds import applied
from ray_app.inference.tokenizer_files import check_growth, check_speed

NO_RECHECK = (
    "--highlights recheck by int8 is for CPUs: on a GPU exact (in bf16) is as quick; write exact, or --recheck-by "
    "attention where the bundle's keywords attend"
)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What one pass of a model whose keywords attend gives: [n, keywords] probabilities where it is the joint form,
    [n, keywords, scores] probabilities, both rounded, and [tokens, keywords, queries] how attention lies on tokens."""

    found: Floats | None
    scores: Floats
    weights: Floats


class BundleRuntime:
    """A bundle ready to run. `work` counts what its classifiers and stages do; `probe` compares it with a GEMM.

    `threads` 0 leaves torch's own choice; `thresholds` are those of `thresholds.applied`.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        device: str = "auto",
        threads: int = 0,
        probe: bool = False,
        thresholds: str = "",
    ) -> None:
        loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        self.bundle = applied(loaded, thresholds)
        self.meta = self.bundle.meta
        self.device = device_for_bundle(device, threads, self.meta.backend)
        self.work = WorkCounters()
        self.gemm = measure_gemm_flops(self.device.torch_device, self.device.backend) if probe else 0.0

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer, the same for all its models."""
        place = f"bundle {self.bundle.path}: tokenizer"
        check_growth(self.bundle.path / "tokenizer", place)
        try:
            tokenizer = Tokenizer.load(self.bundle.path / "tokenizer")
            check_speed(tokenizer.hf.backend_tokenizer, place)
        except (KeyboardInterrupt, SystemExit, UserError):
            raise
        except BaseException as error:  # a panic in its Rust is no Exception
            raise UserError(f"{place} cannot be used ({first_line(error)})") from None
        return tokenizer

    @cached_property
    def keywords(self) -> Classifier:
        """The model that finds keywords; `keyword_logits` reads its outputs."""
        return self.scores if self.joint else self._classifier(self._models[0], self.device)

    @cached_property
    def keywords_int8(self) -> Classifier:
        """The same again in int8, quick and rough, for shortlists. Raises UserError on a GPU."""
        check(self.device.torch_device.type == "cpu", NO_RECHECK)
        return self._classifier(self._models[0], choose_device("cpu", backend="int8"))

    @cached_property
    def scores(self) -> Classifier:
        """The model that scores: logits [n, scores] of prompts, or of reviews [n, keywords * scores] (attention) or
        [n, keywords * (scores + 1)] (joint)."""
        return self._classifier(self._models[-1], self.device)

    @property
    def _models(self) -> tuple[str, ...]:
        """The folder of the model that finds keywords, and of the one that scores where it is another."""
        return models_of(self.meta.score_form)

    @property
    def joint(self) -> bool:
        """Whether one model finds and scores keywords."""
        return self.meta.score_form == "joint"

    def tokenize(self, texts: Sequence[str]) -> tuple[TokenizedReviews, Flags]:
        """Tokens of each text, cut to what the keyword classifier reads, and [n] whether it was cut."""
        tokens = self.tokenizer(texts)
        room = self.tokenizer.max_review_tokens(self.meta.max_length)
        return tokens.cut(room), tokens.sequences.lengths > room

    def probabilities(self, reviews: Sequences, classifier: Classifier | None = None) -> Floats:
        """[n, keywords] sigmoid probabilities of reviews without special tokens, rounded."""
        model = self.keywords if classifier is None else classifier
        rows = self.tokenizer.with_special_tokens(reviews, self.meta.max_length)
        return rounded(sigmoid(self.keyword_logits(model(rows))))

    def probabilities_and_embeddings(self, reviews: Sequences) -> tuple[Floats, NDArray[np.float16]]:
        """[n, keywords] the same, and [n, hidden] the keyword encoder's pooled vectors, from one pass."""
        both = self.keywords(self.tokenizer.with_special_tokens(reviews, self.meta.max_length), vectors=True)
        width = self.keywords.outputs
        return rounded(sigmoid(self.keyword_logits(both[:, :width]))), both[:, width:].astype(np.float16)

    def keyword_logits(self, outputs: Floats) -> Floats:
        """[n, keywords] of what the model that finds keywords puts out."""
        return self._grid(outputs)[:, :, -1] if self.joint else outputs

    def _grid(self, outputs: Floats) -> Floats:
        """[n, keywords, scores], and one more in the joint form, of what a model whose keywords attend puts out."""
        keywords = len(self.meta.taxonomy.names)
        return outputs.reshape(len(outputs), keywords, outputs.shape[1] // keywords)

    @cached_property
    def score_prompt(self) -> ScorePrompt:
        """What the score classifier reads in its prompt form."""
        return ScorePrompt(self.tokenizer, self.meta.taxonomy.names, self.meta.score_prompt)

    def score_probabilities(self, reviews: Sequences, review: Ints, keyword: Ints) -> Floats:
        """[pairs, scores] for (review, keyword) pairs of reviews without special tokens, rounded.

        In the attention form a review is read once, whatever its pairs, and not at all where it has none.
        """
        if not self.meta.attends:
            prompts = self.score_prompt(reviews.take(review), keyword, self.meta.max_length)
            return rounded(softmax(self.scores(prompts)))
        some, row = np.unique(review, return_inverse=True)
        logits = self.scores(self.tokenizer.with_special_tokens(reviews.take(some), self.meta.max_length))
        grid = self._grid(logits)[:, :, : len(self.meta.taxonomy.scores)]
        return rounded(softmax(grid[row, keyword]))

    def attention(self, reviews: Sequences) -> Attention:
        """Of a bundle whose keywords attend, for reviews without special tokens as `tokenize` cuts them."""
        taxonomy = self.meta.taxonomy
        rows = self.tokenizer.with_special_tokens(reviews, self.meta.max_length)
        logits, weights = self.scores.attended(rows)
        own = expand_ranges(rows.offsets[:-1] + len(self.tokenizer.prefix), reviews.lengths)
        scores = self._grid(logits)[:, :, : len(taxonomy.scores)]
        queries = weights.shape[1] // len(taxonomy.keywords)
        return Attention(
            found=rounded(sigmoid(self.keyword_logits(logits))) if self.joint else None,
            scores=rounded(softmax(scores.reshape(-1, len(taxonomy.scores)))).reshape(scores.shape),
            weights=weights[own].reshape(len(own), len(taxonomy.keywords), queries),
        )

    def twin(self) -> "BundleRuntime":
        """The same for another thread, once stages are built: it shares the models, and counts its own work."""
        twin = copy.copy(self)
        twin.work = WorkCounters()
        twins = {id(model): model.twin(twin.work) for model in vars(self).values() if isinstance(model, Classifier)}
        vars(twin).update({name: twins[id(model)] for name, model in vars(self).items() if id(model) in twins})
        return twin

    def _outputs(self, name: str) -> int:
        keywords, scores = len(self.meta.taxonomy.keywords), len(self.meta.taxonomy.scores)
        if name == "keywords":
            return keywords
        return {"joint": keywords * (scores + 1), "attention": keywords * scores}.get(self.meta.score_form, scores)

    def keyword_model(self) -> EncoderClassifier | KeywordScorer:
        """The model that finds keywords as it was trained, loaded anew; `keyword_logits` reads its outputs."""
        return self._model(self._models[0])

    def _model(self, name: str) -> EncoderClassifier | KeywordScorer:
        folder, attends = self.bundle.path / name, name != "keywords" and self.meta.attends
        try:
            model = load_keyword_scorer(folder) if attends else load_model(folder, self.meta.pooling)
        except UserError:
            raise
        except Exception as error:  # whatever the library makes of an unknown type, or of settings it cannot use
            raise UserError(f"bundle {self.bundle.path}: {name} cannot be loaded ({first_line(error)})") from None
        model.batching = self.meta.batching
        return model

    def _classifier(self, name: str, device: Device) -> Classifier:
        model, outputs = self._model(name), self._outputs(name)
        check(
            model.head.out_features == outputs,
            f"bundle {self.bundle.path}: {name} has {model.head.out_features} outputs where its taxonomy has {outputs}",
        )
        check_tokens(model.encoder, self.tokenizer.hf, f"bundle {self.bundle.path}: {name}")
        own = device == self.device
        gemm = self.gemm if own or not self.gemm else measure_gemm_flops(device.torch_device, device.backend)
        return Classifier(model, device, self.tokenizer.pad_id, work=self.work, probe=gemm)


def rounded(probabilities: Floats) -> Floats:
    """To 1e-4, so that a result does not depend on its batch. Raises UserError where they are no numbers."""
    check(np.isfinite(probabilities).all(), "the bundle's outputs are not numbers (NaN): train it again")
    return np.round(probabilities, DECIMALS)
