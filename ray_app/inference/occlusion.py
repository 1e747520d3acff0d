"""Highlights and opinions of many reviews at once. In: texts, probabilities, found keywords. Out: words per keyword.

The highlight is the word without which the keyword's probability falls most (`배송은`), the opinion the one without
which the feeling's does (`늦어요`): the probability that the score has its sign. Both answers read the same masked
variants.

exact    every word of a review masked once; one masked pass yields the drop of every keyword
recheck  a few words per keyword are named by the attention of the score classifier (one pass over the review as it is)
         or by an int8 pass over all masked variants; exact masking decides among them
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypedDict, TypeVar

import numpy as np
import pyarrow as pa

from ray_app.arrays import Floats, Ints
from ray_app.data.schema import HIGHLIGHT
from ray_app.data.text import Span
from ray_app.engine.keyword_attention import NAMES
from ray_app.engine.ragged import split_by_budget
from ray_app.engine.tokenizer import TokenizedReviews
from ray_app.errors import check
from ray_app.inference.bundle import check_attends
from ray_app.inference.candidate_words import CandidateWords, WordFinder, attended, strongest_words
from ray_app.inference.masking import DECIMALS, Variants, above_threshold, drops, mask, shortlist
from ray_app.inference.runtime import BundleRuntime

T = TypeVar("T")
VARIANT_TOKENS = 2_000_000  # masked tokens that are built at a time: bounds memory, whatever the block holds
SHORTLIST = 3  # words named per keyword: with random weights, the exact word is among int8's in 97%

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


@dataclass(frozen=True)
class _Pairs:
    """[pairs] the position of each pair's review among some texts, and its keyword."""

    review: Ints
    keyword: Ints


