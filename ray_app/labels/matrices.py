"""Labels as arrays. In: a LABELED table. Out: which keywords a review has, the score of each, and keyword counts."""

from collections import Counter

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags, Ints
from ray_app.data.taxonomy import Taxonomy


def keyword_matrix(table: pa.Table, taxonomy: Taxonomy) -> Flags:
    """[reviews, keywords] which keywords the labels name."""
    matrix = np.zeros((len(table), len(taxonomy.names)), bool)
    for i, labels in enumerate(table["labels"].to_pylist()):
        matrix[i, [taxonomy.index[label["keyword"]] for label in labels]] = True
    return matrix


def score_pairs(table: pa.Table, taxonomy: Taxonomy) -> tuple[Ints, Ints, Ints]:
    """Positions of the (review, keyword, score) of every label, each [labels], by review."""
    positions = [
        (i, taxonomy.index[label["keyword"]], taxonomy.scores.index(label["score"]))
        for i, labels in enumerate(table["labels"].to_pylist())
        for label in labels
    ]
    columns = np.array(positions, np.int64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def keyword_support(table: pa.Table) -> dict[str, int]:
    """How many reviews carry each keyword."""
    counts: Counter[str] = Counter(label["keyword"] for labels in table["labels"].to_pylist() for label in labels)
    return dict(counts)
