"""Labels as arrays: which keywords a review has, and the score of each."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.arrays import Ints
from ray_app.data.taxonomy import Taxonomy


def keyword_matrix(table: pa.Table, taxonomy: Taxonomy) -> NDArray[np.bool_]:
    """[reviews, keywords] which keywords the labels name."""
    matrix = np.zeros((len(table), len(taxonomy.names)), bool)
    for i, labels in enumerate(table["labels"].to_pylist()):
        matrix[i, [taxonomy.index[label["keyword"]] for label in labels]] = True
    return matrix


def score_pairs(table: pa.Table, taxonomy: Taxonomy) -> tuple[Ints, Ints, Ints]:
    """(review, keyword, score) positions of every label, by review."""
    found = [
        (i, taxonomy.index[label["keyword"]], taxonomy.scores.index(label["score"]))
        for i, labels in enumerate(table["labels"].to_pylist())
        for label in labels
    ]
    columns = np.array(found, np.int64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def keyword_support(table: pa.Table) -> dict[str, int]:
    """How many reviews carry each keyword."""
    counts: Counter[Any] = Counter(label["keyword"] for labels in table["labels"].to_pylist() for label in labels)
    return dict(counts)
