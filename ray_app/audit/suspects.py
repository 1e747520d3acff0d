"""What an audit finds, as tables.

In: labeled reviews and out-of-fold predictions for them. Out: SUSPECTS rows, figures per keyword, and a queue of
reviews to look at again.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags
from ray_app.audit.confident_learning import LabelIssues, keyword_issues, score_issues
from ray_app.audit.confusable_keywords import Pair, confusable
from ray_app.audit.guideline_rules import CheckedRule, check_labels
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
        ("suggested", pa.string()),  # `배송 2`; `배송` where no score is suggested, null for no such label
        ("confidence", pa.float32()),
        ("reason", pa.string()),
        ("evidence", pa.string()),  # the word behind the model's prediction or the rule; null for none
    ]
)
WIDE = 0.3  # a 95% interval wider than this: the F1 says little


class Suspect(TypedDict):
    """A row of SUSPECTS."""

    review_id: str
    text: str
    keyword: str
    kind: str
    given: str | None
    suggested: str | None
    confidence: float
    reason: str
    evidence: str | None


class KeywordFigures(TypedDict):
    """Figures of one keyword: its support, suspects by kind, and the F1 of the out-of-fold predictions.

    `flagged` is `missing` + `extra`; `test_ratio` is test over training support, None without training support; `low`
    and `high` bound 95% of the F1 over test splits; `few` says that these are too few examples to judge a model by.
    """

    keyword: str
    support: int
    flagged: int
    missing: int
    extra: int
    score: int
    rule: int
    test_support: int
    test_ratio: float | None
    f1: float
    low: float
    high: float
    few: bool


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """`suspects` (SUSPECTS, the likeliest errors first), and what else the report shows."""

    suspects: pa.Table
    rules: list[CheckedRule]
    pairs: list[Pair]
    keywords: list[KeywordFigures]
    keyword_issues: LabelIssues
    score_issues: LabelIssues


def find_suspects(table: pa.Table, taxonomy: Taxonomy, predictions: OutOfFold, test: pa.Table) -> AuditResult:
    """Judges the labels of `table`; `test` rows are only counted."""
    labeled = keyword_matrix(table, taxonomy)
    rules = check_labels(table["text"].to_pylist(), labeled, taxonomy)
    keywords = keyword_issues(labeled, predictions.keywords)
    scores = score_issues(score_pairs(table, taxonomy)[2], predictions.scores)
    rows = [
        *_keyword_suspects(table, taxonomy, predictions, labeled, keywords),
        *_score_suspects(table, taxonomy, predictions, scores),
        *_rule_suspects(table, rules),
    ]
    rows.sort(key=lambda row: (-row["confidence"], row["review_id"], row["keyword"]))
    return AuditResult(
        suspects=pa.Table.from_pylist(rows, schema=SUSPECTS),
        rules=rules,
        pairs=confusable(labeled, keywords.flagged & labeled, keywords.flagged & ~labeled, taxonomy.names),
        keywords=_figures(taxonomy, labeled, keyword_matrix(test, taxonomy), predictions, rows),
        keyword_issues=keywords,
        score_issues=scores,
    )


def queue(table: pa.Table, suspects: pa.Table, most: int) -> pa.Table:
    """The `most` reviews with the likeliest errors: review_id, text, labels as given, suspicion, and its confidence."""
    by_review: dict[str, list[Suspect]] = {}
    for row in suspects.to_pylist():
        by_review.setdefault(row["review_id"], []).append(row)
    chosen = list(by_review)[:most]
    positions = {review_id: i for i, review_id in enumerate(table["review_id"].to_pylist())}
    batch = table.select(["review_id", "text", "labels"]).take(pa.array([positions[i] for i in chosen], pa.int64()))
    reasons = ["; ".join(f"{row['kind']} {row['keyword']}: {row['reason']}" for row in by_review[i]) for i in chosen]
    confidence = [by_review[i][0]["confidence"] for i in chosen]
    batch = batch.append_column("suspicion", pa.array(reasons, pa.string()))
    return batch.append_column("confidence", pa.array(confidence))


def _keyword_suspects(
    table: pa.Table, taxonomy: Taxonomy, predictions: OutOfFold, labeled: Flags, issues: LabelIssues
) -> Iterator[Suspect]:
    reviews = _reviews(table)
    for i, k in np.argwhere(issues.flagged):
        keyword, word, p = taxonomy.names[k], predictions.words[i, k], predictions.keywords[i, k]
        yield reviews[i].suspect(
            keyword,
            "extra" if labeled[i, k] else "missing",
            suggested=None if labeled[i, k] else keyword,
            confidence=issues.confidence[i, k],
            reason=f"the model finds it with {p:.2f}; evidence: {f'「{word}」' if word else 'none'}",
            evidence=word,
        )


def _score_suspects(
    table: pa.Table, taxonomy: Taxonomy, predictions: OutOfFold, issues: LabelIssues
) -> Iterator[Suspect]:
    reviews, scale, (review, keyword, given) = _reviews(table), taxonomy.scores, score_pairs(table, taxonomy)
    for label in np.flatnonzero(issues.flagged):
        p, word = predictions.scores[label], predictions.words[review[label], keyword[label]]
        name, likely, now = taxonomy.names[keyword[label]], int(p.argmax()), given[label]
        reason = f"the model reads {scale[likely]} with {p[likely]:.2f} and {scale[now]} with {p[now]:.2f}"
        yield reviews[review[label]].suspect(
            name,
            "score",
            suggested=f"{name} {scale[likely]}",
            confidence=issues.confidence[label],
            reason=reason + (f"; evidence: 「{word}」" if word else ""),
            evidence=word,
        )


def _rule_suspects(table: pa.Table, rules: list[CheckedRule]) -> Iterator[Suspect]:
    """One row per broken match; `given` is another keyword of the same rule that the review has instead, if any."""
    reviews = _reviews(table)
    for rule in rules:
        for match in rule.broken:
            review, followed = reviews[match.review], rule.share_followed
            instead = next((name for name in rule.keywords if name in review.labels), "")
            cue = f", and it says 「{match.word}」" if match.word else ""
            suspect = review.suspect(
                match.keyword,
                "rule",
                suggested=match.keyword,
                confidence=followed,
                reason=f"rule {rule.title}{cue}; labels follow it in {followed:.0%} of {len(rule.matches)} reviews",
                evidence=match.word,
            )
            yield {**suspect, "given": review.labels.get(instead)}


@dataclass(frozen=True)
class _Review:
    """A review with its labels as people write them: keyword -> `배송 -1`."""

    review_id: str
    text: str
    labels: dict[str, str]

    def suspect(
        self, keyword: str, kind: str, *, suggested: str | None, confidence: float, reason: str, evidence: str
    ) -> Suspect:
        """A row of SUSPECTS about this review; `given` is its label of the keyword, if any."""
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


def _reviews(table: pa.Table) -> list[_Review]:
    return [
        _Review(
            row["review_id"],
            row["text"],
            {label["keyword"]: f"{label['keyword']} {label['score']}" for label in row["labels"]},
        )
        for row in table.select(["review_id", "text", "labels"]).to_pylist()
    ]


def _figures(
    taxonomy: Taxonomy, labeled: Flags, test_labeled: Flags, predictions: OutOfFold, suspects: list[Suspect]
) -> list[KeywordFigures]:
    counts = Counter((suspect["keyword"], suspect["kind"]) for suspect in suspects)
    predicted = predictions.keywords >= tune_thresholds(labeled, predictions.keywords)
    bounds = f1_interval(labeled, predicted, len(test_labeled) or len(labeled))
    hits = (labeled & predicted).sum(0)
    figures: list[KeywordFigures] = []
    for k, name in enumerate(taxonomy.names):
        support, test_support = int(labeled[:, k].sum()), int(test_labeled[:, k].sum())
        low, high = bounds[k]
        figures.append(
            {
                "keyword": name,
                "support": support,
                "flagged": counts[name, "missing"] + counts[name, "extra"],
                "missing": counts[name, "missing"],
                "extra": counts[name, "extra"],
                "score": counts[name, "score"],
                "rule": counts[name, "rule"],
                "test_support": test_support,
                "test_ratio": test_support / support if support else None,
                "f1": float(2 * hits[k] / max(1, support + predicted[:, k].sum())),
                "low": float(low),
                "high": float(high),
                "few": bool(high - low > WIDE or (len(test_labeled) and not test_support)),
            }
        )
    return figures
