"""The stages of an analysis and how they feed one another: plain Python, no Ray.

A stage loads in `__init__` and works in `__call__`: an Arrow table in, the same rows with more columns out. The catalog
job puts stages in actor pools, the endpoint in deployments, `Analyzer` runs them here: one graph, the same results.

    text -> KeywordStage -> keyword_probabilities, truncated
         -> SentimentStage -> scores        (per found keyword, its score probabilities)
         -> HighlightStage -> highlights    (per found keyword, the word that carries it)
         -> assemble -> findings
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app import bundle as bundles
from ray_app.bundle import Bundle
from ray_app.classifier import Classifier, place, sigmoid, softmax
from ray_app.config import check
from ray_app.highlight import DECIMALS, candidates, drops, mask, strongest
from ray_app.model import load_model
from ray_app.schema import ANALYSIS, FINDING, HIGHLIGHT
from ray_app.sequences import Floats, Ints, Sequences, offsets_of
from ray_app.text import Span, splitter
from ray_app.tokens import ScorePrompt, Tokenizer, Tokens, word_of_token

HIGHLIGHTS = ("exact", "off")
VARIANT_TOKENS = 2_000_000  # masked tokens that are built at a time: bounds memory, whatever the block holds

Stage = Callable[[pa.Table], pa.Table]


class Parts:
    """What stages share in one process: bundle, tokenizer and classifiers, each loaded at most once."""

    def __init__(self, bundle: str | Bundle, device: str = "auto", threads: int = 0) -> None:
        self.bundle = bundles.load(bundle) if isinstance(bundle, str) else bundle
        self.meta = self.bundle.meta
        self.placement = place(device, threads)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.bundle.path / "tokenizer")

    @cached_property
    def keywords(self) -> Classifier:
        return self._classifier("keywords", len(self.meta.taxonomy.keywords))

    @cached_property
    def scores(self) -> Classifier:
        return self._classifier("scores", len(self.meta.taxonomy.scores))

    def reviews(self, texts: Sequence[str]) -> tuple[Tokens, NDArray[np.bool_]]:
        """Tokens of each text cut to what the keyword classifier reads, and which were cut."""
        tokens = self.tokenizer(texts)
        room = self.tokenizer.room(self.meta.max_length)
        return tokens.cut(room), tokens.sequences.lengths > room

    def probabilities(self, reviews: Sequences) -> Floats:
        """[n, keywords] sigmoid probabilities, rounded."""
        return rounded(sigmoid(self.keywords(self.tokenizer.plain(reviews, self.meta.max_length))))

    def _classifier(self, name: str, outputs: int) -> Classifier:
        model = load_model(self.bundle.path / name, self.meta.pooling)
        check(
            model.head.out_features == outputs,
            f"bundle {self.bundle.path}: {name} has {model.head.out_features} outputs where its taxonomy has {outputs}",
        )
        return Classifier(model, self.placement, self.tokenizer.pad_id)


class KeywordStage:
    """text -> keyword_probabilities, truncated."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.keywords, self.tokenizer = parts.keywords, parts.tokenizer

    def __call__(self, table: pa.Table) -> pa.Table:
        tokens, cut = self.parts.reviews(table["text"].to_pylist())
        probabilities = self.parts.probabilities(tokens.sequences)
        size = pa.list_(pa.float32())
        column = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.reshape(-1)), len(self.parts.meta.thresholds))
        return table.append_column("keyword_probabilities", column.cast(size)).append_column("truncated", pa.array(cut))


