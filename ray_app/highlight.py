"""Occlusion: mask one word at a time, see which keyword's probability falls most.

In: token ids with the word of each token. Out: masked variants as Sequences, and per keyword the word with the largest
drop. A word that is repeated in a review (`좋아요 좋아요`) is masked in all its places as one candidate: its twin must
not hide the evidence. Masking happens on ids: a word's tokens become one mask id; text is never tokenised again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_app.sequences import Floats, Ints, Sequences, offsets_of, spread
from ray_app.text import Span

DECIMALS = 4  # probabilities and drops are kept to 1e-4, so that a result does not depend on its batch


@dataclass(frozen=True)
class Variants:
    """Masked copies of reviews, still without special tokens; `review`, `candidate` [variants] say whose."""

    sequences: Sequences
    review: Ints
    candidate: Ints


def candidates(texts: Sequence[str], words: Sequence[Sequence[Span]]) -> tuple[list[list[Span]], list[Ints]]:
    """Per review: the first span of each distinct word, and for every word its position among those."""
    firsts: list[list[Span]] = []
    positions: list[Ints] = []
    for text, spans in zip(texts, words, strict=True):
        known: dict[str, int] = {}
        first: list[Span] = []
        for start, end in spans:
            if known.setdefault(text[start:end], len(known)) == len(first):
                first.append((start, end))
        firsts.append(first)
        positions.append(np.fromiter((known[text[s:e]] for s, e in spans), np.int64, len(spans)))
    return firsts, positions


def mask(reviews: Sequences, candidate: Ints, word: Ints, mask_id: int) -> Variants:
    """Every review once per candidate it shows, with that candidate's tokens replaced by one mask id a word.

    Args:
        reviews: n token sequences, cut to what the model reads (a word beyond the cut is no candidate).
        candidate: [tokens] the candidate of each token, -1 for none.
        word: [tokens] the word of each token, -1 for none; two words may be one candidate.
    """
    owner = np.repeat(np.arange(len(reviews)), reviews.lengths)
    shown = candidate >= 0
    width = int(candidate.max(initial=-1)) + 1
    pairs = np.unique(owner[shown] * max(width, 1) + candidate[shown])
    review, which = (pairs // max(width, 1)), (pairs % max(width, 1))
    lengths = reviews.lengths[review]
    source = spread(reviews.offsets[:-1][review], lengths)
    hit = candidate[source] == np.repeat(which, lengths)
    first = np.ones(len(word), bool)
    first[1:] = (word[1:] != word[:-1]) | (owner[1:] != owner[:-1])
    keep = ~hit | first[source]
    ids = np.where(hit, mask_id, reviews.ids[source])[keep]
    kept = np.add.reduceat(keep, offsets_of(lengths)[:-1], dtype=np.int64) if len(review) else lengths
    return Variants(Sequences(ids, offsets_of(kept)), review, which)


def drops(before: Floats, after: Floats, variants: Variants) -> Floats:
    """[variants, keywords] how much masking lowers each probability, rounded to 1e-4."""
    return np.asarray(np.round(before[variants.review] - after, DECIMALS), np.float32)


def strongest(drop: NDArray[np.float32], candidate: Ints) -> tuple[int, float]:
    """The candidate with the largest drop among one review's variants; the first word wins a tie."""
    best = int(np.argmax(drop))  # variants are in candidate order, and argmax takes the first of equals
    return int(candidate[best]), float(drop[best])
