"""The training task of a KeywordScorer: a review with all its labels is one row.

In: labeled tables, a taxonomy, a tokenizer. Out: a KeywordScoreTask for `loop.train_model`. Two things teach it to read
the keyword. *Evidence*: where labels have words, highlights or opinions, the attention of the keyword's queries is
drawn onto them. *Joined reviews*: a share of the rows, drawn anew each epoch, is two reviews with different keywords
made into one, so that a review's overall feeling no longer tells the score of every keyword.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.arrays import Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.engine.batching import padded
from ray_app.engine.device import Device
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import TokenizedReviews, Tokenizer
from ray_app.training.classifier_task import Metrics, class_weights, predict_logits, score_metrics
from ray_app.training.loop import Settings

OVERALL = 0.95  # a keyword on at least this share of the reviews is about the whole of a review
KOREAN = (" ", ". ", " 근데 ", " 하지만 ", " 그리고 ", "요. ", " 대신 ", " 다만 ")
OTHER = (" ", ". ", ", ", "; ", " but ", " and ", " though ")
TRIES = 4  # partners drawn for a review before it stays alone
HEAD_RATE = 1e-3  # learning rate of the attention, however slowly the encoder learns


@dataclass(frozen=True)
class Label:
    """Positions of a keyword and of its score, and per query the tokens of its words (positions, may be none): of the
    words that name the keyword, of those that say the feeling."""

    keyword: int
    score: int
    evidence: tuple[Ints, Ints]

    def moved(self, tokens: int) -> "Label":
        """The same label of a review that begins so many tokens later."""
        named, felt = self.evidence
        return Label(self.keyword, self.score, (named + tokens, felt + tokens))


@dataclass(frozen=True)
class LabeledTokens:
    """A review's token ids without special tokens, and its labels."""

    ids: list[int]
    labels: tuple[Label, ...]


