"""What a model thinks of labelled reviews it did not learn from: how sure it is of every label, and which words say so.

In: reviews, and a TF-IDF model or a bundle trained on others. Out: a View; the views of all folds join into one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.arrays import Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import words
from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.inference.masking import candidates, drops, strongest_variant
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import KeywordStage, SentimentStage, probability_matrix
from ray_app.labels.matrices import keyword_matrix, score_pairs

DOUBT = 0.3  # how far a model has to be from a label before it is asked which word makes it think so
TELLING = 0.05  # a word without which the probability falls less is no evidence
CHUNK = 2_000  # reviews whose words are left out at a time: bounds memory

Explain = Callable[[Sequence[str], Floats, Ints, Ints], list[str]]


@dataclass(frozen=True)
class OutOfFold:
    """`keywords` [reviews, keywords] and `scores` [labels, scores] are probabilities, the labels as in `score_pairs`.

    `words` [reviews, keywords] is the word that a keyword's probability rests on most; empty where there is none, and
    where the model agrees with the labels.
    """

    keywords: Floats
    scores: Floats
    words: NDArray[np.object_]


def of_baseline(model: TfidfBaseline, held: pa.Table) -> OutOfFold:
    """The view of a TF-IDF model."""
    texts = held["text"].to_pylist()
    review, keyword, _ = score_pairs(held, model.taxonomy)
    scores = model.score_probabilities(texts, review, keyword)
    return _view(held, model.taxonomy, model.probabilities(texts), scores, lambda *asked: _left_out(model, *asked))


def of_bundle(runtime: BundleRuntime, held: pa.Table) -> OutOfFold:
    """The view of a bundle's classifiers."""
    taxonomy, texts = runtime.meta.taxonomy, held["text"].to_pylist()
    review, keyword, _ = score_pairs(held, taxonomy)
    found = probability_matrix(KeywordStage(runtime)(held.select(["review_id", "text"])), len(taxonomy.names))
    scores = SentimentStage(runtime).probabilities(texts, review, keyword)
    occlusion = Occlusion(runtime)

    def explain(texts: Sequence[str], before: Floats, review: Ints, keyword: Ints) -> list[str]:
        said = occlusion(texts, before, review, keyword).to_pylist()
        return [word["word"] if word and word["drop"] >= TELLING else "" for word in said]

    return _view(held, taxonomy, found, scores, explain)


def join(views: Sequence[OutOfFold], fold: Ints, review: Ints) -> OutOfFold:
    """The views of folds 0, 1, … as one over all rows; `fold` [reviews], and `review` [labels] whose label each is."""
    reviews, keywords = len(fold), views[0].keywords.shape[1]
    joined = OutOfFold(
        np.zeros((reviews, keywords), np.float32),
        np.zeros((len(review), views[0].scores.shape[1]), np.float32),
        np.full((reviews, keywords), "", object),
    )
    for number, view in enumerate(views):
        own = fold == number
        joined.keywords[own], joined.words[own] = view.keywords, view.words
        joined.scores[own[review]] = view.scores
    return joined


def _view(held: pa.Table, taxonomy: Taxonomy, keywords: Floats, scores: Floats, explain: Explain) -> OutOfFold:
    """Asks for the words of the cells that model and labels see differently."""
    named, (review, keyword, given) = keyword_matrix(held, taxonomy), score_pairs(held, taxonomy)
    doubted = np.abs(named - keywords) >= DOUBT
    unsure = 1 - scores[np.arange(len(given)), given] >= 0.5
    doubted[review[unsure], keyword[unsure]] = True
    found = np.full(keywords.shape, "", object)
    rows, columns = (axis.astype(np.int64) for axis in np.nonzero(doubted))
    if len(rows):
        found[rows, columns] = explain(held["text"].to_pylist(), keywords, rows, columns)
    return OutOfFold(np.asarray(keywords, np.float32), np.asarray(scores, np.float32), found)


def _left_out(model: TfidfBaseline, texts: Sequence[str], before: Floats, review: Ints, keyword: Ints) -> list[str]:
    """[pairs] the word whose leaving out lowers the keyword's probability most."""
    said: list[str] = []
    for needed in np.array_split(np.unique(review), max(1, len(np.unique(review)) // CHUNK)):
        own = slice(*np.searchsorted(review, [needed[0], needed[-1] + 1]))
        local = np.searchsorted(needed, review[own])
        said += _best_words(model, [texts[i] for i in needed], before[needed], local, keyword[own])
    return said


def _best_words(model: TfidfBaseline, texts: Sequence[str], before: Floats, review: Ints, keyword: Ints) -> list[str]:
    spans = words(texts)
    firsts, _ = candidates(texts, spans)
    distinct = [[text[a:b] for a, b in first] for text, first in zip(texts, firsts, strict=True)]
    every = [[text[a:b] for a, b in own] for text, own in zip(texts, spans, strict=True)]
    owner = np.repeat(np.arange(len(texts)), [len(own) for own in distinct])
    variants = [" ".join(w for w in every[i] if w != word) for i, own in enumerate(distinct) for word in own]
    drop = drops(before[owner], model.probabilities(variants))
    best = strongest_variant(drop, owner, review, keyword)
    flat = [word for own in distinct for word in own]
    return [flat[v] if v >= 0 and drop[v, k] >= TELLING else "" for v, k in zip(best, keyword, strict=True)]


def to_arrays(view: OutOfFold) -> dict[str, Any]:
    """Arrays that `numpy.savez` keeps without pickling."""
    return {"keywords": view.keywords, "scores": view.scores, "words": view.words.astype(str)}


def from_arrays(arrays: Any) -> OutOfFold:
    return OutOfFold(arrays["keywords"], arrays["scores"], arrays["words"].astype(object))
