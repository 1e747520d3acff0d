"""The stages of an analysis and how they feed one another: plain Python, no Ray.

In: an Arrow table of texts. Out: the same rows with more columns, after the last stage those of an analysis. A stage
loads in `__init__` and works in `__call__`. The catalog job puts stages in actor pools, the endpoint in deployments,
`Analyzer` runs them in process: one graph, the same results.

    text -> KeywordStage -> keyword_probabilities, truncated; on request embedding
         -> SentimentStage -> scores        (per found keyword, its score probabilities)
                              what attention finds of the two below
         -> HighlightStage -> highlights    (per found keyword, the word that names it)
                              opinions      (per found keyword, the word that says the feeling)
         -> assemble_findings -> findings

exact      highlights by masking every word
recheck    highlights by masking a few words per keyword, see `occlusion.py`
attention  highlights are the words that the keyword attends to: no masked pass
off        neither highlights nor opinions
auto       attention where the bundle learned from labels with words which word names a keyword, else exact

Opinions are the words that the keyword's query for feelings attends to where the bundle learned that from labels with
opinions, else they are found by masking.

A row may carry options of its own (`schema.ROW_OPTIONS`), as requests online do.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_app.arrays import Floats, Ints
from ray_app.data.schema import ANALYSIS, FINDING, HIGHLIGHT, ROW_OPTIONS
from ray_app.engine.keyword_attention import FEELS, NAMES
from ray_app.engine.tokenizer import TokenizedReviews
from ray_app.errors import check
from ray_app.inference.bundle import Bundle, BundleSummary, check_attends, resolved_mode
from ray_app.inference.candidate_words import WordFinder, attended, strongest_words
from ray_app.inference.graph_columns import (
    TOKENS,
    found_keywords,
    nested,
    probability_matrix,
    row_option,
    score_grid,
    tokens_of,
    with_keywords,
    with_tokens,
)
from ray_app.inference.occlusion import SHORTLIST, Occlusion
from ray_app.inference.runtime import Attention, BundleRuntime

MASKED_MODES = ("exact", "recheck")
MODES = ("auto", *MASKED_MODES, "attention", "off")
Stage = Callable[[pa.Table], pa.Table]


class KeywordStage:
    """text -> keyword_probabilities, truncated; with `embeddings` also the encoder's pooled vector.

    Where one model finds and scores keywords, `sentiment` adds what it would find, from the same pass.
    """

    def __init__(
        self, runtime: BundleRuntime, embeddings: bool = False, sentiment: "SentimentStage | None" = None
    ) -> None:
        self.runtime, self.embeddings = runtime, embeddings
        self.keywords, self.tokenizer = runtime.keywords, runtime.tokenizer
        self.sentiment = sentiment if runtime.joint and not embeddings else None

    def __call__(self, table: pa.Table) -> pa.Table:
        tokens, cut = self.runtime.tokenize(table["text"].to_pylist())
        table = with_tokens(table, tokens)
        if self.embeddings:
            probabilities, vectors = self.runtime.probabilities_and_embeddings(tokens.sequences)
            lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
            table = table.append_column("embedding", lists)
        elif self.sentiment:
            read = self.runtime.attention(tokens.sequences)
            assert read.found is not None, "a joint model finds keywords"
            return self.sentiment.read(with_keywords(table, read.found, cut), tokens, read)
        else:
            probabilities = self.runtime.probabilities(tokens.sequences)
        return with_keywords(table, probabilities, cut)


class SentimentStage:
    """text, keyword_probabilities -> scores: per found keyword, in taxonomy order, its score probabilities. What the
    stage before has read already stays as it is.

    `attended` names the columns to find by attention, out of highlights and opinions, and the query of each.
    """

    def __init__(self, runtime: BundleRuntime, words: str = "space", attended: Mapping[str, int] | None = None) -> None:
        self.runtime, self.classifier = runtime, runtime.scores
        self.attended, self.words = dict(attended or {}), WordFinder(runtime, words)

    def __call__(self, table: pa.Table) -> pa.Table:
        if "scores" in table.column_names:
            return table
        review, keyword = found_keywords(table, self.runtime.meta.thresholds)
        tokens = tokens_of(table, self.runtime)
        if self.attended:
            some = np.unique(review)  # a review without a found keyword is not read
            tokens = tokens.take(some)
            return self.read(table, tokens, self.runtime.attention(tokens.sequences), some)
        return self._with_scores(table, review, self.runtime.score_probabilities(tokens.sequences, review, keyword))

    def read(self, table: pa.Table, tokens: TokenizedReviews, read: Attention, reviews: Ints | None = None) -> pa.Table:
        """The table with what was read of these reviews (default: of all): scores and the words attended to."""
        review, keyword = found_keywords(table, self.runtime.meta.thresholds)
        row = review if reviews is None else np.searchsorted(reviews, review)
        wanted = pa.array(row_option(table, "_highlights", True)[review].astype(bool))
        texts = table["text"].to_pylist()
        texts = texts if reviews is None else [texts[i] for i in reviews]
        table = self._with_scores(table, review, read.scores[row, keyword])
        if not self.attended:
            return table
        words = self.words(texts, tokens)
        shares = attended(words, read.weights)
        for name, query in self.attended.items():
            found = strongest_words(
                texts, words.firsts, shares.share[:, :, query], shares.review, shares.candidate, row, keyword
            )
            found = pc.if_else(wanted, found, pa.nulls(len(found), HIGHLIGHT))
            table = table.append_column(name, nested(found, review, len(table)))
        return table

    def _with_scores(self, table: pa.Table, review: Ints, values: Floats) -> pa.Table:
        """The table with `values` [pairs, scores] as its scores."""
        width = len(self.runtime.meta.taxonomy.scores)
        per_finding = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width).cast(
            pa.list_(pa.float32())
        )
        return table.append_column("scores", nested(per_finding, review, len(table)))

    def probabilities(self, texts: Sequence[str], review: Ints, keyword: Ints) -> Floats:
        """[pairs, scores] for (review, keyword) pairs, rounded."""
        return self.runtime.score_probabilities(self.runtime.tokenizer(texts).sequences, review, keyword)


class HighlightStage:
    """text, keyword_probabilities, scores -> highlights, and opinions unless they are off or there already: per found
    keyword the word that names it, and the word that says the feeling."""

    def __init__(
        self,
        runtime: BundleRuntime,
        words: str = "space",
        mode: str = "exact",
        shortlisted: int = SHORTLIST,
        opinions: bool = True,
        named_by: str = "int8",
    ) -> None:
        self.runtime, self.opinions = runtime, opinions
        self.occlusion = Occlusion(runtime, words, mode, shortlisted, named_by)

    def __call__(self, table: pa.Table) -> pa.Table:
        review, keyword = found_keywords(table, self.runtime.meta.thresholds)
        probabilities = probability_matrix(table, len(self.runtime.meta.thresholds))
        self.runtime.work.add(reviews=len(table))
        wanted = row_option(table, "_highlights", True)[review].astype(bool)
        scores = score_grid(table, len(self.runtime.meta.taxonomy.scores))[wanted] if self.opinions else None
        pair = (review[wanted], keyword[wanted])
        texts, tokens = table["text"].to_pylist(), tokens_of(table, self.runtime)
        words = self.occlusion.words_of(texts, probabilities, *pair, scores, tokens)
        positions = pa.array(np.cumsum(wanted) - 1, mask=~wanted)
        for name, column in zip(("highlights", "opinions"), words, strict=True):
            if name not in table.column_names:
                table = table.append_column(name, nested(column.take(positions), review, len(table)))
        return table


def assemble_findings(table: pa.Table, bundle: Bundle, keep_text: bool = False) -> pa.Table:
    """The stages' columns -> findings. Intermediate columns are dropped, and `text` too unless `keep_text`."""
    taxonomy = bundle.meta.taxonomy
    review, keyword = found_keywords(table, bundle.meta.thresholds)
    probability = probability_matrix(table, len(taxonomy.names))[review, keyword]
    score_probabilities = table["scores"].combine_chunks().flatten()
    scores = np.asarray(taxonomy.scores, np.int8)[score_grid(table, len(taxonomy.scores)).argmax(1)]
    highlight, opinion = (
        table[name].combine_chunks().flatten() if name in table.column_names else pa.nulls(len(review), HIGHLIGHT)
        for name in ("highlights", "opinions")
    )
    names = pa.array([taxonomy.names[k] for k in keyword], pa.string())
    findings = pa.StructArray.from_arrays(
        [names, pa.array(probability, pa.float32()), pa.array(scores), score_probabilities, highlight, opinion],
        fields=list(FINDING),
    )
    table = table.append_column("findings", nested(findings, review, len(table)))
    result = [name for name, _ in ANALYSIS]
    dropped = {
        TOKENS,
        "scores",
        "highlights",
        "opinions",
        *(name for name, _ in ROW_OPTIONS),
        *(() if keep_text else ("text",)),
    }
    others = [name for name in table.column_names if name not in {*dropped, *result}]
    return table.select([*others, *result])


