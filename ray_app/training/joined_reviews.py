"""Two reviews joined into one: feelings are mixed in them, and what is said of one keyword no longer tells the others.

In: a labeled table. Out: its reviews as tokens with their labels; per epoch the same reviews, a share of them joined
with another that speaks of other keywords, drawn by the seed. Training rows only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import occurrences
from ray_app.engine.tokenizer import TokenizedReviews, Tokenizer
from ray_app.evaluation.mixed_reviews import overall_keywords
from ray_app.training.partial_labels import ASKED, COARSE

KOREAN = (" ", ". ", " 근데 ", " 하지만 ", " 그리고 ", "요. ", " 대신 ", " 다만 ")
OTHER = (" ", ". ", ", ", "; ", " but ", " and ", " though ")
TRIES = 4  # partners drawn for a review before it stays alone


@dataclass(frozen=True)
class Label:
    """Positions of a keyword and of its score, and per query the tokens of its words (positions, may be none): of the
    words that name the keyword, of those that say the feeling."""

    keyword: int
    score: int
    evidence: tuple[Ints, Ints]
    coarse: bool = False  # only the sign of the score is known

    def moved(self, tokens: int) -> "Label":
        """The same label of a review that begins so many tokens later."""
        named, felt = self.evidence
        return replace(self, evidence=(named + tokens, felt + tokens))


@dataclass(frozen=True)
class LabeledTokens:
    """A review's token ids without special tokens, its labels, the keywords that its labelers were asked about (None:
    all), and whether it is two reviews."""

    ids: list[int]
    labels: tuple[Label, ...]
    asked: frozenset[int] | None = None
    joined: bool = False


@dataclass(frozen=True, kw_only=True)
class Joining:
    """Training reviews of which a share is joined.

    Args:
        share: of the rows that are joined with another.
        overall: keywords about the whole of a review: a joined one does not have them.
        connectors: what may stand between two reviews, as token ids.
        room: most tokens of a joined review.
        draws: after so many epochs the same are drawn again, 0 for never.
    """

    rows: Sequence[LabeledTokens]
    share: float
    overall: frozenset[int]
    connectors: Sequence[list[int]]
    room: int
    seed: int
    draws: int = 0

    def drawn(self, epoch: int) -> np.random.Generator:
        """What an epoch draws by."""
        number = (epoch - 1) % self.draws + 1 if self.draws else epoch
        return np.random.default_rng([self.seed, number, 1])

    def epoch(self, epoch: int) -> list[LabeledTokens]:
        """The rows of an epoch, as many as there are."""
        rng = self.drawn(epoch)
        return [self.joined(row, rng) if rng.random() < self.share else row for row in self.rows]

    @cached_property
    def partners(self) -> list[LabeledTokens]:
        """The rows that say all they speak of: no other is joined."""
        return [row for row in self.rows if row.asked is None]

    def joined(self, row: LabeledTokens, rng: np.random.Generator) -> LabeledTokens:
        """The row and another that speaks of other keywords, in either order; the row alone where none fits."""
        own = self._particular(row) if row.asked is None else []
        for _ in range(TRIES):
            other = self.partners[int(rng.integers(len(self.partners)))]
            more = self._particular(other)
            between = self.connectors[int(rng.integers(len(self.connectors)))]
            apart = not {label.keyword for label in own} & {label.keyword for label in more}
            if own and more and apart and len(row.ids) + len(between) + len(other.ids) <= self.room:
                first, second = ((row, own), (other, more)) if rng.random() < 0.5 else ((other, more), (row, own))
                return _concatenated(*first, between, *second)
        return row

    def _particular(self, row: LabeledTokens) -> list[Label]:
        return [label for label in row.labels if label.keyword not in self.overall]


def joining(
    table: pa.Table, taxonomy: Taxonomy, tokenizer: Tokenizer, max_length: int, share: float, seed: int, draws: int = 0
) -> Joining:
    """The reviews of a labeled table, to be joined."""
    rows = labeled_tokens(table, taxonomy, tokenizer, max_length)
    whole = [row for row in rows if row.asked is None]
    return Joining(
        rows=rows,
        share=share,
        overall=frozenset(overall_keywords(named_keywords(whole, len(taxonomy.names))).tolist()),
        connectors=connectors(table["text"].to_pylist(), tokenizer),
        room=tokenizer.max_review_tokens(max_length),
        seed=seed,
        draws=draws,
    )


def _concatenated(
    first: LabeledTokens, labels: Sequence[Label], between: list[int], second: LabeledTokens, more: Sequence[Label]
) -> LabeledTokens:
    moved = len(first.ids) + len(between)
    shifted = (label.moved(moved) for label in more)
    return LabeledTokens([*first.ids, *between, *second.ids], (*labels, *shifted), joined=True)


def labeled_tokens(table: pa.Table, taxonomy: Taxonomy, tokenizer: Tokenizer, max_length: int) -> list[LabeledTokens]:
    """A labeled table's reviews, cut to what the model reads, with their labels."""
    room = tokenizer.max_review_tokens(max_length)
    texts = table["text"].to_pylist()
    tokens = tokenizer(texts).cut(room)
    position = {score: i for i, score in enumerate(taxonomy.scores)}
    asked, coarse = (_column(table, field.name) for field in (ASKED, COARSE))
    rows = []
    for i, (text, labels) in enumerate(zip(texts, table["labels"].to_pylist(), strict=True)):
        found = (
            Label(
                taxonomy.index[label["keyword"]],
                position[label["score"]],
                (
                    tokens_of(label["highlights"], text, tokens, i),
                    tokens_of(label["opinions"], text, tokens, i),
                ),
                bool(coarse[i]),
            )
            for label in labels
        )
        names = asked[i]
        about = None if names is None else frozenset(taxonomy.index[name] for name in names)
        rows.append(LabeledTokens(tokens.sequences.row(i).tolist(), tuple(found), about))
    return rows


def _column(table: pa.Table, name: str) -> list[Any]:
    """The values of a column, None everywhere where the table has no such column."""
    return table[name].to_pylist() if name in table.column_names else [None] * len(table)


def tokens_of(words: Sequence[str] | None, text: str, tokens: TokenizedReviews, row: int) -> Ints:
    """Positions of the tokens that share a letter with any occurrence of any of the words."""
    low, high = tokens.sequences.offsets[row : row + 2]
    start, end = tokens.start[low:high], tokens.end[low:high]
    touched = np.zeros(high - low, bool)
    for first, last in occurrences(text, words or ()):
        touched |= (start < last) & (end > first)
    return np.flatnonzero(touched)


def labels_of(rows: Sequence[LabeledTokens]) -> tuple[Ints, Ints, Ints]:
    """[labels] positions of row, keyword and score."""
    found = [(i, label.keyword, label.score) for i, row in enumerate(rows) for label in row.labels]
    review, keyword, score = np.array(found, np.int64).reshape(-1, 3).T
    return review.copy(), keyword.copy(), score.copy()


def named_keywords(rows: Sequence[LabeledTokens], keywords: int) -> Flags:
    """[rows, keywords] whether a row's labels name a keyword."""
    named = np.zeros((len(rows), keywords), bool)
    review, keyword, _ = labels_of(rows)
    named[review, keyword] = True
    return named


def connectors(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """What may stand between two joined reviews, as token ids, in the language most texts are in."""
    korean = sum(any("가" <= letter <= "힣" for letter in text) for text in texts) * 2 > len(texts)
    return [list(tokenizer.hf(text, add_special_tokens=False)["input_ids"]) for text in (KOREAN if korean else OTHER)]
