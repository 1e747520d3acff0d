"""Predictions against labels: the evaluation report's sections, as dicts and as Markdown.

In: loaded classifiers (or any predictions) and a LABELED table. Out: the keys of `report.json`.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.evaluation.metrics import (
    KeywordReport,
    KeywordRow,
    MixedReport,
    ScoreReport,
    TupleReport,
    keyword_report,
    mean_or_none,
    score_report,
    tuple_report,
)
from ray_app.evaluation.mixed_reviews import LabeledPairs, labeled_pairs, mixed_report
from ray_app.evaluation.word_report import HighlightReport, WordReports
from ray_app.inference.graph_columns import probability_matrix, without_tokens
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import KeywordStage, SentimentStage
from ray_app.labels.matrices import keyword_matrix
from ray_app.markdown import escape, look_up, number, table

MEASURES = (
    ("keywords F1, micro", ("keywords", "micro", "f1")),
    ("keywords F1, micro without keywords on every review", ("keywords", "micro_varying", "f1")),
    ("keywords F1, macro", ("keywords", "macro", "f1")),
    ("score accuracy, given the keyword", ("scores", "accuracy")),
    ("score macro F1", ("scores", "macro_f1")),
    ("score mean absolute error", ("scores", "mae")),
    ("score accuracy, shuffled keywords", ("scores", "accuracy_shuffled_keywords")),
    ("sign of the score, given the keyword", ("scores", "sign_accuracy")),
    ("sign, copying the review's overall feeling", ("scores", "copy_overall")),
    ("sign in mixed reviews", ("scores", "mixed", "sign_accuracy")),
    ("sign in mixed reviews, copying", ("scores", "mixed", "copy_overall")),
    ("sign in mixed reviews, shuffled keywords", ("scores", "mixed", "shuffled")),
    ("tuples F1, exact score", ("tuples", "micro", "f1")),
    ("tuples F1, sign of the score", ("tuples", "micro_sign", "f1")),
    ("highlight hit rate", ("highlights", "hit_rate")),
    ("highlight hit rate, random word", ("highlights", "random", "hit_rate")),
    ("comprehensiveness", ("highlights", "comprehensiveness")),
    ("sufficiency (lower is better)", ("highlights", "sufficiency")),
    ("opinion hit rate", ("opinions", "hit_rate")),
    ("opinion hit rate, random word", ("opinions", "random")),
    ("opinion hit rate, the highlight", ("opinions", "highlight")),
)


class PredictionReport(TypedDict):
    """What any predictions are judged by."""

    keywords: KeywordReport
    scores: ScoreReport
    tuples: TupleReport


class EvaluationReport(PredictionReport, WordReports):
    """`report.json` of `jobs.evaluate`."""

    thresholds: dict[str, float]
    scale: list[int]
    baseline: PredictionReport | None
    no_baseline: str  # why there is none, "" where there is one
    bundle: str
    reviews: int
    left_out: int | None  # reviews that the bundle was trained or tuned on; None where it does not say
    config: dict[str, object]


def predictions(runtime: BundleRuntime, tested: pa.Table) -> pa.Table:
    """Per labeled review: review_id, keyword_probabilities in the taxonomy's order, and the keywords its labels name.

    Enough to move the thresholds later, without running the model again.
    """
    labeled = [[label["keyword"] for label in labels] for labels in tested["labels"].to_pylist()]
    read = without_tokens(KeywordStage(runtime)(tested.select(["review_id", "text"])))
    analyzed = read.drop_columns(["text", "truncated"])
    return analyzed.append_column("keywords", pa.array(labeled, pa.list_(pa.string())))


def evaluate_bundle(runtime: BundleRuntime, tested: pa.Table, predicted_keywords: pa.Table) -> PredictionReport:
    """Keywords, scores of the keywords the labels name, both together, and what shuffling the keywords costs.

    `predicted_keywords` are the `predictions` for the same table.
    """
    meta, texts, sentiment = runtime.meta, tested["text"].to_pylist(), SentimentStage(runtime)
    named, scores = _answers(sentiment, tested, predicted_keywords, keyword_matrix(tested, meta.taxonomy))
    names, scale = meta.taxonomy.names, meta.taxonomy.scores
    predicted = [{names[k]: scale[scores[i, k]] for k in np.flatnonzero(row)} for i, row in enumerate(named)]
    pairs = labeled_pairs(tested, meta.taxonomy)
    shuffled = _shuffled_scores(sentiment, texts, pairs, len(names))
    report = evaluate_predictions(tested, predicted, scores, meta.taxonomy, meta.support, shuffled)
    if shuffled is not None:
        report["scores"]["accuracy_shuffled_keywords"] = mean_or_none((shuffled == pairs.score).tolist())
    return report


def answers_of(runtime: BundleRuntime, tested: pa.Table, names: Sequence[str]) -> tuple[Flags, Ints]:
    """[reviews, keywords] which of its keywords (`names`) a bundle finds, and the position on the scale of the score of
    each that is found or labeled. Labels may name other keywords too."""
    labeled = [{label["keyword"] for label in labels} for labels in tested["labels"].to_pylist()]
    wanted = np.array([[name in row for name in names] for row in labeled], bool).reshape(len(labeled), len(names))
    return _answers(SentimentStage(runtime), tested, predictions(runtime, tested), wanted)


def _answers(sentiment: SentimentStage, tested: pa.Table, predicted: pa.Table, labeled: Flags) -> tuple[Flags, Ints]:
    thresholds = sentiment.runtime.meta.thresholds
    named = probability_matrix(predicted, len(thresholds)) >= np.asarray(thresholds, np.float32)
    scores = np.zeros(named.shape, np.int64)
    review, keyword = (axis.astype(np.int64) for axis in np.nonzero(named | labeled))
    scores[review, keyword] = sentiment.probabilities(tested["text"].to_pylist(), review, keyword).argmax(1)
    return named, scores


def evaluate_mixed(runtime: BundleRuntime, tested: pa.Table) -> MixedReport:
    """Whether a bundle's scores read the keyword, on the mixed reviews of a labeled table."""
    taxonomy, texts = runtime.meta.taxonomy, tested["text"].to_pylist()
    sentiment, pairs, scale = SentimentStage(runtime), labeled_pairs(tested, taxonomy), np.asarray(taxonomy.scores)
    given = sentiment.probabilities(texts, pairs.review, pairs.keyword).argmax(1)
    shuffled = _shuffled_scores(sentiment, texts, pairs, len(taxonomy.names))
    return mixed_report(pairs, np.sign(scale[given]), None if shuffled is None else np.sign(scale[shuffled]))


