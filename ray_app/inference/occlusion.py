"""Highlights of many reviews at once. In: texts, probabilities, found keywords. Out: a word per found keyword.

exact    every word of a review masked once; one masked pass yields the drop of every keyword
recheck  an int8 pass over all masked variants names a few words per keyword, exact masking decides among them
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict, TypeVar

import numpy as np
import pyarrow as pa

from ray_app.arrays import Floats, Ints
from ray_app.data.schema import HIGHLIGHT
from ray_app.data.text import Span, splitter
from ray_app.engine.ragged import Sequences, offsets_of, split_by_budget
from ray_app.engine.tokenizer import word_of_token
from ray_app.errors import check
from ray_app.inference.masking import (
    DECIMALS,
    Variants,
    above_threshold,
    candidates,
    drops,
    mask,
    shortlist,
    strongest_variant,
)
from ray_app.inference.runtime import BundleRuntime

T = TypeVar("T")
MODES = ("exact", "recheck", "off")
VARIANT_TOKENS = 2_000_000  # masked tokens that are built at a time: bounds memory, whatever the block holds
SHORTLIST = 3  # words an int8 pass names per keyword: with random weights, the exact word is among them in 97%

Masked = tuple[list[list[Span]], Variants]  # per review the first span of each candidate; the variants of all reviews


class ExplainedWord(TypedDict):
    """A distinct word of a text: code points [start, end) of its first occurrence."""

    word: str
    start: int
    end: int


class Explanation(TypedDict):
    """The words of a text, and per found keyword [words] the drop in its probability without each."""

    words: list[ExplainedWord]
    drops: dict[str, list[float]]


class Occlusion:
    """Masks words and finds the one without which a keyword's probability falls most.

    Args:
        words: what a word is, `space` or `kiwi`.
        mode: `exact` or `recheck`.
        shortlisted: words per keyword that `recheck` masks exactly.
        variant_tokens: masked tokens that are built at a time.
    Raises: UserError where the bundle's tokenizer has no mask token.
    """

    def __init__(
        self,
        runtime: BundleRuntime,
        words: str = "space",
        mode: str = "exact",
        shortlisted: int = SHORTLIST,
        variant_tokens: int = VARIANT_TOKENS,
    ) -> None:
        self.runtime, self.splitter = runtime, splitter(words)
        self.rough = runtime.keywords_int8 if mode == "recheck" else None
        self.shortlisted, self.variant_tokens = shortlisted, variant_tokens
        check(
            runtime.tokenizer.mask_id is not None,
            f"bundle {runtime.bundle.path}: its tokenizer has no mask token; write --highlights off",
        )

    def __call__(self, texts: Sequence[str], before: Floats, review: Ints, keyword: Ints) -> pa.Array:
        """Highlights [pairs] of (review, keyword) pairs in ascending order of review; null where nothing can be masked.

        `before` [texts, keywords] are the probabilities of the whole texts.
        """
        needed = np.unique(review)  # reviews without a found keyword are never masked
        chunks = self.chunks([texts[i] for i in needed])
        highlights = [pa.array([], HIGHLIGHT)]
        for start, firsts, variants in self._ahead(chunks):
            rows = needed[start : start + len(firsts)]
            pairs = slice(*np.searchsorted(review, [rows[0], rows[-1] + 1]))
            highlights.append(self._best(texts, rows, (firsts, variants), before, review[pairs], keyword[pairs]))
        return pa.concat_arrays(highlights)

    def mask(self, texts: Sequence[str]) -> Masked:
        """Every candidate word of every text masked once."""
        firsts, reviews, word, candidate = self.words(texts)
        return firsts, mask(reviews, candidate, word, self.runtime.tokenizer.mask_id or 0)

    def words(self, texts: Sequence[str]) -> tuple[list[list[Span]], Sequences, Ints, Ints]:
        """Per text the first span of each candidate; its tokens, and each token's word and candidate, -1 for none."""
        tokens, _ = self.runtime.tokenize(texts)
        spans = self.splitter(texts)
        firsts, position = candidates(texts, spans)
        word = word_of_token(tokens, spans)
        owner = np.repeat(np.arange(len(texts)), tokens.sequences.lengths)
        begin = offsets_of(np.array([len(p) for p in position], np.int64))[:-1]
        flat = np.concatenate([*position, np.zeros(1, np.int64)])
        candidate = np.where(word >= 0, flat[np.where(word >= 0, begin[owner] + word, -1)], -1)
        return firsts, tokens.sequences, word, candidate

    def explain(self, text: str) -> Explanation:
        """The drop of every word of one text for each of its found keywords."""
        tokens, _ = self.runtime.tokenize([text])
        before = self.runtime.probabilities(tokens.sequences)
        firsts, variants = self.mask([text])
        drop = self.drops(variants, before).astype(float)
        spans = [firsts[0][i] for i in variants.candidate]
        _, keyword = above_threshold(before, self.runtime.meta.thresholds)
        return {
            "words": [{"word": text[start:end], "start": start, "end": end} for start, end in spans],
            "drops": {self.runtime.meta.taxonomy.names[k]: drop[:, k].round(DECIMALS).tolist() for k in keyword},
        }

    def drops(self, variants: Variants, before: Floats) -> Floats:
        """[variants, keywords] exact drops."""
        return drops(before[variants.review], self.runtime.probabilities(variants.sequences))

    def _best(
        self, texts: Sequence[str], rows: Ints, masked: Masked, before: Floats, review: Ints, keyword: Ints
    ) -> pa.Array:
        """Highlights of the pairs whose reviews are the texts at `rows`, masked in `masked`."""
        firsts, variants = masked
        local = np.searchsorted(rows, review)
        drop = self.decisive(variants, before[rows], local, keyword)
        best = strongest_variant(drop, variants.review, local, keyword)
        self.runtime.work.add(masked=len(rows), words=len(variants.review))
        spans = [firsts[i][variants.candidate[v]] if v >= 0 else (0, 0) for i, v in zip(local, best, strict=True)]
        words = [texts[i][start:end] for i, (start, end) in zip(review, spans, strict=True)]
        start, end = np.array(spans, np.int64).reshape(-1, 2).T
        value = drop[best, keyword] if len(drop) else np.zeros(len(best), np.float32)
        columns = [
            pa.array(column, field.type) for column, field in zip((words, start, end, value), HIGHLIGHT, strict=True)
        ]
        return pa.StructArray.from_arrays(columns, fields=list(HIGHLIGHT), mask=pa.array(best < 0))

    def decisive(self, variants: Variants, before: Floats, review: Ints, keyword: Ints) -> Floats:
        """[variants, keywords] exact drops of the variants that may win for a pair, minus infinity for all others."""
        if self.rough is None:
            return self.drops(variants, before)
        rough = drops(before[variants.review], self.runtime.probabilities(variants.sequences, self.rough))
        chosen = shortlist(rough, variants.review, review, keyword, self.shortlisted)
        exact = np.full(rough.shape, -np.inf, np.float32)
        exact[chosen] = self.drops(variants.take(chosen), before)
        return exact

    def chunks(self, texts: Sequence[str]) -> Iterator[tuple[int, list[list[Span]], Variants]]:
        """Masked texts, at most `variant_tokens` (or one longer text) at a time: the position of the first text, the
        first span of each candidate, the variants."""
        firsts, reviews, word, candidate = self.words(texts)
        cost = np.array([len(spans) for spans in firsts], np.int64) * reviews.lengths
        for start, stop in split_by_budget(cost, self.variant_tokens):
            tokens = slice(reviews.offsets[start], reviews.offsets[stop])
            own = Sequences(reviews.ids[tokens], reviews.offsets[start : stop + 1] - reviews.offsets[start])
            variants = mask(own, candidate[tokens], word[tokens], self.runtime.tokenizer.mask_id or 0)
            yield start, firsts[start:stop], variants

    def _ahead(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; with a GPU the next one is made while this one is worked on."""
        if self.runtime.device.torch_device.type == "cpu":
            yield from items
            return
        source = iter(items)
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(next, source, None)
            while (item := following.result()) is not None:
                following = pool.submit(next, source, None)
                yield item


def recheck_agreement(
    runtime: BundleRuntime, texts: Sequence[str], words: str, shortlisted: int = SHORTLIST
) -> tuple[float, int]:
    """The share of found keywords to which `recheck` and `exact` give the same word, and the number of keywords."""
    tokens, _ = runtime.tokenize(texts)
    before = runtime.probabilities(tokens.sequences)
    review, keyword = above_threshold(before, runtime.meta.thresholds)
    exact, recheck = (
        Occlusion(runtime, words, mode, shortlisted)(texts, before, review, keyword) for mode in ("exact", "recheck")
    )
    same = [a == b for a, b in zip(exact.field("start").to_pylist(), recheck.field("start").to_pylist(), strict=True)]
    return float(np.mean(same)) if same else 1.0, len(same)
