"""The words of texts that may be an answer, and how a keyword's attention lies on them.

In: texts. Out: their tokens with the candidate word of each; per candidate and keyword the share of attention; the
words with the largest value as HIGHLIGHTs. A word that is repeated in a review is one candidate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_app.arrays import Floats, Ints
from ray_app.data.schema import HIGHLIGHT
from ray_app.data.text import Span, splitter
from ray_app.engine.ragged import Sequences, offsets_of
from ray_app.engine.tokenizer import TokenizedReviews, word_of_token
from ray_app.inference.masking import DECIMALS, candidates, shown_candidates, strongest_variant
from ray_app.inference.runtime import BundleRuntime


@dataclass(frozen=True, kw_only=True)
class CandidateWords:
    """Per text the first span of each candidate word; the texts' tokens, cut to what is read; [tokens] the word and the
    candidate of each, -1 for none."""

    firsts: list[list[Span]]
    tokens: Sequences
    word: Ints
    candidate: Ints

    def between(self, start: int, stop: int) -> "CandidateWords":
        """Those of the texts from `start` up to `stop`."""
        tokens = slice(self.tokens.offsets[start], self.tokens.offsets[stop])
        offsets = self.tokens.offsets[start : stop + 1] - self.tokens.offsets[start]
        return CandidateWords(
            firsts=self.firsts[start:stop],
            tokens=Sequences(self.tokens.ids[tokens], offsets),
            word=self.word[tokens],
            candidate=self.candidate[tokens],
        )


class WordFinder:
    """Splits texts into candidate words.

    Args:
        words: what a word is, `space` or `kiwi`.
    """

    def __init__(self, runtime: BundleRuntime, words: str = "space") -> None:
        self.runtime, self.splitter = runtime, splitter(words)

    def __call__(self, texts: Sequence[str], tokens: TokenizedReviews | None = None) -> CandidateWords:
        """The candidate words of texts; `tokens` are theirs as the runtime cuts them, where they are known."""
        tokens = self.runtime.tokenize(texts)[0] if tokens is None else tokens
        spans = self.splitter(texts)
        firsts, position = candidates(texts, spans)
        word = word_of_token(tokens, spans)
        owner = np.repeat(np.arange(len(texts)), tokens.sequences.lengths)
        begin = offsets_of(np.fromiter(map(len, spans), np.int64, len(spans)))[:-1]
        candidate = np.full(len(word), -1, np.int64)
        of_words = word >= 0
        candidate[of_words] = position[begin[owner[of_words]] + word[of_words]]
        return CandidateWords(firsts=firsts, tokens=tokens.sequences, word=word, candidate=candidate)


@dataclass(frozen=True, kw_only=True)
class Attended:
    """Candidates that are read, by review: [candidates] the `review` and number of each, and [candidates, keywords,
    queries] the share of a query's attention that lies on it."""

    review: Ints
    candidate: Ints
    share: Floats


def attended(words: CandidateWords, attention: Floats) -> Attended:
    """How attention [tokens, keywords, queries] lies on the candidates, in the order in which `masking.mask` masks
    them; rounded, so that it depends on no batch."""
    review, candidate, position = shown_candidates(words.tokens, words.candidate)
    share = np.zeros((len(review), *attention.shape[1:]), np.float32)
    np.add.at(share, position, attention[words.candidate >= 0])
    return Attended(review=review, candidate=candidate, share=np.round(share, DECIMALS).astype(np.float32))


def strongest_words(
    texts: Sequence[str],
    firsts: Sequence[Sequence[Span]],
    value: Floats,
    owner: Ints,
    candidate: Ints,
    review: Ints,
    keyword: Ints,
) -> pa.Array:
    """HIGHLIGHTs [pairs] of (review, keyword) pairs: the word of the largest value; null where a review has none.

    `value` [candidates, keywords]; `owner` and `candidate` [candidates] the review and number of each, by review.
    """
    best = strongest_variant(value, owner, review, keyword)
    spans = [firsts[i][candidate[v]] if v >= 0 else (0, 0) for i, v in zip(review, best, strict=True)]
    found = [texts[i][start:end] for i, (start, end) in zip(review, spans, strict=True)]
    start, end = np.array(spans, np.int64).reshape(-1, 2).T
    strength = value[best, keyword] if len(value) else np.zeros(len(best), np.float32)
    columns = [
        pa.array(column, field.type) for column, field in zip((found, start, end, strength), HIGHLIGHT, strict=True)
    ]
    return pa.StructArray.from_arrays(columns, fields=list(HIGHLIGHT), mask=pa.array(best < 0))
