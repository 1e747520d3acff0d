"""Predictions against labels: the evaluation report's sections, as dicts and as Markdown.

In: loaded classifiers (or any predictions) and a LABELLED table. Out: the keys of `report.json`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app.arrays import Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.evaluation.metrics import hit, keyword_report, mean_or_none, score_report, tuple_report
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import KeywordStage, SentimentStage, probability_matrix
from ray_app.labels.matrices import keyword_matrix, score_pairs


def predictions(runtime: BundleRuntime, table: pa.Table) -> pa.Table:
    """Per labelled review: review_id, keyword_probabilities in the taxonomy's order, and the keywords its labels name.

    Whoever has these can say what other thresholds would find, without the model.
    """
    labeled = [[label["keyword"] for label in labels] for labels in table["labels"].to_pylist()]
    analyzed = KeywordStage(runtime)(table.select(["review_id", "text"])).drop_columns(["text", "truncated"])
    return analyzed.append_column("keywords", pa.array(labeled, pa.list_(pa.string())))


def evaluate_bundle(runtime: BundleRuntime, table: pa.Table, predicted_keywords: pa.Table) -> dict[str, Any]:
    """Keywords, scores of the keywords the labels name, both together, and what shuffling the keywords costs.

    `predicted_keywords` are the `predictions` for the same table.
    """
    meta, texts = runtime.meta, table["text"].to_pylist()
    probabilities = probability_matrix(predicted_keywords, len(meta.thresholds))
    named = probabilities >= np.asarray(meta.thresholds, np.float32)
    sentiment = SentimentStage(runtime)
    scores = np.zeros(named.shape, np.int64)
    wanted = named | keyword_matrix(table, meta.taxonomy)
    review, keyword = (axis.astype(np.int64) for axis in np.nonzero(wanted))
    scores[review, keyword] = sentiment.probabilities(texts, review, keyword).argmax(1)
    names, scale = meta.taxonomy.names, meta.taxonomy.scores
    predicted = [{names[k]: scale[scores[i, k]] for k in np.flatnonzero(row)} for i, row in enumerate(named)]
    report = evaluate_predictions(table, predicted, scores, meta.taxonomy, meta.support)
    report["scores"]["accuracy_shuffled_keywords"] = _shuffled(sentiment, table, meta.taxonomy)
    return report


def evaluate_predictions(
    table: pa.Table,
    predicted: Sequence[dict[str, int]],
    scores: Ints,
    taxonomy: Taxonomy,
    support_train: dict[str, int],
) -> dict[str, Any]:
    """The report of any predictions: found keywords with scores, and [reviews, keywords] positions of scores."""
    true = [{label["keyword"]: label["score"] for label in labels} for labels in table["labels"].to_pylist()]
    named = np.array([[name in row for name in taxonomy.names] for row in predicted], bool)
    review, keyword, score = score_pairs(table, taxonomy)
    scale = np.asarray(taxonomy.scores)
    return {
        "keywords": keyword_report(keyword_matrix(table, taxonomy), named, taxonomy.names, support_train),
        "scores": score_report(scale[score], scale[scores[review, keyword]], taxonomy.scores),
        "tuples": tuple_report(true, predicted),
    }


def highlights(runtime: BundleRuntime, table: pa.Table, words: str, seed: int) -> dict[str, Any]:
    """Whether highlights point at words a person accepts, and whether the model really rests on them.

    Over keywords that the labels name and the model finds, in reviews of two words or more: `hit_rate` against the
    acceptable words where the labels give any; `comprehensiveness`, the mean drop in probability without the
    highlighted word, and `sufficiency`, the mean drop with nothing but it (DeYoung et al. 2020, arXiv:1911.03429; good
    highlights have a high first and a low second). `random` is the same for a random word.
    """
    texts = table["text"].to_pylist()
    occlusion = Occlusion(runtime, words)
    tokens, _ = runtime.tokenize(texts)
    before = runtime.probabilities(tokens.sequences)
    spans, variants = occlusion.mask(texts)
    drop, candidate = occlusion.drops(variants, before), variants.candidate
    bounds = np.searchsorted(variants.review, np.arange(len(texts) + 1))
    rng = np.random.default_rng(seed)
    rows: dict[str, list[tuple[int, int, int, float, list[str]]]] = {"best": [], "random": []}
    for i, labels in enumerate(table["labels"].to_pylist()):
        part = slice(bounds[i], bounds[i + 1])
        if bounds[i + 1] - bounds[i] < 2:
            continue
        for label in labels:
            k = runtime.meta.taxonomy.index[label["keyword"]]
            if before[i, k] < np.float32(runtime.meta.thresholds[k]):
                continue
            for kind, at in (("best", int(np.argmax(drop[part, k]))), ("random", int(rng.integers(len(drop[part]))))):
                rows[kind].append((i, k, int(candidate[part][at]), float(drop[part][at, k]), label["highlights"] or []))
    report = {kind: _faithful(runtime, texts, spans, before, chosen) for kind, chosen in rows.items()}
    return {**report["best"], "random": report["random"]}


def _faithful(
    runtime: BundleRuntime, texts: Sequence[str], spans: Any, before: Floats, rows: list[Any]
) -> dict[str, Any]:
    words = [texts[i][slice(*spans[i][c])] for i, _, c, _, _ in rows]
    alone = runtime.probabilities(runtime.tokenize(words)[0].sequences) if words else np.zeros((0, 1), np.float32)
    kept = [float(before[i, k] - alone[at, k]) for at, (i, k, *_) in enumerate(rows)]
    hits = [hit(texts[i], spans[i][c], accepted) for i, _, c, _, accepted in rows if accepted]
    return {
        "hit_rate": mean_or_none(hits),
        "comprehensiveness": mean_or_none([row[3] for row in rows]),
        "sufficiency": mean_or_none(kept),
        "support": len(hits),
    }


def _shuffled(sentiment: SentimentStage, table: pa.Table, taxonomy: Taxonomy) -> float | None:
    """Score accuracy where every pair is asked about another keyword of the taxonomy: it must fall far, or the model
    does not read the keyword."""
    review, keyword, score = score_pairs(table, taxonomy)
    if len(taxonomy.names) < 2 or not len(review):
        return None
    labeled = [[k for r, k in zip(review, keyword, strict=True) if r == i] for i in range(len(table))]
    rng = np.random.default_rng(0)
    other = np.array([_another(labeled[r], k, len(taxonomy.names), rng) for r, k in zip(review, keyword, strict=True)])
    return mean_or_none((sentiment.probabilities(table["text"].to_pylist(), review, other).argmax(1) == score).tolist())


def _another(labeled: list[int], keyword: int, count: int, rng: np.random.Generator) -> int:
    """Another keyword of the same review where it has one, else any other."""
    rest = [k for k in labeled if k != keyword] or [k for k in range(count) if k != keyword]
    return int(rng.choice(rest))


def markdown(report: dict[str, Any]) -> str:
    """The report for people."""
    base = report.get("baseline") or {}
    lines = [
        f"# Bundle {report['bundle']} on {report['reviews']} reviews",
        "",
        "| measure | bundle | TF-IDF baseline |",
        "| --- | --- | --- |",
    ]
    for title, path in (
        ("keywords F1, micro", ("keywords", "micro", "f1")),
        ("keywords F1, micro without keywords on every review", ("keywords", "micro_varying", "f1")),
        ("keywords F1, macro", ("keywords", "macro", "f1")),
        ("score accuracy, given the keyword", ("scores", "accuracy")),
        ("score macro F1", ("scores", "macro_f1")),
        ("score mean absolute error", ("scores", "mae")),
        ("score accuracy, shuffled keywords", ("scores", "accuracy_shuffled_keywords")),
        ("tuples F1, exact score", ("tuples", "micro", "f1")),
        ("tuples F1, sign of the score", ("tuples", "micro_sign", "f1")),
        ("highlight hit rate", ("highlights", "hit_rate")),
        ("highlight hit rate, random word", ("highlights", "random", "hit_rate")),
        ("comprehensiveness", ("highlights", "comprehensiveness")),
        ("sufficiency (lower is better)", ("highlights", "sufficiency")),
    ):
        lines.append(f"| {title} | {figure(report, path)} | {figure(base, path)} |")
    lines += ["", "| keyword | precision | recall | F1 | support | support in training | share |", "|" + " --- |" * 7]
    for name, row in report["keywords"]["per_keyword"].items():
        cells = [row[key] for key in ("precision", "recall", "f1", "support", "support_train", "share")]
        lines.append(f"| {name} | " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def figure(report: dict[str, Any], path: Sequence[str]) -> str:
    """The figure under these keys as a report shows it, empty where there is none."""
    value: Any = report
    for key in path:
        value = (value or {}).get(key)
    return "" if value is None else f"{value:.3f}"