class SentimentStage:
    """text, keyword_probabilities -> scores: per found keyword, in taxonomy order, its score probabilities."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.classifier = parts, parts.scores
        self.prompt = ScorePrompt(parts.tokenizer, parts.meta.taxonomy.names, parts.meta.score_prompt)

    def __call__(self, table: pa.Table) -> pa.Table:
        review, keyword = found(table, self.parts.meta.thresholds)
        values = self.probabilities(table["text"].to_pylist(), review, keyword)
        width = len(self.parts.meta.taxonomy.scores)
        per_finding = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width).cast(
            pa.list_(pa.float32())
        )
        return table.append_column("scores", _nested(per_finding, review, len(table)))

    def probabilities(self, texts: Sequence[str], review: Ints, keyword: Ints) -> Floats:
        """[pairs, scores] for (review, keyword) pairs, rounded."""
        reviews = self.parts.tokenizer(texts).sequences
        prompts = self.prompt(reviews.take(review), keyword, self.parts.meta.max_length)
        return rounded(softmax(self.classifier(prompts)))


class HighlightStage:
    """text, keyword_probabilities -> highlights: per found keyword, the word whose masking lowers it most."""

    def __init__(self, parts: Parts, words: str = "space") -> None:
        self.parts, self.classifier = parts, parts.keywords
        self.splitter = splitter(words)
        check(
            parts.tokenizer.mask_id is not None,
            f"bundle {parts.bundle.path}: its tokenizer has no mask token; write --highlights off",
        )

    def __call__(self, table: pa.Table) -> pa.Table:
        review, keyword = found(table, self.parts.meta.thresholds)
        texts = table["text"].to_pylist()
        probabilities = probability_matrix(table, len(self.parts.meta.thresholds))
        highlights: list[dict[str, Any] | None] = [None] * len(review)
        needed = np.unique(review)  # reviews without a found keyword are never masked
        for rows in self._chunks([texts[i] for i in needed]):
            self._fill(highlights, texts, needed[rows], review, keyword, probabilities)
        return table.append_column("highlights", _nested(pa.array(highlights, HIGHLIGHT), review, len(table)))

    def drops(self, texts: Sequence[str], before: Floats) -> tuple[list[list[Span]], Ints, Ints, Floats]:
        """Every candidate word of every text: its spans, and per masked variant its review, candidate and drops."""
        tokens, _ = self.parts.reviews(texts)
        spans = self.splitter(texts)
        firsts, position = candidates(texts, spans)
        word = word_of_token(tokens, spans)
        owner = np.repeat(np.arange(len(texts)), tokens.sequences.lengths)
        begin = offsets_of(np.array([len(p) for p in position], np.int64))[:-1]
        flat = np.concatenate([*position, np.zeros(1, np.int64)])
        candidate = np.where(word >= 0, flat[np.where(word >= 0, begin[owner] + word, -1)], -1)
        variants = mask(tokens.sequences, candidate, word, self.parts.tokenizer.mask_id or 0)
        after = self.parts.probabilities(variants.sequences)
        return firsts, variants.review, variants.candidate, drops(before, after, variants)

    def _fill(
        self,
        highlights: list[dict[str, Any] | None],
        texts: Sequence[str],
        rows: Ints,
        review: Ints,
        keyword: Ints,
        probabilities: Floats,
    ) -> None:
        chosen = [texts[i] for i in rows]
        before = probabilities[rows]
        firsts, owner, candidate, drop = self.drops(chosen, before)
        bounds = np.searchsorted(owner, np.arange(len(rows) + 1))
        local = {int(row): i for i, row in enumerate(rows)}
        for at in np.flatnonzero(np.isin(review, rows)):
            i = local[int(review[at])]
            part = slice(bounds[i], bounds[i + 1])
            if bounds[i] == bounds[i + 1]:
                continue  # nothing to mask
            best, value = strongest(drop[part, keyword[at]], candidate[part])
            start, end = firsts[i][best]
            highlights[at] = {"word": chosen[i][start:end], "start": start, "end": end, "drop": value}

    def _chunks(self, texts: Sequence[str]) -> list[Ints]:
        """Row numbers in runs that stay under VARIANT_TOKENS by a cheap upper estimate."""
        cost = np.array([(text.count(" ") + 1) * (len(text) + 2) for text in texts], np.int64)
        group = np.cumsum(cost) // VARIANT_TOKENS
        return [np.flatnonzero(group == g) for g in np.unique(group)]


def probability_matrix(table: pa.Table, keywords: int) -> Floats:
    """[reviews, keywords] out of a table's `keyword_probabilities`."""
    flat = table["keyword_probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(table), keywords), np.float32)


def found(table: pa.Table, thresholds: Sequence[float]) -> tuple[Ints, Ints]:
    """(review, keyword) positions of every probability that reaches its keyword's threshold, by review."""
    review, keyword = np.nonzero(probability_matrix(table, len(thresholds)) >= np.asarray(thresholds, np.float32))
    return review.astype(np.int64), keyword.astype(np.int64)


def assemble(table: pa.Table, bundle: Bundle, keep_text: bool = False) -> pa.Table:
    """The stages' columns -> findings; the columns in between go, and `text` too unless it is kept."""
    taxonomy = bundle.meta.taxonomy
    review, keyword = found(table, bundle.meta.thresholds)
    probability = probability_matrix(table, len(taxonomy.names))[review, keyword]
    score_probabilities = table["scores"].combine_chunks().flatten()
    grid = score_probabilities.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(taxonomy.scores))
    scores = np.asarray(taxonomy.scores, np.int8)[grid.argmax(1)]
    shown = "highlights" in table.column_names
    highlight = table["highlights"].combine_chunks().flatten() if shown else pa.nulls(len(review), HIGHLIGHT)
    names = pa.array([taxonomy.names[k] for k in keyword], pa.string())
    findings = pa.StructArray.from_arrays(
        [names, pa.array(probability, pa.float32()), pa.array(scores), score_probabilities, highlight],
        fields=list(FINDING),
    )
    table = table.append_column("findings", _nested(findings, review, len(table)))
    gone = {"scores", "highlights", *(name for name, _ in ANALYSIS), *(() if keep_text else ("text",))}
    kept = [name for name in table.column_names if name not in gone]
    return table.select([*kept, *(name for name, _ in ANALYSIS)])


