"""The report of an evaluated language model: its sections as dicts, and as Markdown.

In: results that were added up, and for the review task what the outputs parse to. Out: the keys of `report.json`, and
`report.md`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np
import pyarrow as pa

from ray_app.data.taxonomy import Taxonomy
from ray_app.evaluation.metrics import (
    KeywordReport,
    ScoreReport,
    TupleReport,
    keyword_report,
    score_report,
    tuple_report,
)
from ray_app.evaluation.report import PredictionReport, evaluate_bundle, predictions
from ray_app.inference.analyzer import Analyzer
from ray_app.labels.matrices import keyword_matrix
from ray_app.lm.results import BERT_KEYS, Cost, ResultRow, ResultsReport, ResultSums, cost
from ray_app.lm.templates import Parsed
from ray_app.markdown import escape, look_up, number, table

MEASURES = (
    ("tuples F1, exact score", ("tuples", "micro", "f1")),
    ("tuples F1, sign of the score", ("tuples", "micro_sign", "f1")),
    ("keywords F1, micro", ("keywords", "micro", "f1")),
    ("keywords F1, micro without keywords on every review", ("keywords", "micro_varying", "f1")),
    ("keywords F1, macro", ("keywords", "macro", "f1")),
    ("score accuracy (language model: of keywords it names)", ("scores", "accuracy")),
    ("outputs that parse", ("parsed", "share")),
    ("seconds per 1,000 reviews", ("cost", "seconds_per_1000")),
    ("CPU seconds per 1,000 reviews", ("cost", "cpu_seconds_per_1000")),
)


class ParsedReport(TypedDict):
    """Rows that parse without a bad item, their share, bad items, and rows that name no keyword."""

    rows: int
    share: float | None
    bad_parts: int
    nothing_said: int


class ReviewReport(PredictionReport):
    """The review task's sections."""

    parsed: ParsedReport


class ClassifierReport(PredictionReport):
    """The same of a bundle's classifiers on the same reviews."""

    cost: Cost
    bundle: str


class ModelReport(ResultsReport):
    """What a model is judged by; the last five sections only for the review task."""

    model: str
    task: str
    keywords: NotRequired[KeywordReport]
    scores: NotRequired[ScoreReport]
    tuples: NotRequired[TupleReport]
    parsed: NotRequired[ParsedReport]
    classifiers: NotRequired[ClassifierReport]


class Provenance(TypedDict):
    """How the figures came about; `training` has the metrics of the training that made the model, if it was ours."""

    bleu_signature: str
    bertscore_encoder: str
    decoding: str
    loss_on: str
    template: dict[str, str]
    training: Mapping[str, object] | None
    config: dict[str, object]


class LMReport(ModelReport, Provenance):
    """`report.json` of `jobs.evaluate_lm`."""


def review_report(
    labeled: pa.Table, parsed: Sequence[Parsed], taxonomy: Taxonomy, support_train: dict[str, int]
) -> ReviewReport:
    """The classifiers' report keys for a LABELED table, and how many outputs could be parsed.

    A keyword in the output has probability 1. `scores` are over the keywords that labels and model both name: the
    model gives no score to others, whereas a classifier is asked for each.
    """
    true = [{label["keyword"]: label["score"] for label in labels} for labels in labeled["labels"].to_pylist()]
    predicted = [row.scores for row in parsed]
    named = np.array([[name in row for name in taxonomy.names] for row in predicted], bool).reshape(len(predicted), -1)
    both = [(t[k], p[k]) for t, p in zip(true, predicted, strict=True) for k in p if k in t]
    whole = sum(bool(row.scores) and not row.bad for row in parsed)
    return {
        "keywords": keyword_report(keyword_matrix(labeled, taxonomy), named, taxonomy.names, support_train),
        "scores": score_report([t for t, _ in both], [p for _, p in both], taxonomy.scores),
        "tuples": tuple_report(true, predicted),
        "parsed": {
            "rows": whole,
            "share": round(whole / len(parsed), 4) if parsed else None,
            "bad_parts": sum(len(row.bad) for row in parsed),
            "nothing_said": sum(not row.scores for row in parsed),
        },
    }


def classifier_report(bundle: str, labeled: pa.Table, device: str, threads: int) -> ClassifierReport:
    """A bundle's report and cost on a LABELED table, without highlights: the language model gives none."""
    analyzer = Analyzer(bundle, device, threads, highlights="off")
    report = evaluate_bundle(analyzer.runtime, labeled, predictions(analyzer.runtime, labeled))
    began, cpu_began = time.perf_counter(), time.process_time()
    analyzer.table(labeled.select(["review_id", "text"]))
    seconds = time.perf_counter() - began
    return {
        **report,
        "cost": cost(seconds, time.process_time() - cpu_began, len(labeled)),
        "bundle": analyzer.runtime.bundle.id,
    }


def markdown(report: ModelReport, results: ResultSums) -> str:
    """The report for people, with the worst and the best rows."""
    columns = {"model": report, **report["calibration"]}
    measures: list[tuple[str, Sequence[str]]] = [(name, (name,)) for name in ("bleu", "rouge1", "rouge2", "rougeL")]
    measures += [(f"bertscore {key}", ("bertscore", key)) for key in BERT_KEYS if report["bertscore"]]
    lines = [
        f"# {report['model']}, {report['task']}, {report['rows']} rows",
        "",
        f"loss {number(report['loss'])}, perplexity {number(report['perplexity'])}",
        "",
        *table(
            ("measure", *columns),
            ((title, *(look_up(column, path) for column in columns.values())) for title, path in measures),
        ),
    ]
    gains = {name: row for name, row in report["over_shuffled"].items() if row}
    if gains:
        listed = ", ".join(f"{name} {row['mean']:+.4f} ({row['standard_errors']:g})" for name, row in gains.items())
        lines += ["", f"Over another row's reference, row by row (in brackets: standard errors): {listed}"]
    if "keywords" in report:
        lines += _classifier_tables(report, report["keywords"])
    for title, heap in (("Worst", results.worst), ("Best", results.best)):
        lines += ["", f"## {title} by ROUGE-L"]
        for _, _, row in sorted(heap, key=lambda entry: entry[:2], reverse=True):
            lines += _row_lines(row)
    return "\n".join(lines) + "\n"


def _classifier_tables(report: ModelReport, keywords: KeywordReport) -> list[str]:
    """The review task's tables: the language model beside the classifiers."""
    classifiers = report.get("classifiers")
    measures = [(title, look_up(report, path), look_up(classifiers, path)) for title, path in MEASURES]
    per_keyword = [
        (escape(name), row["f1"], look_up(classifiers, ("keywords", "per_keyword", name, "f1")), str(row["support"]))
        for name, row in keywords["per_keyword"].items()
    ]
    return [
        "",
        *table(("measure", "language model", "classifiers"), measures),
        "",
        *table(("keyword", "F1", "classifiers' F1", "support"), per_keyword),
    ]


def _row_lines(row: ResultRow) -> list[str]:
    return [
        "",
        f"**{escape(row['id'])}** ROUGE-L {row['rougeL']:.3f}, BLEU {row['bleu']:.3f}",
        "",
        f"- prompt: {_code(row['prompt'])}",
        f"- reference: {_code(row['reference'])}",
        f"- generated: {_code(row['generated'])}",
    ]


def _code(text: str) -> str:
    """A text as code within a line, so that `###` and line ends in it are not read as Markdown."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"
