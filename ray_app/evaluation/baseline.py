"""The baseline: TF-IDF over character n-grams and logistic regression, trained on the same rows as the bundle.

In: LABELED tables. Out: keyword probabilities, and scores of given keywords. It has no highlights.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import spmatrix
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from ray_app.arrays import Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, first_line
from ray_app.evaluation.metrics import tune_thresholds
from ray_app.labels.matrices import keyword_matrix, score_pairs


class TfidfBaseline:
    """Per keyword one logistic regression that finds it and one that scores it.

    Thresholds are tuned on `validation`; without it every one is 0.5.
    """

    def __init__(self, train: pa.Table, validation: pa.Table | None, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=2)
        try:
            features = self.vectors.fit_transform(train["text"].to_pylist())
        except ValueError as error:  # sklearn: no piece of a word is in two texts
            raise UserError(f"the baseline cannot learn from {len(train)} reviews: {first_line(error)}") from None
        named = keyword_matrix(train, taxonomy)
        self.keywords = [_fitted(features, named[:, k]) for k in range(named.shape[1])]
        review, keyword, score = score_pairs(train, taxonomy)
        self.scores = [
            _fitted(features[review[keyword == k]], score[keyword == k]) if (keyword == k).any() else None
            for k in range(named.shape[1])
        ]
        self.thresholds = np.full(named.shape[1], 0.5, np.float32)
        if validation is not None:
            true = keyword_matrix(validation, taxonomy)
            self.thresholds = tune_thresholds(true, self.probabilities(validation["text"].to_pylist()))

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[reviews, keywords] probability of each keyword."""
        features = self.vectors.transform(texts)
        columns = [_positive(model, features) for model in self.keywords]
        return np.asarray(np.stack(columns, 1), np.float32)

    def predict(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """Per review the keywords found and their scores."""
        found = self.probabilities(texts) >= self.thresholds
        scores = self.score(texts)
        names, scale = self.taxonomy.names, self.taxonomy.scores
        return [{names[k]: scale[scores[i, k]] for k in np.flatnonzero(row)} for i, row in enumerate(found)]

    def score(self, texts: Sequence[str]) -> Ints:
        """[reviews, keywords] position on the scale of the score each keyword has, found or not."""
        features = self.vectors.transform(texts)
        neutral = np.full(len(texts), len(self.taxonomy.scores) // 2)
        return np.stack([neutral if model is None else model.predict(features) for model in self.scores], 1)

    def score_probabilities(self, texts: Sequence[str], review: Ints, keyword: Ints) -> Floats:
        """[pairs, scores] for (review, keyword) pairs; uniform where training held no such keyword."""
        width = len(self.taxonomy.scores)
        features = self.vectors.transform(texts)
        probabilities = np.full((len(review), width), 1 / width, np.float32)
        for k in np.unique(keyword):
            rows, model = np.flatnonzero(keyword == k), self.scores[k]
            if model is not None:
                probabilities[rows] = 0
                probabilities[np.ix_(rows, model.classes_)] = model.predict_proba(features[review[rows]])
        return probabilities


def _fitted(features: spmatrix, target: NDArray[np.generic]) -> OneVsRestClassifier | DummyClassifier:
    """Logistic regression, or a constant where there is only one class to learn."""
    if len(np.unique(target)) < 2:
        return DummyClassifier(strategy="most_frequent").fit(features, target)
    return OneVsRestClassifier(LogisticRegression(C=10.0, solver="liblinear")).fit(features, target)


def _positive(model: OneVsRestClassifier | DummyClassifier, features: spmatrix) -> Floats:
    """[rows] probability of True."""
    column = list(model.classes_).index(True) if True in model.classes_ else None
    rows = features.shape[0]
    return np.zeros(rows, np.float32) if column is None else np.asarray(model.predict_proba(features)[:, column])
