"""Wrong labels on purpose, to see how many of them an audit finds. In: labelled reviews. Out: those with known errors.

Only labels change, by a seed; which ones is kept. Test rows are the caller's to leave out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags, Floats, Ints
from ray_app.audit.confident_learning import top
from ray_app.audit.suspects import AuditResult
from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import Taxonomy
from ray_app.labels.matrices import keyword_matrix, score_pairs

HOW = ("labels", "cells")


@dataclass(frozen=True)
class Planted:
    """Labels with errors, and where they are: `keywords` [reviews, keywords], `scores` [labels of the table]."""

    table: pa.Table
    keywords: Flags
    scores: Flags


def plant(table: pa.Table, taxonomy: Taxonomy, share: float, seed: int, how: str = "labels") -> Planted:
    """Flips keywords and scores.

    Args:
        share: of the keyword labels that are flipped, and of the scores that become another one at random.
        how: `labels` takes this share of every keyword's labels away and gives as many reviews the keyword that should
            not have it; `cells` flips this share of all (review, keyword) cells, as if labellers had slipped: nearly
            all of those errors are superfluous keywords, which are easier to find.

    The overall keyword is never flipped (that it is missing shows without a model); its scores are.
    """
    rng = np.random.default_rng(seed)
    named = keyword_matrix(table, taxonomy)
    flips = _cells(named, taxonomy, share, rng) if how == "cells" else _per_keyword(named, taxonomy, share, rng)
    scores = np.full(named.shape, -1, np.int64)
    review, keyword, given = score_pairs(table, taxonomy)
    scores[review, keyword] = given
    wrong = rng.random(len(given)) < share
    width = len(taxonomy.scores)
    scores[review[wrong], keyword[wrong]] = (given[wrong] + rng.integers(1, width, wrong.sum())) % width
    for k in range(named.shape[1]):
        usual = given[keyword == k]
        new = np.flatnonzero(flips[:, k] & ~named[:, k])
        scores[new, k] = rng.choice(usual, len(new)) if len(usual) else width // 2
    scores[flips & named] = -1
    moved = np.zeros(named.shape, bool)
    moved[review[wrong], keyword[wrong]] = True
    planted = _relabeled(table, taxonomy, scores)
    review, keyword, _ = score_pairs(planted, taxonomy)
    return Planted(planted, flips, moved[review, keyword])


def _cells(named: Flags, taxonomy: Taxonomy, share: float, rng: np.random.Generator) -> Flags:
    flips = rng.random(named.shape) < share
    flips[:, _overall(taxonomy)] = False
    return flips


def _per_keyword(named: Flags, taxonomy: Taxonomy, share: float, rng: np.random.Generator) -> Flags:
    flips = np.zeros(named.shape, bool)
    for k in set(range(named.shape[1])) - set(_overall(taxonomy)):
        has, lacks = np.flatnonzero(named[:, k]), np.flatnonzero(~named[:, k])
        count = min(round(share * len(has)), len(lacks))
        for rows in (has, lacks):
            flips[rng.choice(rows, count, replace=False), k] = True
    return flips


def _overall(taxonomy: Taxonomy) -> list[int]:
    return [taxonomy.index[taxonomy.overall]] if taxonomy.overall else []


def _relabeled(table: pa.Table, taxonomy: Taxonomy, scores: Ints) -> pa.Table:
    """The table with the scores [reviews, keywords] of each review, -1 for a keyword it has not."""
    rows: list[dict[str, Any]] = table.select(LABELED.names).to_pylist()
    for row, own in zip(rows, scores, strict=True):
        words = {label["keyword"]: label["highlights"] for label in row["labels"]}
        row["labels"] = [
            {"keyword": name, "score": taxonomy.scores[score], "highlights": words.get(name)}
            for name, score in zip(taxonomy.names, own, strict=True)
            if score >= 0
        ]
    return pa.Table.from_pylist(rows, schema=LABELED)


def report(planted: Planted, audited: AuditResult, taxonomy: Taxonomy) -> dict[str, Any]:
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
