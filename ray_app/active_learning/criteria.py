"""What makes a review worth labeling: one number per review and criterion, higher is more informative.

In: probabilities, texts or embeddings of reviews. Out: [reviews] values, NaN where a review has none.

unsure_keyword   how close the nearest keyword probability is to its threshold, 0 to 1
unsure_score     how uncertain the least certain score is, 0 to 1
boundary         the mean of the two
rare             share of the text's tokens that are unknown or rare in the labeled texts, 0 to 1
outlier          distance to the nearest cluster, 1 for a median review
random           uniform, by a hash of the id and the seed: independent of the order of the files
diverse          order of the picks of k-means++ over embeddings: 1 for the first, then falling
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus

from ray_app.arrays import Floats, Hashes, Ints
from ray_app.engine.tokenizer_training import SPECIALS, train_tokenizer

CRITERIA = ("boundary", "unsure_keyword", "unsure_score", "rare", "outlier", "random", "diverse")
VOCABULARY = 8_000  # tokens of the vocabulary that rarity is judged by
RARE_SHARE = 0.5  # the less frequent share of the vocabulary, which counts as rare
SMOOTHING = 4.0  # tokens that are not rare, added to each text: two odd tokens alone are no rare review
CLUSTERS = 64


def unsure_keyword(probabilities: Floats, thresholds: Floats) -> Floats:
    """[n] of [n, keywords] and [keywords]: 1 where a probability is at its threshold, 0 where all are 0 or 1."""
    span = np.where(probabilities < thresholds, thresholds, 1 - thresholds)
    distance = np.abs(probabilities - thresholds) / np.maximum(span, 1e-6)
    return np.asarray(1 - np.minimum(distance, 1).min(1, initial=1), np.float32)


def unsure_score(score_probabilities: Floats, review: Ints, reviews: int) -> Floats:
    """[reviews] of [findings, n] and the review of each finding: the largest (1 - max p) * n / (n - 1), 0 for none."""
    values = np.zeros(reviews, np.float32)
    if len(review):
        classes = score_probabilities.shape[1]
        np.maximum.at(values, review, (1 - score_probabilities.max(1)) * classes / (classes - 1))
    return values


def uniform(hashes: Hashes) -> Floats:
    """[n] hashes -> 0 to 1, the smallest hash highest."""
    return np.asarray(1 - hashes / 2.0**64, np.float32)


class Rarity:
    """How much of a text is unknown to, or rare in, a vocabulary learned from other texts.

    The vocabulary is that of a Unigram tokenizer, ordered by frequency (`tokenizer_training.train_tokenizer`).
    """

    def __init__(self, texts: Sequence[str], size: int = VOCABULARY) -> None:
        trained = train_tokenizer(texts, size)
        self.tokenizer = trained.backend_tokenizer
        self.tokenizer.encode_special_tokens = True  # a review that says `</s>` says four letters
        self.unknown_id = int(trained.unk_token_id)
        self.first_rare_id = len(SPECIALS) + (1 - RARE_SHARE) * (len(trained) - len(SPECIALS))

    def __call__(self, texts: Sequence[str]) -> Floats:
        """[n] (unknown + rare tokens) / (tokens + SMOOTHING)."""
        rows = [e.ids for e in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
        rare = np.append(0, np.cumsum((ids == self.unknown_id) | (ids >= self.first_rare_id)))
        ends = np.cumsum(lengths)
        return np.asarray((rare[ends] - rare[ends - lengths]) / (lengths + SMOOTHING), np.float32)


class Outliers:
    """Distance to the nearest of a few clusters of a sample of embeddings, in units of the sample's median."""

    def __init__(self, sample: Floats, seed: int) -> None:
        clusters = min(CLUSTERS, max(1, len(sample) // 20))
        self.model = KMeans(clusters, n_init=1, random_state=seed).fit(sample)
        self.median = max(float(np.median(self.model.transform(sample).min(1))), 1e-9)

    def __call__(self, embeddings: Floats) -> Floats:
        """[n] of [n, dimensions]."""
        return np.asarray(self.model.transform(embeddings).min(1) / self.median, np.float32)


def diverse(embeddings: Floats, picks: int, seed: int) -> Floats:
    """[n] values that fall in the order in which k-means++ picks from [n, dimensions]; NaN for rows it does not pick.

    Source: Arthur and Vassilvitskii 2007; each pick is drawn by its squared distance to the nearest earlier one.
    """
    values = np.full(len(embeddings), np.nan, np.float32)
    count = min(picks, len(embeddings))
    if count:
        _, order = kmeans_plusplus(embeddings, count, random_state=seed)
        values[order] = 1 - np.arange(count) / count
    return values