def stages(highlights: str, words: str) -> list[tuple[str, Callable[[Parts], Stage]]]:
    """The graph: each stage's name and how it is made from Parts."""
    check(highlights in HIGHLIGHTS, f"--highlights {highlights}: write {' or '.join(HIGHLIGHTS)}")
    graph: list[tuple[str, Callable[[Parts], Stage]]] = [("keywords", KeywordStage), ("scores", SentimentStage)]
    if highlights != "off":
        graph.append(("highlights", lambda parts: HighlightStage(parts, words)))
    return graph


class Analyzer:
    """The whole graph in this process.

    analyze = Analyzer("runs/quickstart/bundle")
    analyze(["옷은 예쁘지만 배송은 늦어요"])[0]["findings"]
    """

    def __init__(
        self, bundle: str, device: str = "auto", threads: int = 0, highlights: str = "exact", words: str = "space"
    ) -> None:
        self.parts = Parts(bundle, device, threads)
        self.stages = [make(self.parts) for _, make in stages(highlights, words)]

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """One analysis a text: keyword_probabilities, findings, truncated."""
        rows: list[dict[str, Any]] = self.table(pa.table({"text": pa.array(texts, pa.string())})).to_pylist()
        return rows

    def table(self, table: pa.Table) -> pa.Table:
        """A table with a `text` column -> its other columns and the analysis columns."""
        for stage in self.stages:
            table = stage(table)
        return assemble(table, self.parts.bundle)


def rounded(probabilities: Floats) -> Floats:
    """To 1e-4, so that a result does not depend on its batch."""
    return np.round(probabilities, DECIMALS)


def _nested(values: pa.Array, review: Ints, rows: int) -> pa.ListArray:
    """Values of findings, ordered by review -> one list a review."""
    offsets = np.searchsorted(review, np.arange(rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
