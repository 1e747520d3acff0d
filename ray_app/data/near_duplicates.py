"""Near-duplicate texts: MinHash proposes pairs, the Jaccard index of their character trigrams decides.

In: texts, one by one or all at once. Out: whether each is new, or a group number per text. Time and memory grow with
the number of texts, not of pairs.
Sources: Broder 1997 (resemblance); Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3 (banding).
"""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ray_app.arrays import Hashes, Ints

ALIKE = 0.7  # Jaccard index of character trigrams from which two texts are near-duplicates
BANDS, ROWS = 8, 3  # texts with a Jaccard index of 0.8 share a band in 99.7% of cases, with 0.7 in 96%
_RNG = np.random.default_rng(20_260_101)
_FACTORS, _SHIFTS = _RNG.integers(1, 2**63, (2, BANDS * ROWS), dtype=np.uint64) | np.uint64(1)


class NearDuplicateFilter:
    """The distinct texts so far. `alike`: Jaccard index from which two are near-duplicates; above 1, none are."""

    def __init__(self, alike: float) -> None:
        self.alike = alike
        self.kept: list[Hashes] = []
        self.buckets: dict[bytes, list[int]] = defaultdict(list)

    def add(self, text: str) -> bool:
        """Keeps a new text and returns True; returns False for a near-duplicate of a kept one."""
        hashes = trigrams(text)
        keys = bands(hashes)
        candidates = {i for key in keys for i in self.buckets.get(key, ())}
        if any(jaccard(hashes, self.kept[i]) >= self.alike for i in candidates):
            return False
        for key in keys:
            self.buckets[key].append(len(self.kept))
        self.kept.append(hashes)
        return True


def trigrams(text: str) -> Hashes:
    """Distinct hashes of character trigrams; case, white space, punctuation and compatibility forms do not matter."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(character for character in folded if character.isalnum()) or folded.strip()
    codes = np.frombuffer(f"\x02{letters}\x03".encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    codes = np.pad(codes, (0, max(0, 3 - len(codes))))
    return np.unique((codes[:-2] << np.uint64(42)) | (codes[1:-1] << np.uint64(21)) | codes[2:])


def jaccard(one: Hashes, other: Hashes) -> float:
    """Shared trigrams over all trigrams of two texts, 0..1."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def bands(hashes: Hashes) -> list[bytes]:
    """A MinHash signature as BANDS bucket keys."""
    mixed = (hashes ^ (hashes >> np.uint64(29)))[:, None] * _FACTORS + _SHIFTS
    signature = (mixed ^ (mixed >> np.uint64(32))).min(0).reshape(BANDS, ROWS)
    return [bytes([band]) + row.tobytes() for band, row in enumerate(signature)]


def group_near_duplicates(texts: Sequence[str], least: float = ALIKE) -> Ints:
    """[texts] the group number of each; a chain of near-duplicates, of Jaccard index `least`, is one group."""
    hashes = [trigrams(text) for text in texts]
    buckets: dict[bytes, list[int]] = defaultdict(list)
    pairs: set[tuple[int, int]] = set()
    for i, own in enumerate(hashes):
        for key in bands(own):
            bucket = buckets[key]
            if bucket and jaccard(own, hashes[bucket[0]]) == 1:  # an exact copy needs one pair, not one per text
                pairs.add((bucket[0], i))
            else:
                pairs |= {(other, i) for other in bucket}
                bucket.append(i)
    joined = [(a, b) for a, b in pairs if jaccard(hashes[a], hashes[b]) >= least]
    one, other = np.array(joined, np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(one)), (one, other)), shape=(len(texts), len(texts)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)
