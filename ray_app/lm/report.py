"""Marks of an examined language model -> the parts of its report, as dicts and as Markdown.

In: tables of `answers.MARKS`, one a unit of rows, in any order. Out: the keys of `report.json`; sums are kept, rows are
not, so that any number of rows can be judged.
"""

import heapq
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app.data.taxonomy import Taxonomy
from ray_app.evaluation.metrics import keyword_report, score_report, tuple_report
from ray_app.evaluation.text_metrics import overlap_report
from ray_app.labels.matrices import keyword_matrix
from ray_app.lm.evaluator import BERT, COMPARISONS, OVERLAPS
from ray_app.lm.templates import Parsed

SHOWN = 20  # rows that are shown at either end
BERT_KEYS = ("precision", "recall", "f1")
MEANS = {"rouge1": OVERLAPS - 3, "rouge2": OVERLAPS - 2, "rougeL": OVERLAPS - 1, "bertscore": OVERLAPS + BERT - 1}


class ResultSums:
    """Adds up tables of MARKS."""

    def __init__(self) -> None:
        self.rows = self.cut = self.loss_tokens = self.new_tokens = 0
        self.loss = self.seconds = self.cpu_seconds = 0.0
        self.sums = np.zeros((len(COMPARISONS), OVERLAPS + BERT))
        self.gains = np.zeros((2, len(MEANS)))  # of rows' metrics over the shuffled reference's: sums, and of squares
        self.best: list[tuple[float, int, dict[str, Any]]] = []
        self.worst: list[tuple[float, int, dict[str, Any]]] = []

    def add(self, table: pa.Table) -> pa.Table:
        """Counts a unit's rows; returns them as they are kept: id, texts, and the row's own metrics."""
        numbers = {name: table[name].to_numpy() for name in ("loss", "loss_tokens", "new_tokens", "prompt_cut")}
        self.rows += len(table)
        self.loss += float(numbers["loss"].sum())
        self.loss_tokens += int(numbers["loss_tokens"].sum())
        self.new_tokens += int(numbers["new_tokens"].sum())
        self.cut += int(numbers["prompt_cut"].sum())
        self.seconds += float(table["seconds"].to_numpy().sum())
        self.cpu_seconds += float(table["cpu_seconds"].to_numpy().sum())
        sums = np.array(table["sums"].to_pylist()).reshape(len(table), len(COMPARISONS), -1)
        self.sums += sums.sum(0)
        over = (sums[:, 0] - sums[:, COMPARISONS.index("shuffled")])[:, list(MEANS.values())]
        self.gains += [over.sum(0), (over**2).sum(0)]
        own = [text_report(row[0], 1) for row in sums]
        kept = table.drop_columns(["sums"])
        for name in ("bleu", "rouge1", "rouge2", "rougeL"):
            kept = kept.append_column(name, pa.array([row[name] for row in own], pa.float32()))
        for name in BERT_KEYS:
            values = [row["bertscore"] and row["bertscore"][name] for row in own]
            kept = kept.append_column(f"bertscore_{name}", pa.array(values, pa.float32()))
        self._rank(kept)
        return kept

    def report(self) -> dict[str, Any]:
        """Loss, perplexity, text metrics, what they can be, and how fast it went."""
        loss = self.loss / self.loss_tokens if self.loss_tokens else None
        texts = {name: text_report(self.sums[c], self.rows) for c, name in enumerate(COMPARISONS)}
        return {
            "rows": self.rows,
            "loss": None if loss is None else round(loss, 6),
            "perplexity": None if loss is None else round(math.exp(min(loss, 80.0)), 4),
            "loss_tokens": self.loss_tokens,
            **texts.pop("model"),
            "calibration": texts,
            "over_shuffled": {
                name: gain(float(total), float(squares), self.rows)
                for name, total, squares in zip(MEANS, *self.gains, strict=True)
            },
            "generation": {
                "tokens": self.new_tokens,
                "seconds": round(self.seconds, 3),
                "tokens_per_second": round(self.new_tokens / self.seconds, 1) if self.seconds else None,
                "prompts_cut": self.cut,
            },
            "cost": cost(self.seconds, self.cpu_seconds, self.rows),
        }

    def _rank(self, kept: pa.Table) -> None:
        for row in kept.to_pylist():
            score = row["rougeL"]
            for heap, key in ((self.best, score), (self.worst, -score)):
                heapq.heappush(heap, (key, -row["row"], row))
                if len(heap) > SHOWN:
                    heapq.heappop(heap)


def text_report(sums: Any, rows: int) -> dict[str, Any]:
    """[OVERLAPS + BERT] added up over so many rows -> bleu, rouge1, rouge2, rougeL, bertscore (None: not asked for)."""
    means = sums[OVERLAPS:] / rows if rows else sums[OVERLAPS:]
    bert = dict(zip(BERT_KEYS, (round(float(value), 4) for value in means), strict=True))
    return {**overlap_report(sums[:OVERLAPS], rows), "bertscore": bert if rows and np.isfinite(means).all() else None}


def gain(total: float, squares: float, rows: int) -> dict[str, float] | None:
    """The mean of a difference that so many rows add up to, and how many of its standard errors that is (above 3 is
    hardly chance). None where it was not asked for, or of a single row."""
    if rows < 2 or not math.isfinite(total):
        return None
    mean = total / rows
    error = math.sqrt(max(0.0, squares / rows - mean**2) / (rows - 1))
    return {"mean": round(mean, 4), "standard_errors": round(mean / error, 1) if error else 0.0}


