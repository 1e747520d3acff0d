"""Texts to token ids, once per review: the same ids feed the keyword pass, score prompts and masked variants.

In: texts. Out: Sequences without special tokens, each token's word, and what was cut. Prompts are put together from
token ids, so a review is tokenized once however many keywords it has, and cutting a long review never cuts the keyword.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ray_app.arrays import Ints
from ray_app.data.text import Span
from ray_app.engine.ragged import Sequences, expand_ranges, offsets_of
from ray_app.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as RawTokenizer
    from transformers import PreTrainedTokenizerFast

PROBES = ("가", "a", "1", ".")


@dataclass(frozen=True)
class TokenizedReviews:
    """The ids of n reviews without special tokens; `start`, `end` [tokens]: code-point span of each token."""

    sequences: Sequences
    start: Ints
    end: Ints

    def owners(self) -> Ints:
        """[tokens] the review of each token."""
        return np.repeat(np.arange(len(self.sequences)), self.sequences.lengths)

    def cut(self, room: int) -> "TokenizedReviews":
        """The first `room` tokens of every review."""
        if (self.sequences.lengths <= room).all():
            return self
        return self._of(self.sequences.offsets[:-1], np.minimum(self.sequences.lengths, room))

    def take(self, rows: Ints) -> "TokenizedReviews":
        """The named reviews, in that order."""
        return self._of(self.sequences.offsets[:-1][rows], self.sequences.lengths[rows])

    def _of(self, first: Ints, lengths: Ints) -> "TokenizedReviews":
        kept = expand_ranges(first, lengths)
        return TokenizedReviews(
            Sequences(self.sequences.ids[kept], offsets_of(lengths)), self.start[kept], self.end[kept]
        )


class Tokenizer:
    """A Hugging Face fast tokenizer, reduced to what the stages need. Call it with texts to get TokenizedReviews."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        self.hf = tokenizer
        self.special = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self.mask_id: int | None = tokenizer.mask_token_id
        self.pad_id: int = tokenizer.pad_token_id or 0
        _split_long_words(tokenizer)
        self.own_space = _ids(tokenizer, "가") == _ids(tokenizer, " 가")
        self.prefix, self.suffix = _around(tokenizer)

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """From a folder that holds only the tokenizer, as a bundle does."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))

    def __call__(self, texts: Sequence[str]) -> TokenizedReviews:
        encodings = self.plain(texts)
        sequences = Sequences.of([ids for ids, _ in encodings])
        numbers = chain.from_iterable(chain.from_iterable(spans for _, spans in encodings))
        spans = np.fromiter(numbers, np.int64, 2 * len(sequences.ids)).reshape(-1, 2)
        return TokenizedReviews(sequences, spans[:, 0], spans[:, 1])

    def plain(self, texts: Sequence[str]) -> list[tuple[list[int], list[Span]]]:
        """Per text its ids and their code points, none of them a special token's: where a review says `</s>` or
        `[MASK]`, that is text, and neither ends the review nor hides a word."""
        encodings = plain_text(self.hf).encode_batch(list(texts), add_special_tokens=False)
        return [self._spelled(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]

    def _spelled(self, text: str, encoding: "Encoding") -> tuple[list[int], list[Span]]:
        """An encoding with special tokens spelled: some vocabularies hold their names among the pieces of texts."""
        ids, spans = encoding.ids, encoding.offsets
        if self.special.isdisjoint(ids):
            return ids, spans
        spelled: list[tuple[int, Span]] = []
        for token, (start, end) in zip(ids, spans, strict=True):
            if token not in self.special:
                spelled.append((token, (start, end)))
                continue
            for at in range(start, end):
                letter = plain_text(self.hf).encode(text[at], add_special_tokens=False).ids
                spelled += [(one, (at, at + 1)) for one in letter if one not in self.special]
        return [token for token, _ in spelled], [span for _, span in spelled]

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, at less than half the time that the tokens themselves take."""
        encodings = plain_text(self.hf).encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def encode_fragment(self, text: str) -> list[int]:
        """The ids of a fixed fragment of a prompt.

        Where a tokenizer puts the space before a word into the word (`▁옷`), a space at the end of the fragment is
        part of the next one, and would be encoded twice.
        """
        text = text.rstrip(" ") if self.own_space else text
        return self.plain([text])[0][0] if text.strip() else []

    def wrap(
        self, reviews: Sequences, head: Sequence[int], tails: Sequence[Sequence[int]], tail: Ints, max_length: int
    ) -> Sequences:
        """prefix + head + review + tails[tail[i]] + suffix for each review i, the review cut to fit `max_length`."""
        tail_rows = Sequences.of([[*row, *self.suffix] for row in tails]).take(tail)
        front = np.array([*self.prefix, *head], np.int64)
        body = np.minimum(reviews.lengths, np.maximum(max_length - len(front) - tail_rows.lengths, 0))
        lengths = len(front) + body + tail_rows.lengths
        offsets = offsets_of(lengths)
        ids = np.empty(int(lengths.sum()), np.int64)
        ids[expand_ranges(offsets[:-1], np.full(len(reviews), len(front)))] = np.tile(front, len(reviews))
        ids[expand_ranges(offsets[:-1] + len(front), body)] = reviews.ids[expand_ranges(reviews.offsets[:-1], body)]
        ids[expand_ranges(offsets[1:] - tail_rows.lengths, tail_rows.lengths)] = tail_rows.ids
        return Sequences(ids, offsets)

    def with_special_tokens(self, reviews: Sequences, max_length: int) -> Sequences:
        """[CLS] review [SEP], cut to `max_length`."""
        return self.wrap(reviews, [], [[]], np.zeros(len(reviews), np.int64), max_length)

    def max_review_tokens(self, max_length: int) -> int:
        """How many tokens of a review fit between the special tokens."""
        return max_length - len(self.prefix) - len(self.suffix)


