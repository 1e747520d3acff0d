"""Out-of-fold predictions: the probability of every label by a model that did not train on it, and the words behind it.

In: reviews, and a TF-IDF model or a bundle trained on others. Out: an OutOfFold; those of all folds join into one.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.arrays import Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import words
from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.inference.graph_columns import probability_matrix
from ray_app.inference.masking import candidates, drops, strongest_variant
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import KeywordStage, SentimentStage
from ray_app.labels.matrices import keyword_matrix, score_pairs

DOUBT = 0.3  # minimum distance between a label and its probability for evidence to be computed
LEAST_DROP = 0.05  # a word that lowers the probability by less is no evidence
CHUNK = 2_000  # reviews whose words are left out at once, which bounds memory

# Texts, [texts, keywords] probabilities, and [pairs] reviews and keywords -> [pairs] the word behind each, "" for none.
Explain = Callable[[Sequence[str], Floats, Ints, Ints], list[str]]


@dataclass(frozen=True)
class OutOfFold:
    """Probabilities: `keywords` [reviews, keywords] and `scores` [labels, scores], labels in `score_pairs`' order.

    `words` [reviews, keywords] is the word that a keyword's probability rests on most, "" where there is none and where
    the model agrees with the labels.
    """

    keywords: Floats
    scores: Floats
    words: NDArray[np.object_]


def from_baseline(model: TfidfBaseline, held_out: pa.Table) -> OutOfFold:
    """Predictions of a TF-IDF model for labeled reviews."""
    texts = held_out["text"].to_pylist()
    review, keyword, _ = score_pairs(held_out, model.taxonomy)
    scores = model.score_probabilities(texts, review, keyword)

    def explain(texts: Sequence[str], before: Floats, review: Ints, keyword: Ints) -> list[str]:
        return _words_left_out(model, texts, before, review, keyword)

    return _with_evidence(held_out, model.taxonomy, model.probabilities(texts), scores, explain)


def from_bundle(runtime: BundleRuntime, held_out: pa.Table) -> OutOfFold:
    """Predictions of a bundle's classifiers for labeled reviews."""
    taxonomy, texts = runtime.meta.taxonomy, held_out["text"].to_pylist()
    review, keyword, _ = score_pairs(held_out, taxonomy)
    analyzed = KeywordStage(runtime)(held_out.select(["review_id", "text"]))
    scores = SentimentStage(runtime).probabilities(texts, review, keyword)
    occlusion = Occlusion(runtime)

    def explain(texts: Sequence[str], before: Floats, review: Ints, keyword: Ints) -> list[str]:
        highlights = occlusion(texts, before, review, keyword).to_pylist()
        return [row["word"] if row and row["drop"] >= LEAST_DROP else "" for row in highlights]

    return _with_evidence(held_out, taxonomy, probability_matrix(analyzed, len(taxonomy.names)), scores, explain)


def join(folds: Sequence[OutOfFold], fold: Ints, review: Ints) -> OutOfFold:
    """The predictions of folds 0, 1, … as one over all rows.

    `fold` [reviews] is the fold of each review, `review` [labels] the review of each label.
    """
    reviews, keywords = len(fold), folds[0].keywords.shape[1]
    joined = OutOfFold(
        np.zeros((reviews, keywords), np.float32),
        np.zeros((len(review), folds[0].scores.shape[1]), np.float32),
        np.full((reviews, keywords), "", object),
    )
    for number, predictions in enumerate(folds):
        own = fold == number
        joined.keywords[own], joined.words[own] = predictions.keywords, predictions.words
        joined.scores[own[review]] = predictions.scores
    return joined


def to_bytes(predictions: OutOfFold) -> bytes:
    """As an npz file, without pickled objects."""
    sink = io.BytesIO()
    np.savez_compressed(
        sink, keywords=predictions.keywords, scores=predictions.scores, words=predictions.words.astype(str)
    )
    return sink.getvalue()


def from_bytes(data: bytes) -> OutOfFold:
    """The inverse of `to_bytes`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return OutOfFold(arrays["keywords"], arrays["scores"], arrays["words"].astype(object))


def _with_evidence(
    held_out: pa.Table, taxonomy: Taxonomy, keywords: Floats, scores: Floats, explain: Explain
) -> OutOfFold:
    """Predictions with the words behind the cells on which model and labels disagree."""
    labeled, (review, keyword, given) = keyword_matrix(held_out, taxonomy), score_pairs(held_out, taxonomy)
    doubted = np.abs(labeled - keywords) >= DOUBT
    unsure = 1 - scores[np.arange(len(given)), given] >= 0.5
    doubted[review[unsure], keyword[unsure]] = True
    evidence = np.full(keywords.shape, "", object)
    rows, columns = (axis.astype(np.int64) for axis in np.nonzero(doubted))
    if len(rows):
        evidence[rows, columns] = explain(held_out["text"].to_pylist(), keywords, rows, columns)
    return OutOfFold(np.asarray(keywords, np.float32), np.asarray(scores, np.float32), evidence)


def _words_left_out(
    model: TfidfBaseline, texts: Sequence[str], before: Floats, review: Ints, keyword: Ints
) -> list[str]:
    """[pairs] the word without which the keyword's probability falls most; `review` ascends."""
    found: list[str] = []
    for chunk in np.array_split(np.unique(review), max(1, len(np.unique(review)) // CHUNK)):
        own = slice(*np.searchsorted(review, [chunk[0], chunk[-1] + 1]))
        local = np.searchsorted(chunk, review[own])
        found += _best_words(model, [texts[i] for i in chunk], before[chunk], local, keyword[own])
    return found


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
    return [flat[v] if v >= 0 and drop[v, k] >= LEAST_DROP else "" for v, k in zip(best, keyword, strict=True)]
