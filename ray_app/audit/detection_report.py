"""How many planted errors an audit finds: recall and precision, against chance. Also as Markdown.

In: what was planted and the result of an audit. Out: the keys of measure.json, the text of measure.md.
"""

from typing import TypedDict

import numpy as np

from ray_app.arrays import Flags, Floats
from ray_app.audit.confident_learning import top
from ray_app.audit.planted_errors import Planted
from ray_app.audit.suspects import AuditResult
from ray_app.data.taxonomy import Taxonomy
from ray_app.labels.matrices import score_pairs
from ray_app.markdown import escape, table


class Found(TypedDict):
    """Planted errors, chosen labels, and how many are both; recall is None where nothing is planted, precision where
    nothing is chosen."""

    planted: int
    chosen: int
    found: int
    recall: float | None
    precision: float | None


class Detection(TypedDict):
    """How well N planted errors among `labels` labels are detected.

    `recall` and `precision` are those of the 2N labels of highest confidence; `chance` is the recall of 2N random
    labels and `factor` how many times better the audit is; the last three are of what the audit flags.
    """

    planted: int
    labels: int
    recall: float | None
    precision: float | None
    chance: float
    factor: float | None
    flagged: int
    flagged_recall: float | None
    flagged_precision: float | None


class KeywordDetection(TypedDict):
    """What was found of one keyword's planted errors, within the top 2N of all."""

    keywords: Found
    scores: Found


class DetectionReport(TypedDict):
    """How many planted errors an audit finds; a planted keyword has no right score, so `scores` leave it out."""

    keywords: Detection
    scores: Detection
    per_keyword: dict[str, KeywordDetection]


def detection_report(planted: Planted, result: AuditResult, taxonomy: Taxonomy) -> DetectionReport:
    """What an audit of planted errors found of them."""
    keyword_issues, score_issues = result.keyword_issues, result.score_issues
    review, keyword, _ = score_pairs(planted.table, taxonomy)
    own = ~planted.keywords[review, keyword]  # a planted keyword has no right score
    keyword, wrong, confidence = keyword[own], planted.scores[own], score_issues.confidence[own]
    top_keywords = top(keyword_issues.confidence, 2 * int(planted.keywords.sum()))
    top_scores = top(confidence, 2 * int(wrong.sum()))
    return {
        "keywords": _detection(planted.keywords, keyword_issues.confidence, keyword_issues.flagged),
        "scores": _detection(wrong, confidence, score_issues.flagged[own]),
        "per_keyword": {
            name: {
                "keywords": _found(planted.keywords[:, k], top_keywords[:, k]),
                "scores": _found(wrong[keyword == k], top_scores[keyword == k]),
            }
            for k, name in enumerate(taxonomy.names)
        },
    }


def _detection(wrong: Flags, confidence: Floats, flagged: Flags) -> Detection:
    count = int(wrong.sum())
    best, by_flag = _found(wrong, top(confidence, 2 * count)), _found(wrong, flagged)
    chance = min(1.0, 2 * count / max(1, wrong.size))
    return {
        "planted": count,
        "labels": int(wrong.size),
        "recall": best["recall"],
        "precision": best["precision"],
        "chance": round(chance, 4),
        "factor": None if best["recall"] is None else round(best["recall"] / chance, 1),
        "flagged": by_flag["chosen"],
        "flagged_recall": by_flag["recall"],
        "flagged_precision": by_flag["precision"],
    }


def _found(wrong: Flags, chosen: Flags) -> Found:
    planted, count, both = (int(np.sum(flags)) for flags in (wrong, chosen, wrong & chosen))
    return {
        "planted": planted,
        "chosen": count,
        "found": both,
        "recall": round(both / planted, 3) if planted else None,
        "precision": round(both / count, 3) if count else None,
    }


def markdown(report: DetectionReport, title: str) -> str:
    """The report for people."""
    header = (
        *("what", "planted", "labels", "top 2N recall", "by chance", "factor", "top 2N precision"),
        *("flagged", "recall", "precision"),
    )
    columns = ("planted", "top 2N", "found", "recall", "precision")
    per_keyword = [
        (escape(name), *_found_cells(row["keywords"]), *_found_cells(row["scores"]))
        for name, row in report["per_keyword"].items()
    ]
    lines = [
        f"# Planted errors: {escape(title)}",
        "",
        *table(
            header,
            [
                ("keywords", *_detection_cells(report["keywords"])),
                ("scores", *_detection_cells(report["scores"])),
            ],
        ),
        "",
        "Per keyword, within the top 2N of all: keywords on the left, scores on the right.",
        "",
        *table(("keyword", *columns, *columns), per_keyword),
    ]
    return "\n".join(lines) + "\n"


def _detection_cells(row: Detection) -> tuple[int | str | None, ...]:
    return (
        *(row["planted"], row["labels"], _short(row["recall"]), _short(row["chance"]), _short(row["factor"])),
        *(_short(row["precision"]), row["flagged"], _short(row["flagged_recall"]), _short(row["flagged_precision"])),
    )


def _found_cells(row: Found) -> tuple[int | str | None, ...]:
    return row["planted"], row["chosen"], row["found"], _short(row["recall"]), _short(row["precision"])


def _short(value: float | None) -> str | None:
    """Without trailing zeros."""
    return None if value is None else f"{value:g}"