def build_stages(
    highlights: str,
    words: str,
    shortlisted: int = SHORTLIST,
    embeddings: bool = False,
    opinions: bool = True,
    named_by: str = "int8",
) -> list[tuple[str, Callable[[BundleRuntime], Stage]]]:
    """The graph: each stage's name, and the function that makes it from a BundleRuntime.

    Raises UserError where `highlights` is none of MODES; a stage's function where its bundle's keywords do not attend
    and are to.
    """
    check(highlights in MODES, f"--highlights {highlights}: write {', '.join(MODES)}")

    def sentiment(runtime: BundleRuntime) -> SentimentStage:
        return SentimentStage(runtime, words, _attended_columns(runtime, highlights, opinions))

    def highlight(runtime: BundleRuntime) -> Stage:
        found, mode = _attended_columns(runtime, highlights, opinions), resolved_mode(highlights, runtime.meta)
        if mode not in MASKED_MODES:
            return lambda table: table  # `auto`, of a bundle for which attention has found all
        return HighlightStage(runtime, words, mode, shortlisted, opinions and "opinions" not in found, named_by)

    graph: list[tuple[str, Callable[[BundleRuntime], Stage]]] = [
        ("keywords", lambda runtime: KeywordStage(runtime, embeddings, sentiment(runtime) if runtime.joint else None)),
        ("scores", sentiment),
    ]
    if highlights in ("auto", *MASKED_MODES):
        graph.append(("highlights", highlight))
    return graph


def stage_groups(highlights: str, words: str, bundle: BundleSummary, embeddings: bool = False) -> list[tuple[str, ...]]:
    """The names of the stages that are worth a pool of their own; one that has nothing to do with this bundle (scores
    of a joint model, highlights that attention finds) lies in the pool before it."""
    idle = set() if bundle.score_form != "joint" or embeddings else {"scores"}
    if resolved_mode(highlights, bundle) not in MASKED_MODES:
        idle.add("highlights")
    groups: list[tuple[str, ...]] = []
    for name, _ in build_stages(highlights, words):
        groups[len(groups) - (name in idle) :] = [(*(groups[-1] if name in idle else ()), name)]
    return groups


def _attended_columns(runtime: BundleRuntime, highlights: str, opinions: bool) -> dict[str, int]:
    """What attention finds: column -> query. Raises UserError where the bundle's keywords do not attend and are to."""
    columns = {}
    highlights = resolved_mode(highlights, runtime.meta)
    if highlights == "attention":
        check_attends(runtime.bundle, "--highlights attention", "write --highlights exact")
        columns["highlights"] = NAMES
    if opinions and highlights != "off" and runtime.meta.opinions == "attention":
        columns["opinions"] = FEELS
    return columns
