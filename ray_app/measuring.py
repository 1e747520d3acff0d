"""How many planted errors an audit found. In: a Planted table and its Audit. Out: a report, also as Markdown."""

from typing import Any

import numpy as np

from ray_app.findings import Audit
from ray_app.metrics import Flags
from ray_app.planting import Planted
from ray_app.sequences import Floats
from ray_app.suspects import top
from ray_app.targets import score_pairs
from ray_app.taxonomy import Taxonomy


def report(planted: Planted, audited: Audit, taxonomy: Taxonomy) -> dict[str, Any]:
    """Recall in the top 2N of N planted errors, precision there and among what is flagged, and both against chance.

    A planted keyword has no right score, so it takes no part in the scores' figures.
    """
    cells = _all(planted.keywords, audited.keyword_verdict.confidence, audited.keyword_verdict.flagged)
    review, keyword, _ = score_pairs(planted.table, taxonomy)
    own = ~planted.keywords[review, keyword]
    scores = audited.score_verdict
    of_keyword = keyword[own]
    wrong, sure, flagged = planted.scores[own], scores.confidence[own], scores.flagged[own]
    chosen = top(sure, 2 * int(wrong.sum()))
    best = top(audited.keyword_verdict.confidence, 2 * int(planted.keywords.sum()))
    return {
        "keywords": cells,
        "scores": _all(wrong, sure, flagged),
        "per_keyword": {
            name: {
                "keywords": _found(planted.keywords[:, k], best[:, k]),
                "scores": _found(wrong[of_keyword == k], chosen[of_keyword == k]),
            }
            for k, name in enumerate(taxonomy.names)
        },
    }


def markdown(found: dict[str, Any], about: str) -> str:
    """The report for people."""
    header = (
        "planted",
        "labels",
        "top 2N recall",
        "by chance",
        "factor",
        "top 2N precision",
        "flagged",
        "recall",
        "precision",
    )
    lines = [
        f"# Planted errors: {about}",
        "",
        "| what | " + " | ".join(header) + " |",
        "|" + " --- |" * (1 + len(header)),
    ]
    for what in ("keywords", "scores"):
        row = found[what]
        cells = [_shown(row[name]) for name in _NAMES]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    columns = ("planted", "top 2N", "found", "recall", "precision")
    lines += ["", "Per keyword, within the top 2N of all: keywords on the left, scores on the right.", ""]
    lines += ["| " + " | ".join(["keyword", *columns, *columns]) + " |", "|" + " --- |" * (1 + 2 * len(columns))]
    for name, both in found["per_keyword"].items():
        cells = [_shown(both[what][key]) for what in ("keywords", "scores") for key in _COUNTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


_NAMES = (
    "planted",
    "labels",
    "recall",
    "chance",
    "factor",
    "precision",
    "flagged",
    "flagged_recall",
    "flagged_precision",
)
_COUNTS = ("planted", "chosen", "found", "recall", "precision")


def _all(wrong: Flags, confidence: Floats, flagged: Flags) -> dict[str, Any]:
    count = int(wrong.sum())
    best = _found(wrong, top(confidence, 2 * count))
    chance = min(1.0, 2 * count / max(1, wrong.size))
    named = _found(wrong, flagged)
    return {
        "planted": count,
        "labels": int(wrong.size),
        "recall": best["recall"],
        "precision": best["precision"],
        "chance": round(chance, 4),
        "factor": None if best["recall"] is None else round(best["recall"] / chance, 1),
        "flagged": named["chosen"],
        "flagged_recall": named["recall"],
        "flagged_precision": named["precision"],
    }


def _found(wrong: Flags, chosen: Flags) -> dict[str, Any]:
    planted, told, both = (int(np.sum(each)) for each in (wrong, chosen, wrong & chosen))
    return {
        "planted": planted,
        "chosen": told,
        "found": both,
        "recall": round(both / planted, 3) if planted else None,
        "precision": round(both / told, 3) if told else None,
    }


def _shown(value: float | int | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"
