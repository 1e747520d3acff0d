"""What other thresholds would find. In: predictions.parquet of jobs.evaluate. Out: precision and recall, no model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.errors import UserError

GRID = np.round(np.arange(0.0, 1.0001, 0.01), 2)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One keyword at one threshold: labelled and found, labelled and missed, found without a label."""

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
        """None where nothing is labelled."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None

    @property
    def f1(self) -> float | None:
        all_of_them = 2 * self.hits + self.misses + self.extra
        return 2 * self.hits / all_of_them if all_of_them else None


class Keyword:
    """Probabilities [reviews] of one keyword and whether the labels name it."""

    def __init__(self, predictions: pa.Table, name: str, position: int) -> None:
        rows = predictions["keyword_probabilities"].to_pylist()
        self.probabilities: NDArray[np.float32] = np.array([row[position] for row in rows], np.float32)
        self.labeled = np.array([name in named for named in predictions["keywords"].to_pylist()], bool)

    def at(self, threshold: float) -> Point:
        """Found is what reaches the threshold, compared as the graph does."""
        found = self.probabilities >= np.float32(threshold)
        hits, misses = int((found & self.labeled).sum()), int((~found & self.labeled).sum())
        return Point(threshold=threshold, hits=hits, misses=misses, extra=int((found & ~self.labeled).sum()))

    def curve(self) -> list[dict[str, Any]]:
        """Long rows (threshold, measure, value) over GRID, for a chart; measures that do not exist are left out."""
        points = [self.at(float(threshold)) for threshold in GRID]
        measures = ("precision", "recall", "f1")
        rows = [{"threshold": p.threshold, "measure": m, "value": getattr(p, m)} for p in points for m in measures]
        return [row for row in rows if row["value"] is not None]


def checked(predictions: pa.Table, keywords: int, place: str) -> pa.Table:
    """The same table. Raises UserError where it does not belong to a report of so many keywords."""
    needed = {"keyword_probabilities", "keywords"} <= set(predictions.column_names)
    if not needed or any(len(row) != keywords for row in predictions["keyword_probabilities"].to_pylist()):
        raise UserError(f"{place}: does not belong to the report beside it; run jobs.evaluate again")
    return predictions