class Occlusion:
    """Masks words and finds the one without which a keyword's probability falls most.

    Args:
        words: what a word is, `space` or `kiwi`.
        mode: `exact` or `recheck`.
        shortlisted: words per keyword that `recheck` masks exactly.
        named_by: what names those words, `int8` or `attention`.
        variant_tokens: masked tokens that are built at a time.
    Raises: UserError where the bundle's tokenizer has no mask token, or its keywords do not attend and are to.
    """

    def __init__(
        self,
        runtime: BundleRuntime,
        words: str = "space",
        mode: str = "exact",
        shortlisted: int = SHORTLIST,
        named_by: str = "int8",
        variant_tokens: int = VARIANT_TOKENS,
    ) -> None:
        self.runtime, self.words = runtime, WordFinder(runtime, words)
        self.recheck, self.shortlisted, self.variant_tokens = mode == "recheck", shortlisted, variant_tokens
        by_attention = named_by == "attention"
        if self.recheck and by_attention:
            check_attends(runtime.bundle, "--recheck-by attention", "write --recheck-by int8")
        self.rough = runtime.keywords_int8 if self.recheck and not by_attention else None
        check(
            runtime.tokenizer.mask_id is not None,
            f"bundle {runtime.bundle.path}: its tokenizer has no mask token; write --highlights off",
        )

    def __call__(self, texts: Sequence[str], before: Floats, review: Ints, keyword: Ints) -> pa.Array:
        """Highlights [pairs] of (review, keyword) pairs in ascending order of review; null where nothing can be masked.

        `before` [texts, keywords] are the probabilities of the whole texts.
        """
        return self.words_of(texts, before, review, keyword)[0]

    def words_of(
        self,
        texts: Sequence[str],
        before: Floats,
        review: Ints,
        keyword: Ints,
        scores: Floats | None = None,
        tokens: TokenizedReviews | None = None,
    ) -> tuple[pa.Array, pa.Array]:
        """Highlights and opinions [pairs] of such pairs; opinions are null without `scores` [pairs, scores], the score
        probabilities of the whole texts. `tokens` are those of the texts where they are known."""
        needed = np.unique(review)  # reviews without a found keyword are never masked
        chunks = self.chunks([texts[i] for i in needed], tokens and tokens.take(needed))
        highlights, opinions = [pa.array([], HIGHLIGHT)], [pa.array([], HIGHLIGHT)]
        for start, words, variants in self._ahead(chunks):
            rows = needed[start : start + len(words.firsts)]
            own = slice(*np.searchsorted(review, [rows[0], rows[-1] + 1]))
            pairs = _Pairs(np.searchsorted(rows, review[own]), keyword[own])
            own_texts = [texts[i] for i in rows]
            drop = self.decisive(words, variants, before[rows], pairs.review, pairs.keyword)
            highlights.append(_strongest(own_texts, words, variants, drop, pairs))
            if scores is None:
                opinions.append(pa.nulls(len(pairs.review), HIGHLIGHT))
            else:
                felt = self.feeling_drops(variants, pairs.review, pairs.keyword, scores[own])
                opinions.append(_strongest(own_texts, words, variants, felt, pairs))
            self.runtime.work.add(masked=len(rows), words=len(variants.review))
        return pa.concat_arrays(highlights), pa.concat_arrays(opinions)

    def mask(self, texts: Sequence[str]) -> Masked:
        """Every candidate word of every text masked once."""
        words = self.words(texts)
        return words.firsts, mask(words.tokens, words.candidate, words.word, self.runtime.tokenizer.mask_id or 0)

    def explain(self, text: str) -> Explanation:
        """The drop of every word of one text for each of its found keywords."""
        for explanation in self.explaining(text, sys.maxsize):
            found = explanation
        assert found is not None
        return found

    def explaining(self, text: str, tokens: int) -> Iterator[Explanation | None]:
        """The same in steps that read about `tokens` each: None until the explanation is there, which comes last."""
        review, _ = self.runtime.tokenize([text])
        before = self.runtime.probabilities(review.sequences)
        firsts, variants = self.mask([text])
        drop = [np.zeros((0, before.shape[1]))]
        rows = max(1, tokens // max(1, int(review.sequences.lengths[0])))
        for start in range(0, len(variants.review), rows):
            if start:
                yield None
            part = variants.take(np.arange(start, min(start + rows, len(variants.review))))
            drop.append(self.drops(part, before).astype(float))
        every = np.concatenate(drop)
        spans = [firsts[0][i] for i in variants.candidate]
        _, keyword = above_threshold(before, self.runtime.meta.thresholds)
        names = self.runtime.meta.taxonomy.names
        yield {
            "words": [{"word": text[start:end], "start": start, "end": end} for start, end in spans],
            "drops": {names[k]: every[:, k].round(DECIMALS).tolist() for k in keyword},
        }

    def drops(self, variants: Variants, before: Floats) -> Floats:
        """[variants, keywords] exact drops."""
        return drops(before[variants.review], self.runtime.probabilities(variants.sequences))

    def feeling_drops(self, variants: Variants, review: Ints, keyword: Ints, scores: Floats) -> Floats:
        """[variants, keywords] how much masking lowers the probability that each pair's feeling has the sign of its
        score; zero beside the pairs. By the exact score an intensifier (`정말`) would win: it makes a +1 a +2.

        `scores` [pairs, scores]: probabilities of the whole reviews.
        """
        signs = np.sign(self.runtime.meta.taxonomy.scores)
        same = signs[None, :] == signs[scores.argmax(1)][:, None]  # [pairs, scores]
        last = max(int(review.max(initial=-1)), int(variants.review.max(initial=-1)))
        shape = (last + 1, len(self.runtime.meta.taxonomy.names))
        number, whole = np.full(shape, -1), np.zeros(shape, np.float32)
        number[review, keyword] = np.arange(len(same))
        whole[review, keyword] = (scores * same).sum(1)
        variant, of = np.nonzero(number[variants.review] >= 0)
        masked = self.runtime.score_probabilities(variants.sequences, variant, of)
        after = np.zeros((len(variants.review), shape[1]), np.float32)
        after[variant, of] = (masked * same[number[variants.review[variant], of]]).sum(1)
        return drops(whole[variants.review], after)

    def decisive(
        self, words: CandidateWords, variants: Variants, before: Floats, review: Ints, keyword: Ints
    ) -> Floats:
        """[variants, keywords] exact drops of the variants that may win for a pair, minus infinity for all others."""
        if not self.recheck:
            return self.drops(variants, before)
        if self.rough is None:
            rough = attended(words, self.runtime.attention(words.tokens).weights).share[:, :, NAMES]
        else:
            rough = drops(before[variants.review], self.runtime.probabilities(variants.sequences, self.rough))
        chosen = shortlist(rough, variants.review, review, keyword, self.shortlisted)
        exact = np.full(rough.shape, -np.inf, np.float32)
        exact[chosen] = self.drops(variants.take(chosen), before)
        return exact

    def chunks(
        self, texts: Sequence[str], tokens: TokenizedReviews | None = None
    ) -> Iterator[tuple[int, CandidateWords, Variants]]:
        """Masked texts, at most `variant_tokens` (or one longer text) at a time: the position of the first text, the
        texts' words, the variants."""
        words = self.words(texts, tokens)
        cost = np.array([len(spans) for spans in words.firsts], np.int64) * words.tokens.lengths
        for start, stop in split_by_budget(cost, self.variant_tokens):
            own = words.between(start, stop)
            yield start, own, mask(own.tokens, own.candidate, own.word, self.runtime.tokenizer.mask_id or 0)

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


def _strongest(
    texts: Sequence[str], words: CandidateWords, variants: Variants, drop: Floats, pairs: _Pairs
) -> pa.Array:
    """[pairs] the word whose masking drops most; null for a review in which nothing can be masked."""
    places = (variants.review, variants.candidate, pairs.review, pairs.keyword)
    return strongest_words(texts, words.firsts, drop, *places)


def recheck_agreement(
    runtime: BundleRuntime, texts: Sequence[str], words: str, shortlisted: int = SHORTLIST, named_by: str = "int8"
) -> tuple[float, int]:
    """The share of found keywords to which `recheck` and `exact` give the same word, and the number of keywords."""
    tokens, _ = runtime.tokenize(texts)
    before = runtime.probabilities(tokens.sequences)
    review, keyword = above_threshold(before, runtime.meta.thresholds)
    exact, recheck = (
        Occlusion(runtime, words, mode, shortlisted, named_by)(texts, before, review, keyword)
        for mode in ("exact", "recheck")
    )
    same = [a == b for a, b in zip(exact.field("start").to_pylist(), recheck.field("start").to_pylist(), strict=True)]
    return float(np.mean(same)) if same else 1.0, len(same)
