"""What other thresholds would find, without the model.

In: predictions.parquet of jobs.evaluate. Out: precision, recall and F1 of a keyword.
"""

from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags, Floats
from ray_app.errors import UserError

GRID = np.round(np.arange(0.0, 1.0001, 0.01), 2)

Measure = Literal["precision", "recall", "f1"]
MEASURES: tuple[Measure, ...] = ("precision", "recall", "f1")


class CurveRow(TypedDict):
    """One measure at one threshold."""

    threshold: float
    measure: Measure
    value: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """One keyword at one threshold: labeled and found, labeled and missed, found without a label."""

    threshold: float
    hits: int
    misses: int
    extra: int

    @property
    def precision(self) -> float | None:
        """None where nothing is found."""
        return self.hits / (self.hits + self.extra) if self.hits + self.extra else None

    @property
    def recall(self) -> float | None:
        """None where nothing is labeled."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None

    @property
    def f1(self) -> float | None:
        """None where nothing is found or labeled."""
        found_and_labeled = 2 * self.hits + self.misses + self.extra
        return 2 * self.hits / found_and_labeled if found_and_labeled else None

    def value(self, measure: Measure) -> float | None:
        """Precision, recall or F1."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1}[measure]


class KeywordPredictions:
    """Probabilities [reviews] of one keyword, and whether the labels name it [reviews]."""

    def __init__(self, predictions: pa.Table, name: str, position: int) -> None:
        rows = predictions["keyword_probabilities"].to_pylist()
        self.probabilities: Floats = np.array([row[position] for row in rows], np.float32)
        self.labeled: Flags = np.array([name in names for names in predictions["keywords"].to_pylist()], bool)

    def at(self, threshold: float) -> Point:
        """Found is what reaches the threshold, compared in float32 as in the graph."""
        found = self.probabilities >= np.float32(threshold)
        hits, misses = int((found & self.labeled).sum()), int((~found & self.labeled).sum())
        return Point(threshold=threshold, hits=hits, misses=misses, extra=int((found & ~self.labeled).sum()))

    def curve(self) -> list[CurveRow]:
        """Every measure over GRID, for a chart; undefined values are left out."""
        points = [self.at(float(threshold)) for threshold in GRID]
        return [
            {"threshold": point.threshold, "measure": measure, "value": value}
            for point in points
            for measure in MEASURES
            if (value := point.value(measure)) is not None
        ]


def check_predictions(predictions: pa.Table, keywords: int, uri: str) -> pa.Table:
    """The same table. Raises UserError where it does not belong to a report with this many keywords."""
    complete = {"keyword_probabilities", "keywords"} <= set(predictions.column_names)
    if not complete or any(len(row) != keywords for row in predictions["keyword_probabilities"].to_pylist()):
        raise UserError(f"{uri}: does not belong to the report beside it; run jobs.evaluate again")
    return predictions