@dataclass(kw_only=True)
class KeywordScoreTask:
    """A `loop.TrainingTask` in which every label is one term of the loss.

    Args:
        weights: [scores] of the cross-entropy, or None.
        evidence: weight of the attention's term; 0 asks nothing of it.
        join: share of rows that are joined with another.
        overall: keywords about the whole of a review: a joined one does not have them.
    """

    train: Sequence[LabeledTokens]
    validation: Sequence[LabeledTokens]
    metrics: Metrics
    tokenizer: Tokenizer
    max_length: int
    keywords: int
    scores: int
    weights: Floats | None
    evidence: float
    join: float
    overall: frozenset[int]
    connectors: Sequence[list[int]]
    seed: int
    rows: list[LabeledTokens] = field(init=False)  # of this epoch

    def __post_init__(self) -> None:
        self.rows = list(self.train)

    @property
    def name(self) -> str:
        """The classifier's."""
        return "scores"

    @property
    def lengths(self) -> Ints:
        """[n] tokens of every training row of this epoch."""
        return np.array([len(row.ids) for row in self.rows], np.int64)

    @property
    def terms(self) -> Ints:
        """[n] labels of every training row of this epoch."""
        return np.array([len(row.labels) for row in self.rows], np.int64)

    def begin_epoch(self, epoch: int) -> None:
        """Joins a share of the rows with others, by the seed."""
        rng = np.random.default_rng([self.seed, epoch, 1])
        self.rows = [self._joined(row, rng) if rng.random() < self.join else row for row in self.train]

    def parts(self, model: KeywordScorer, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """Encoder and head: queries that have yet to find their tokens learn at HEAD_RATE at least."""
        return (model.encoder, 1.0), (model.head, max(1.0, HEAD_RATE / settings.learning_rate))

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The summed loss of these rows' labels."""
        chosen = [self.rows[row] for row in rows]
        sequences = self.tokenizer.with_special_tokens(Sequences.of([row.ids for row in chosen]), self.max_length)
        ids, mask = (t.to(device) for t in padded(sequences, self.tokenizer.pad_id))
        logits, attention = model(ids, mask, attention=True)
        assert isinstance(logits, Tensor)
        review = torch.tensor([i for i, row in enumerate(chosen) for _ in row.labels], device=device)
        keyword = torch.tensor([label.keyword for row in chosen for label in row.labels], device=device)
        score = torch.tensor([label.score for row in chosen for label in row.labels], device=device)
        if not len(review):
            return logits.sum() * 0.0
        grid = logits.float().view(len(chosen), self.keywords, self.scores)[review, keyword]
        weights = None if self.weights is None else torch.as_tensor(self.weights, device=device)
        total: Tensor = F.cross_entropy(grid, score, weight=weights, reduction="none").sum()
        return total + self.evidence * self._evidence(chosen, attention[review, keyword])

    def _evidence(self, chosen: Sequence[LabeledTokens], attention: Tensor) -> Tensor:
        """The summed -log of the attention that lies on evidence; `attention` [labels, queries, length] is its
        logarithm."""
        wanted = torch.zeros(attention.shape, dtype=torch.bool)
        front = len(self.tokenizer.prefix)
        for i, label in enumerate(label for row in chosen for label in row.labels):
            for query, tokens in enumerate(label.evidence):
                wanted[i, query, tokens[tokens < wanted.shape[2] - front] + front] = True
        named = wanted.any(2)
        wanted, kept = wanted[named].to(attention.device), attention[named.to(attention.device)]
        return -kept.masked_fill(~wanted, -torch.inf).logsumexp(1).clamp_min(-15.0).sum()

    def validate(self, model: KeywordScorer, device: Device) -> dict[str, float]:
        """`metrics` of the validation labels."""
        return self.metrics(self.validation_logits(model, device))

    def validation_logits(self, model: KeywordScorer, device: Device) -> Floats:
        """[labels, scores]."""
        sequences = Sequences.of([row.ids for row in self.validation])
        sequences = self.tokenizer.with_special_tokens(sequences, self.max_length)
        logits = predict_logits(model, sequences, device, self.tokenizer.pad_id)
        grid = logits.reshape(len(self.validation), self.keywords, self.scores)
        review = [i for i, row in enumerate(self.validation) for _ in row.labels]
        keyword = [label.keyword for row in self.validation for label in row.labels]
        return np.asarray(grid[review, keyword])

    def _joined(self, row: LabeledTokens, rng: np.random.Generator) -> LabeledTokens:
        """The row and another that speaks of other keywords, in either order; the row alone where none fits."""
        room = self.max_length - len(self.tokenizer.prefix) - len(self.tokenizer.suffix)
        own = self._particular(row)
        for _ in range(TRIES):
            other = self.train[int(rng.integers(len(self.train)))]
            more = self._particular(other)
            between = self.connectors[int(rng.integers(len(self.connectors)))]
            apart = not {label.keyword for label in own} & {label.keyword for label in more}
            if own and more and apart and len(row.ids) + len(between) + len(other.ids) <= room:
                first, second = ((row, own), (other, more)) if rng.random() < 0.5 else ((other, more), (row, own))
                return _concatenated(*first, between, *second)
        return row

    def _particular(self, row: LabeledTokens) -> list[Label]:
        return [label for label in row.labels if label.keyword not in self.overall]


def _concatenated(
    first: LabeledTokens, labels: Sequence[Label], between: list[int], second: LabeledTokens, more: Sequence[Label]
) -> LabeledTokens:
    moved = len(first.ids) + len(between)
    shifted = (label.moved(moved) for label in more)
    return LabeledTokens([*first.ids, *between, *second.ids], (*labels, *shifted))


def labeled_tokens(table: pa.Table, taxonomy: Taxonomy, tokenizer: Tokenizer, max_length: int) -> list[LabeledTokens]:
    """A labeled table's reviews, cut to what the model reads, with their labels."""
    room = tokenizer.max_review_tokens(max_length)
    texts = table["text"].to_pylist()
    tokens = tokenizer(texts).cut(room)
    position = {score: i for i, score in enumerate(taxonomy.scores)}
    rows = []
    for i, (text, labels) in enumerate(zip(texts, table["labels"].to_pylist(), strict=True)):
        found = (
            Label(
                taxonomy.index[label["keyword"]],
                position[label["score"]],
                (
                    _tokens_of(label["highlights"], text, tokens, i),
                    _tokens_of(label["opinions"], text, tokens, i),
                ),
            )
            for label in labels
        )
        rows.append(LabeledTokens(tokens.sequences.row(i).tolist(), tuple(found)))
    return rows


def _tokens_of(words: Sequence[str] | None, text: str, tokens: TokenizedReviews, row: int) -> Ints:
    """Positions of the tokens that share a letter with any occurrence of any of the words."""
    low, high = tokens.sequences.offsets[row : row + 2]
    start, end = tokens.start[low:high], tokens.end[low:high]
    touched = np.zeros(high - low, bool)
    for first, last in _occurrences(text, words or []):
        touched |= (start < last) & (end > first)
    return np.flatnonzero(touched)


def _occurrences(text: str, words: Sequence[str]) -> Iterator[tuple[int, int]]:
    for word in filter(None, words):
        at = text.find(word)
        while at >= 0:
            yield at, at + len(word)
            at = text.find(word, at + 1)


def overall_keywords(rows: Sequence[LabeledTokens]) -> frozenset[int]:
    """Keywords that nearly every review has a label of."""
    counts: dict[int, int] = {}
    for row in rows:
        for label in row.labels:
            counts[label.keyword] = counts.get(label.keyword, 0) + 1
    return frozenset(keyword for keyword, count in counts.items() if count >= OVERALL * len(rows))


def connectors(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """What may stand between two joined reviews, as token ids, in the language most texts are in."""
    korean = sum(any("가" <= letter <= "힣" for letter in text) for text in texts) * 2 > len(texts)
    return [list(tokenizer.hf(text, add_special_tokens=False)["input_ids"]) for text in (KOREAN if korean else OTHER)]


def keyword_score_task(
    train: pa.Table,
    validation: pa.Table,
    taxonomy: Taxonomy,
    tokenizer: Tokenizer,
    max_length: int,
    balance: float,
    evidence: float,
    join: float,
    seed: int,
) -> KeywordScoreTask:
    """What the score classifier learns in its attention form. `balance` is the power of `class_weights`."""
    learned, held_out = (labeled_tokens(table, taxonomy, tokenizer, max_length) for table in (train, validation))
    scores = np.array([label.score for row in learned for label in row.labels], np.int64)
    true = np.array([label.score for row in held_out for label in row.labels], np.int64)
    return KeywordScoreTask(
        train=learned,
        validation=held_out,
        metrics=score_metrics(true, taxonomy),
        tokenizer=tokenizer,
        max_length=max_length,
        keywords=len(taxonomy.names),
        scores=len(taxonomy.scores),
        weights=class_weights(scores, len(taxonomy.scores), balance),
        evidence=evidence,
        join=join,
        overall=overall_keywords(learned),
        connectors=connectors(train["text"].to_pylist(), tokenizer),
        seed=seed,
    )