class ScorePrompt:
    """Score prompts of (review, keyword) pairs, by a format such as `bundle.SCORE_PROMPT`."""

    def __init__(self, tokenizer: Tokenizer, keywords: Sequence[str], prompt: str) -> None:
        before, after = prompt.split("{review}")
        self.tokenizer = tokenizer
        self.head = tokenizer.encode_fragment(before)
        self.tails = [tokenizer.encode_fragment(after.format(keyword=keyword)) for keyword in keywords]

    def __call__(self, reviews: Sequences, keyword: Ints, max_length: int) -> Sequences:
        """`reviews` [n] and the position of each review's keyword [n] -> n prompts of at most `max_length` tokens."""
        return self.tokenizer.wrap(reviews, self.head, self.tails, keyword, max_length)


def plain_text(tokenizer: "PreTrainedTokenizerFast") -> "RawTokenizer":
    """The tokenizer that takes the names of special tokens for text. transformers' own calls set it back.

    Setting it waits, with the interpreter's lock held, for what other threads encode: done only where it is not set.
    """
    raw: RawTokenizer = tokenizer.backend_tokenizer
    if not raw.encode_special_tokens:
        raw.encode_special_tokens = True
    return raw


def _ids(tokenizer: "PreTrainedTokenizerFast", text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _around(tokenizer: "PreTrainedTokenizerFast") -> tuple[list[int], list[int]]:
    """The special tokens before and after a text. The tokenizer marks its own, so the letter need not be known to it.

    Raises UserError where it writes none of PROBES.
    """
    for probe in PROBES:
        whole = tokenizer.backend_tokenizer.encode(probe)
        own = [i for i, special in enumerate(whole.special_tokens_mask) if not special]
        if own:
            return list(whole.ids[: own[0]]), list(whole.ids[own[-1] + 1 :])
    raise UserError(f"the tokenizer writes none of {', '.join(PROBES)}; it is not one for texts")


def _split_long_words(tokenizer: "PreTrainedTokenizerFast") -> None:
    """WordPiece makes one [UNK] of a word of more than 100 characters, so that all unspaced reviews would read the
    same: such a word is split first. Its search takes cubic time, so a higher limit is no way out."""
    from tokenizers import models, pre_tokenizers

    raw = tokenizer.backend_tokenizer
    if not isinstance(raw.model, models.WordPiece) or raw.pre_tokenizer is None:
        return
    longest = int(raw.model.max_input_chars_per_word)
    pieces = pre_tokenizers.FixedLength(length=longest)
    if "FixedLength" not in str(raw.pre_tokenizer):
        raw.pre_tokenizer = pre_tokenizers.Sequence([raw.pre_tokenizer, pieces])


def word_of_token(tokens: TokenizedReviews, words: Sequence[Sequence[Span]]) -> Ints:
    """[tokens] the word each token belongs to within its review, -1 for none.

    A token belongs to the word that holds its last character; one of white space alone (a lone `▁`) belongs to the word
    after it, which brought it about.
    """
    counts = np.fromiter(map(len, words), np.int64, len(words))
    ends = np.fromiter((end for spans in words for _, end in spans), np.int64, int(counts.sum()))
    owner, first = tokens.owners(), offsets_of(counts)
    # every review's places behind those of the review before it, so that one search serves all
    reach = 1 + max(int(ends.max(initial=0)), int(tokens.end.max(initial=0)))
    places = ends + reach * np.repeat(np.arange(len(words)), counts)
    found = np.searchsorted(places, np.maximum(tokens.end, 1) + reach * owner)
    word = np.minimum(found, first[1:][owner] - 1) - first[:-1][owner]
    return np.where(counts[owner] > 0, word, -1)
