"""Occlusion on arrays: mask one word at a time, and find the one without which a keyword's probability falls most.

In: token ids with the word of each token. Out: masked variants as Sequences, and per keyword the word with the largest
drop. A word that is repeated in a review (`좋아요 좋아요`) is one candidate, masked everywhere at once, so that its
twin does not hide the evidence. Masking happens on ids, without tokenizing again: a word's tokens become one mask id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from ray_app.arrays import Floats, Ints
from ray_app.data.text import Span
from ray_app.engine.ragged import Sequences, expand_ranges, offsets_of

DECIMALS = 4  # probabilities and drops are kept to 1e-4, so that a result does not depend on its batch


@dataclass(frozen=True)
class Variants:
    """Masked copies of reviews, without special tokens; [variants] the `review` of each and the `candidate` masked."""

    sequences: Sequences
    review: Ints
    candidate: Ints

    def take(self, rows: Ints) -> "Variants":
        """The variants at these positions."""
        return Variants(self.sequences.take(rows), self.review[rows], self.candidate[rows])


def candidates(texts: Sequence[str], words: Sequence[Sequence[Span]]) -> tuple[list[list[Span]], Ints]:
    """Per review the first span of each distinct word, and [words of all reviews] the position of each among those of
    its review."""
    counts = np.fromiter(map(len, words), np.int64, len(words))
    spans = np.fromiter(chain.from_iterable(chain.from_iterable(words)), np.int64, 2 * int(counts.sum())).reshape(-1, 2)
    owner = np.repeat(np.arange(len(words)), counts)
    begin = offsets_of(np.fromiter(map(len, texts), np.int64, len(texts)))[:-1]
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    lengths = spans[:, 1] - spans[:, 0]
    spelled = Sequences(codes[expand_ranges(begin[owner] + spans[:, 0], lengths)], offsets_of(lengths))
    distinct, same = spelled.unique()
    _, first, group = np.unique(owner * (len(distinct) + 1) + same, return_index=True, return_inverse=True)
    new = np.zeros(len(spans), bool)
    new[first] = True
    number = np.cumsum(new) - 1
    kept = offsets_of(np.bincount(owner[new], minlength=len(words)))
    flat = list(zip(*spans[new].T.tolist(), strict=True))
    firsts = [flat[start:stop] for start, stop in pairwise(kept.tolist())]
    return firsts, number[first[group]] - kept[owner]


def shown_candidates(reviews: Sequences, candidate: Ints) -> tuple[Ints, Ints, Ints]:
    """The candidates of reviews that are read: [candidates] review and number of each, by review; and [tokens that show
    one] the position of its candidate among those.

    `candidate` [tokens]: the candidate of each token, -1 for none.
    """
    shown, lengths = candidate >= 0, reviews.lengths
    owner = np.repeat(np.arange(len(reviews)), lengths)
    room = np.zeros(len(reviews), np.int64)  # numbers that the candidates of a review may have
    if len(candidate):
        room[lengths > 0] = np.maximum.reduceat(candidate, reviews.offsets[:-1][lengths > 0]) + 1
    begin = offsets_of(room)
    place = begin[:-1][owner[shown]] + candidate[shown]
    seen = np.zeros(begin[-1], bool)
    seen[place] = True
    found = np.flatnonzero(seen)
    review = np.repeat(np.arange(len(reviews)), room)[found]
    return review, found - begin[:-1][review], (np.cumsum(seen) - 1)[place]


def mask(reviews: Sequences, candidate: Ints, word: Ints, mask_id: int) -> Variants:
    """Every review once per candidate it shows, with each of that candidate's words replaced by one mask id.

    Args:
        reviews: n token sequences, cut to what the model reads (a word beyond the cut is no candidate).
        candidate: [tokens] the candidate of each token, -1 for none.
        word: [tokens] the word of each token, -1 for none; two words may be one candidate.
    """
    owner = np.repeat(np.arange(len(reviews)), reviews.lengths)
    review, which, _ = shown_candidates(reviews, candidate)
    lengths = reviews.lengths[review]
    source = expand_ranges(reviews.offsets[:-1][review], lengths)
    hit = candidate[source] == np.repeat(which, lengths)
    first = np.ones(len(word), bool)
    first[1:] = (word[1:] != word[:-1]) | (owner[1:] != owner[:-1])
    keep = ~hit | first[source]
    ids = np.where(hit, mask_id, reviews.ids[source])[keep]
    kept = np.add.reduceat(keep, offsets_of(lengths)[:-1], dtype=np.int64) if len(review) else lengths
    return Variants(Sequences(ids, offsets_of(kept)), review, which)


def above_threshold(probabilities: Floats, thresholds: Sequence[float] | Floats) -> tuple[Ints, Ints]:
    """(review, keyword) positions of every probability [reviews, keywords] that reaches its keyword's threshold.

    `thresholds` [keywords], or [reviews, keywords] where reviews have their own.
    """
    review, keyword = np.nonzero(probabilities >= np.asarray(thresholds, np.float32))
    return review.astype(np.int64), keyword.astype(np.int64)


def drops(before: Floats, after: Floats) -> Floats:
    """How much masking lowers each probability (any shape), rounded to 1e-4."""
    return np.asarray(np.round(before - after, DECIMALS), np.float32)


def strongest_variant(drop: Floats, owner: Ints, review: Ints, keyword: Ints) -> Ints:
    """[pairs] the variant with the largest drop of each pair's keyword among its review's; the first word wins a tie.

    Args:
        drop: [variants, keywords].
        owner: [variants] each variant's review, ascending; a review's variants are in the order of its words.
        review: [pairs] and `keyword` [pairs]: what to find the word for; -1 comes back for a review without variants.
    """
    best = np.full(len(review), -1, np.int64)
    if not len(owner):
        return best
    new = np.concatenate([[True], owner[1:] != owner[:-1]])
    starts, segment = np.flatnonzero(new), np.cumsum(new) - 1
    top = np.maximum.reduceat(drop, starts, axis=0)
    rows = np.arange(len(owner))[:, None]
    first = np.minimum.reduceat(np.where(drop == top[segment], rows, len(owner)), starts, axis=0)
    owners = owner[starts]
    at = np.minimum(np.searchsorted(owners, review), len(owners) - 1)
    has = owners[at] == review
    best[has] = first[at[has], keyword[has]]
    return best


def shortlist(drop: Floats, owner: Ints, review: Ints, keyword: Ints, size: int) -> Ints:
    """Ascending variants that are among the `size` strongest for any of the (review, keyword) pairs."""
    left, chosen = drop.copy(), np.zeros(len(owner), bool)
    for _ in range(size):
        best = strongest_variant(left, owner, review, keyword)
        has = best >= 0
        chosen[best[has]] = True
        left[best[has], keyword[has]] = -np.inf
    return np.flatnonzero(chosen)
