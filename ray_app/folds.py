"""Which rows are judged by a model that did not learn from them. In: texts. Out: a fold number a row.

Texts that say nearly the same are one group and share a fold: a copy among the training rows would tell the model the
very label that is in question.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold

from ray_app.config import check
from ray_app.duplicates import bands, jaccard, trigrams
from ray_app.sequences import Ints

ALIKE = 0.7  # Jaccard index of character trigrams from which two texts say nearly the same


def folds(texts: Sequence[str], count: int, seed: int) -> Ints:
    """[texts] numbers below `count`: random groups of near-identical texts, folds of about equal size.

    Raises UserError where there are fewer different texts than folds.
    """
    groups = alike(texts)
    different = len(np.unique(groups))
    check(count >= 2, f"--folds {count}: at least 2")
    check(different >= count, f"--folds {count}: there are only {different} different texts")
    fold = np.zeros(len(texts), np.int64)
    split = GroupKFold(count, shuffle=True, random_state=seed).split(np.zeros(len(texts)), groups=groups)
    for number, (_, held) in enumerate(split):
        fold[held] = number
    return fold


def alike(texts: Sequence[str], least: float = ALIKE) -> Ints:
    """[texts] a group number each: texts are in one group where a chain of near-identical ones joins them."""
    hashes = [trigrams(text) for text in texts]
    buckets: dict[bytes, list[int]] = defaultdict(list)
    pairs: set[tuple[int, int]] = set()
    for i, own in enumerate(hashes):
        for key in bands(own):
            if not (bucket := buckets[key]) or jaccard(own, hashes[bucket[0]]) < 1:  # a copy needs one pair, not many
                pairs |= {(other, i) for other in bucket}
                bucket.append(i)
            else:
                pairs.add((bucket[0], i))
    joined = [(a, b) for a, b in pairs if jaccard(hashes[a], hashes[b]) >= least]
    one, other = np.array(joined, np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(one)), (one, other)), shape=(len(texts), len(texts)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)