def cost(seconds: float, cpu_seconds: float, rows: int) -> dict[str, float | None]:
    """Of 1,000 reviews: seconds of a worker, and seconds of all its CPUs together."""
    return {
        "seconds_per_1000": round(1_000 * seconds / rows, 2) if rows else None,
        "cpu_seconds_per_1000": round(1_000 * cpu_seconds / rows, 2) if rows else None,
    }


def review_report(
    table: pa.Table, parsed: Sequence[Parsed], taxonomy: Taxonomy, support_train: dict[str, int]
) -> dict[str, Any]:
    """The classifiers' report keys for a LABELLED table, and how much of what was written could be read.

    A keyword that is written has probability 1. `scores` are over the keywords that labels and model both name: the
    model gives no score to others, where a classifier is asked for each.
    """
    true = [{label["keyword"]: label["score"] for label in labels} for labels in table["labels"].to_pylist()]
    said = [row.scores for row in parsed]
    named = np.array([[name in row for name in taxonomy.names] for row in said], bool).reshape(len(said), -1)
    both = [(t[k], s[k]) for t, s in zip(true, said, strict=True) for k in s if k in t]
    whole = sum(bool(row.scores) and not row.bad for row in parsed)
    return {
        "keywords": keyword_report(keyword_matrix(table, taxonomy), named, taxonomy.names, support_train),
        "scores": score_report([t for t, _ in both], [s for _, s in both], taxonomy.scores),
        "tuples": tuple_report(true, said),
        "parsed": {
            "rows": whole,
            "share": round(whole / len(parsed), 4) if parsed else None,
            "bad_parts": sum(len(row.bad) for row in parsed),
            "nothing_said": sum(not row.scores for row in parsed),
        },
    }


def markdown(report: dict[str, Any], marks: ResultSums) -> str:
    """The report for people."""
    lines = [f"# {report['model']}, {report['task']}, {report['rows']} rows", ""]
    lines += [f"loss {_shown(report['loss'])}, perplexity {_shown(report['perplexity'])}", ""]
    lines += ["| measure | model | " + " | ".join(report["calibration"]) + " |", "|" + " --- |" * 5]
    for name in ("bleu", "rouge1", "rouge2", "rougeL"):
        lines.append(_row(name, [part[name] for part in (report, *report["calibration"].values())]))
    for key in BERT_KEYS if report["bertscore"] else ():
        parts = (report, *report["calibration"].values())
        lines.append(_row(f"bertscore {key}", [part["bertscore"][key] for part in parts]))
    found = {name: row for name, row in report["over_shuffled"].items() if row}
    if found:
        shown = ", ".join(f"{name} {row['mean']:+.4f} ({row['standard_errors']:g})" for name, row in found.items())
        lines += ["", f"Over another row's reference, row by row (in brackets: standard errors): {shown}"]
    if "tuples" in report:
        lines += _beside(report, report.get("classifiers") or {})
    for title, heap in (("Worst", marks.worst), ("Best", marks.best)):
        lines += ["", f"## {title} by ROUGE-L"]
        for _, _, row in sorted(heap, key=lambda entry: entry[:2], reverse=True):
            lines += ["", f"**{row['id']}** ROUGE-L {row['rougeL']:.3f}, BLEU {row['bleu']:.3f}", ""]
            lines += [f"- {name}: {_one_line(row[name])}" for name in ("prompt", "reference", "generated")]
    return "\n".join(lines) + "\n"


def _beside(report: dict[str, Any], classifiers: dict[str, Any]) -> list[str]:
    """The review task's table: the language model beside the classifiers."""
    lines = ["", "| measure | language model | classifiers |", "| --- | --- | --- |"]
    for title, path in (
        ("tuples F1, exact score", ("tuples", "micro", "f1")),
        ("tuples F1, sign of the score", ("tuples", "micro_sign", "f1")),
        ("keywords F1, micro", ("keywords", "micro", "f1")),
        ("keywords F1, micro without keywords on every review", ("keywords", "micro_varying", "f1")),
        ("keywords F1, macro", ("keywords", "macro", "f1")),
        ("score accuracy (language model: of keywords it names)", ("scores", "accuracy")),
        ("outputs that parse", ("parsed", "share")),
        ("seconds per 1,000 reviews", ("cost", "seconds_per_1000")),
        ("CPU seconds per 1,000 reviews", ("cost", "cpu_seconds_per_1000")),
    ):
        lines.append(_row(title, [_at(part, path) for part in (report, classifiers)]))
    lines += ["", "| keyword | F1 | classifiers' F1 | support |", "| --- | --- | --- | --- |"]
    for name, row in report["keywords"]["per_keyword"].items():
        other = _at(classifiers, ("keywords", "per_keyword", name, "f1"))
        lines.append(_row(name, [row["f1"], other]) + f" {row['support']} |")
    return lines


def _row(title: str, values: Sequence[Any]) -> str:
    return f"| {title} | " + " | ".join(map(_shown, values)) + " |"


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"


def _at(report: dict[str, Any], path: Sequence[str]) -> Any:
    value: Any = report
    for key in path:
        value = (value or {}).get(key)
    return value


def _one_line(text: str) -> str:
    """A text as one item of a list: code, so that `###` and line ends stay what they are."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"
