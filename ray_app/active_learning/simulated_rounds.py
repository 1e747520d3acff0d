"""Simulated rounds of selecting, labeling and training, for one seed; the model is the TF-IDF baseline.

In: labeled tables. Out: tuple F1 on the test rows after each round.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from ray_app.active_learning.criteria import Outliers, Rarity, uniform, unsure_keyword, unsure_score
from ray_app.active_learning.scoring import hashes
from ray_app.active_learning.selection import Candidates, Criterion, select
from ray_app.arrays import Floats, Ints
from ray_app.data.near_duplicates import NearDuplicateFilter
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import check
from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.evaluation.metrics import tuple_report

DIMENSIONS = 64  # of the vectors by which outliers are found


class Simulation:
    """One seed: every strategy starts from the same labels and runs the same number of rounds."""

    def __init__(
        self, catalog: pa.Table, validation: pa.Table, test: pa.Table, taxonomy: Taxonomy, alike: float, seed: int
    ) -> None:
        self.catalog, self.validation, self.test, self.taxonomy = catalog, validation, test, taxonomy
        self.alike, self.seed = alike, seed
        self.texts: list[str] = catalog["text"].to_pylist()
        self.ties = hashes(catalog["review_id"], seed)

    def run(self, shares: dict[str, float], start: int, batch: int, rounds: int) -> list[float]:
        """[rounds + 1] tuple F1 on the test rows, after the start and after each round."""
        labeled = np.argsort(self.ties, kind="stable")[:start]
        model = self.trained(labeled)
        scores = [self._f1(model)]
        for _ in range(rounds):
            labeled = np.concatenate([labeled, self.choose(model, labeled, shares, batch)])
            model = self.trained(labeled)
            scores.append(self._f1(model))
        return scores

    def trained(self, labeled: Ints) -> TfidfBaseline:
        """The model trained on these rows of the catalog."""
        return TfidfBaseline(self.catalog.take(pa.array(labeled)), self.validation, self.taxonomy)

    def choose(self, model: TfidfBaseline, labeled: Ints, shares: dict[str, float], batch: int) -> Ints:
        """[batch] rows of the catalog, by the code with which `acquire` selects.

        Raises UserError where too few different reviews are left.
        """
        hidden = np.setdiff1d(np.arange(len(self.texts)), labeled)
        values = np.stack([self._values(name, model, labeled, hidden) for name in shares], 1)
        rows = Candidates(
            stratum=np.zeros(len(hidden), np.int64), tie=self.ties[hidden], position=hidden, values=values
        )
        distinct = NearDuplicateFilter(self.alike)
        for i in labeled:
            distinct.add(self.texts[i])
        criteria = [Criterion(name, column, share) for column, (name, share) in enumerate(shares.items())]
        texts = [self.texts[i] for i in hidden]
        selection = select(batch, rows, texts, criteria, np.array([len(hidden)]), [], distinct)
        check(len(selection.rows) == batch, "--rounds: no other reviews that differ enough are left; write fewer")
        return hidden[selection.rows]

    def _f1(self, model: TfidfBaseline) -> float:
        true = [{label["keyword"]: label["score"] for label in row} for row in self.test["labels"].to_pylist()]
        return float(tuple_report(true, model.predict(self.test["text"].to_pylist()))["micro"]["f1"])

    def _values(self, name: str, model: TfidfBaseline, labeled: Ints, hidden: Ints) -> Floats:
        texts = [self.texts[i] for i in hidden]
        if name == "random":
            return uniform(self.ties[hidden])
        if name == "outlier":
            return self.outlier_values[hidden]
        if name == "rare":
            return Rarity([self.texts[i] for i in labeled])(texts)
        return unsure_values(model, texts)[name]

    @cached_property
    def outlier_values(self) -> Floats:
        """[catalog] distance to the nearest cluster; it does not depend on labels."""
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=2)
        features = vectorizer.fit_transform(self.texts)
        width = min(DIMENSIONS, features.shape[1] - 1)
        embeddings = TruncatedSVD(width, random_state=self.seed).fit_transform(features).astype(np.float32)
        return Outliers(embeddings, self.seed)(embeddings)


def unsure_values(model: TfidfBaseline, texts: Sequence[str]) -> dict[str, Floats]:
    """Criterion -> [texts] values, of the criteria that rest on a model's probabilities."""
    probabilities = model.probabilities(texts)
    review, keyword = (axis.astype(np.int64) for axis in np.nonzero(probabilities >= model.thresholds))
    keywords = unsure_keyword(probabilities, model.thresholds)
    scores = unsure_score(model.score_probabilities(texts, review, keyword), review, len(texts))
    both = np.asarray((keywords + scores) / 2, np.float32)
    return {"boundary": both, "unsure_keyword": keywords, "unsure_score": scores}