def evaluate_predictions(
    tested: pa.Table,
    predicted: Sequence[dict[str, int]],
    scores: Ints,
    taxonomy: Taxonomy,
    support_train: dict[str, int],
    shuffled: Ints | None = None,
) -> PredictionReport:
    """The report of any predictions.

    Args:
        predicted: per review its found keywords and their scores.
        scores: [reviews, keywords] position on the scale of the score each keyword has, found or not.
        support_train: training reviews per keyword.
        shuffled: [labels] position of the score that another keyword of the same review has.
    """
    true = [{label["keyword"]: label["score"] for label in labels} for labels in tested["labels"].to_pylist()]
    named = np.array([[name in row for name in taxonomy.names] for row in predicted], bool)
    pairs, scale = labeled_pairs(tested, taxonomy), np.asarray(taxonomy.scores)
    given = scale[scores[pairs.review, pairs.keyword]]
    sign = np.sign(given)
    score_section = score_report(scale[pairs.score], given, taxonomy.scores)
    score_section["sign_accuracy"] = mean_or_none((sign == pairs.sign)[pairs.particular].tolist())
    score_section["copy_overall"] = mean_or_none((pairs.copied == pairs.sign)[pairs.particular].tolist())
    score_section["mixed"] = mixed_report(pairs, sign, None if shuffled is None else np.sign(scale[shuffled]))
    return {
        "keywords": keyword_report(keyword_matrix(tested, taxonomy), named, taxonomy.names, support_train),
        "scores": score_section,
        "tuples": tuple_report(true, predicted),
    }


def _shuffled_scores(
    sentiment: SentimentStage, texts: Sequence[str], pairs: LabeledPairs, keywords: int
) -> Ints | None:
    """[labels] the score of another keyword of the same review: it throws off a model that reads the keyword."""
    if keywords < 2 or not len(pairs.review):
        return None
    named: dict[int, list[int]] = {}
    for review, keyword in zip(pairs.review.tolist(), pairs.keyword.tolist(), strict=True):
        named.setdefault(review, []).append(keyword)
    rng = np.random.default_rng(0)
    labels = zip(pairs.review.tolist(), pairs.keyword.tolist(), strict=True)
    other = np.array([_another(named[review], keyword, keywords, rng) for review, keyword in labels])
    return np.asarray(sentiment.probabilities(texts, pairs.review, other).argmax(1))


def _another(labeled: list[int], keyword: int, count: int, rng: np.random.Generator) -> int:
    """Another keyword of the same review where it has one, else any other."""
    rest = [k for k in labeled if k != keyword] or [k for k in range(count) if k != keyword]
    return int(rng.choice(rest))


def markdown(report: EvaluationReport) -> str:
    """The report for people."""
    measures = [
        (title, number(look_up(report, path)), number(look_up(report["baseline"], path))) for title, path in MEASURES
    ]
    columns = ("precision", "recall", "f1", "support", "support_train", "share")
    keywords = [
        (escape(name), *(_as_written(look_up(row, [column])) + _interval(row, column) for column in columns))
        for name, row in report["keywords"]["per_keyword"].items()
    ]
    lines = [
        f"# Bundle {report['bundle']} on {report['reviews']} reviews",
        "",
        *_caveats(report),
        *table(("measure", "bundle", "TF-IDF baseline"), measures),
        "",
        *_modes(report["highlights"]),
        *table(("keyword", "precision", "recall", "F1", "support", "support in training", "share"), keywords),
    ]
    return "\n".join(lines) + "\n"


def _caveats(report: EvaluationReport) -> list[str]:
    """What a reader must know of the figures."""
    left_out = report["left_out"]
    lines = [f"{left_out} more were left out: the bundle was trained or tuned on them."] if left_out else []
    if left_out is None:
        lines.append("The bundle does not say what it was trained on: some of these reviews may be among it.")
    if report["no_baseline"] and report["no_baseline"] != "--no-baseline":
        lines.append(f"No baseline: {escape(report['no_baseline'])}.")
    return [part for line in lines for part in (line, "")]


def _modes(report: HighlightReport | None) -> list[str]:
    """The table of the ways to find highlights, where they were compared."""
    modes = report.get("modes") if report else None
    if not modes:
        return []
    columns = ("hit_rate", "agreement", "reviews_per_second")
    rows = [(name, *(_as_written(look_up(row, [column])) for column in columns)) for name, row in modes.items()]
    return [*table(("--highlights", "hit rate", "agreement with exact", "reviews/s"), rows), ""]


def _interval(row: KeywordRow, column: str) -> str:
    """` (0.31 to 0.92)` behind an F1 of few labels."""
    interval = row.get("f1_interval") if column == "f1" else None
    return f" ({interval[0]} to {interval[1]})" if interval else ""


def _as_written(value: object) -> str:
    """A figure with all its decimals, as in `report.json`."""
    return "" if value is None else str(value)
