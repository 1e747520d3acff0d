"""What an audit finds, as tables. In: labelled reviews and the view of models that did not see them. Out: SUSPECTS
rows, the keywords' figures, and a queue of reviews to look at again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags
from ray_app.audit.confident_learning import LabelIssues, keyword_verdict, score_verdict
from ray_app.audit.confusable_keywords import Pair, confusable
from ray_app.audit.guideline_rules import Checked, check_labels
from ray_app.audit.out_of_fold import OutOfFold
from ray_app.data.taxonomy import Taxonomy
from ray_app.evaluation.metrics import f1_interval, tune_thresholds
from ray_app.labels.matrices import keyword_matrix, score_pairs

KINDS = ("missing", "extra", "score", "rule")
SUSPECTS = pa.schema(
    [
        ("review_id", pa.string()),
        ("text", pa.string()),
        ("keyword", pa.string()),
        ("kind", pa.string()),
        ("given", pa.string()),  # `배송 -1`, null where the labels do not name the keyword
        ("suggested", pa.string()),  # `배송 2`; `배송` where only the keyword is asked for, null for no such label
        ("confidence", pa.float32()),
        ("reason", pa.string()),
        ("evidence", pa.string()),  # the word that the model's view, or the rule, rests on; null for none
    ]
)
WIDE = 0.3  # a 95% interval wider than this: the F1 says little


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """`suspects` (SUSPECTS, the likeliest errors first), and what the report tells beside them."""

    suspects: pa.Table
    rules: list[Checked]
    pairs: list[Pair]
    keywords: list[dict[str, Any]]
    keyword_verdict: LabelIssues
    score_verdict: LabelIssues


def find_suspects(table: pa.Table, taxonomy: Taxonomy, view: OutOfFold, test: pa.Table) -> AuditResult:
    """Judges the labels of `table`. `test` rows are counted, nothing else."""
    named = keyword_matrix(table, taxonomy)
    rules = check_labels(table["text"].to_pylist(), named, taxonomy)
    keywords = keyword_verdict(named, view.keywords)
    scores = score_verdict(score_pairs(table, taxonomy)[2], view.scores)
    rows = [
        *_keyword_rows(table, taxonomy, view, named, keywords),
        *_score_rows(table, taxonomy, view, scores),
        *_rule_rows(table, taxonomy, rules),
    ]
    rows.sort(key=lambda row: (-row["confidence"], row["review_id"], row["keyword"]))
    suspects = pa.Table.from_pylist(rows, schema=SUSPECTS)
    pairs = confusable(named, keywords.flagged & named, keywords.flagged & ~named, taxonomy.names)
    figures = _figures(taxonomy, named, keyword_matrix(test, taxonomy), view, suspects)
    return AuditResult(
        suspects=suspects, rules=rules, pairs=pairs, keywords=figures, keyword_verdict=keywords, score_verdict=scores
    )


def queue(table: pa.Table, suspects: pa.Table, most: int) -> pa.Table:
    """The reviews with the likeliest errors: review_id, text and labels as given, what is suspected and how surely."""
    why: dict[str, list[dict[str, Any]]] = {}
    for row in suspects.to_pylist():
        why.setdefault(row["review_id"], []).append(row)
    chosen = list(why)[:most]
    at = {review_id: i for i, review_id in enumerate(table["review_id"].to_pylist())}
    batch = table.select(["review_id", "text", "labels"]).take(pa.array([at[i] for i in chosen], pa.int64()))
    said = ["; ".join(f"{row['kind']} {row['keyword']}: {row['reason']}" for row in why[i]) for i in chosen]
    sure = [why[i][0]["confidence"] for i in chosen]
    return batch.append_column("suspicion", pa.array(said, pa.string())).append_column("confidence", pa.array(sure))


def _keyword_rows(
    table: pa.Table, taxonomy: Taxonomy, view: OutOfFold, named: Flags, verdict: LabelIssues
) -> Iterator[dict[str, Any]]:
    rows = _rows(table)
    for i, k in np.argwhere(verdict.flagged):
        name, word, p = taxonomy.names[k], view.words[i, k], view.keywords[i, k]
        yield rows[i].suspect(
            name,
            "extra" if named[i, k] else "missing",
            None if named[i, k] else name,
            verdict.confidence[i, k],
            f"the model finds it with {p:.2f}; evidence: {f'「{word}」' if word else 'none'}",
            word,
        )


def _score_rows(table: pa.Table, taxonomy: Taxonomy, view: OutOfFold, verdict: LabelIssues) -> Iterator[dict[str, Any]]:
    rows, (review, keyword, given) = _rows(table), score_pairs(table, taxonomy)
    for at in np.flatnonzero(verdict.flagged):
        i, k, likely = review[at], keyword[at], int(view.scores[at].argmax())
        name, scale, word = taxonomy.names[k], taxonomy.scores, view.words[i, k]
        seen = f"{scale[likely]} with {view.scores[at, likely]:.2f} and {scale[given[at]]} with "
        reason = f"the model reads {seen}{view.scores[at, given[at]]:.2f}" + (f"; evidence: 「{word}」" if word else "")
        yield rows[i].suspect(name, "score", f"{name} {scale[likely]}", verdict.confidence[at], reason, word)


def _rule_rows(table: pa.Table, taxonomy: Taxonomy, rules: list[Checked]) -> Iterator[dict[str, Any]]:
    """One row per rule that a review breaks; `given` is the keyword of the same rule that it has instead, if any."""
    rows = _rows(table)
    for rule in rules:
        for demand in rule.broken:
            row = rows[demand.review]
            instead = next((name for name in rule.keywords if name in row.labels), None)
            said = f", and it says 「{demand.word}」" if demand.word else ""
            reason = f"rule {rule.title}{said}; labels follow it in {rule.obeyed:.0%} of {len(rule.demands)} reviews"
            found = row.suspect(demand.keyword, "rule", demand.keyword, rule.obeyed, reason, demand.word)
            yield found | {"given": row.labels.get(instead or "")}


@dataclass(frozen=True)
class _Row:
    """A review with its labels as they are written: keyword -> `배송 -1`."""

    review_id: str
    text: str
    labels: dict[str, str]

    def suspect(
        self, keyword: str, kind: str, suggested: str | None, confidence: float, reason: str, evidence: str
    ) -> dict[str, Any]:
        return {
            "review_id": self.review_id,
            "text": self.text,
            "keyword": keyword,
            "kind": kind,
            "given": self.labels.get(keyword),
            "suggested": suggested,
            "confidence": round(float(confidence), 4),
            "reason": reason,
            "evidence": evidence or None,
        }


def _rows(table: pa.Table) -> list[_Row]:
    return [
        _Row(
            row["review_id"], row["text"], {own["keyword"]: f"{own['keyword']} {own['score']}" for own in row["labels"]}
        )
        for row in table.select(["review_id", "text", "labels"]).to_pylist()
    ]


def _figures(
    taxonomy: Taxonomy, named: Flags, tested: Flags, view: OutOfFold, suspects: pa.Table
) -> list[dict[str, Any]]:
    """Per keyword: support, flags by direction, F1 of the unseeing models and how far it swings on a test split."""
    counts: dict[tuple[str, str], int] = {}
    for keyword, kind in zip(suspects["keyword"].to_pylist(), suspects["kind"].to_pylist(), strict=True):
        counts[keyword, kind] = counts.get((keyword, kind), 0) + 1
    predicted = view.keywords >= tune_thresholds(named, view.keywords)
    bounds = f1_interval(named, predicted, len(tested) or len(named))
    hits = (named & predicted).sum(0)
    rows = []
    for k, name in enumerate(taxonomy.names):
        by_kind = {kind: counts.get((name, kind), 0) for kind in KINDS}
        support, held = int(named[:, k].sum()), int(tested[:, k].sum())
        rows.append(
            {
                "keyword": name,
                "support": support,
                "flagged": by_kind["missing"] + by_kind["extra"],
                **by_kind,
                "test_support": held,
                "test_ratio": held / support if support else None,
                "f1": float(2 * hits[k] / max(1, support + predicted[:, k].sum())),
                "low": float(bounds[k, 0]),
                "high": float(bounds[k, 1]),
                "few": bool(bounds[k, 1] - bounds[k, 0] > WIDE or (len(tested) and not held)),
            }
        )
    return rows
