"""How far labelers agree where several labeled the same review. Pure functions on arrays, and the report of a table.

In: labels per labeler. Out: Cohen's kappa per keyword, Krippendorff's alpha of scores; None where nothing can vary.
"""

import itertools
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from ray_app import markdown as md
from ray_app.arrays import Ints
from ray_app.data.taxonomy import Taxonomy

Answers = dict[str, dict[str, int]]  # the answers to one review: labeler -> keyword -> score


class KeywordAgreement(TypedDict):
    """Kappa of naming the keyword, alpha of its scores; None where nothing can vary."""

    kappa: float | None
    alpha: float | None


class AgreementReport(TypedDict):
    """The labelers, how many reviews two or more of them labeled, alpha of all scores, and agreement per keyword."""

    labellers: list[str]
    shared: int
    alpha: float | None
    per_keyword: dict[str, KeywordAgreement]


def cohen_kappa(first: ArrayLike, second: ArrayLike) -> float | None:
    """Agreement of two labelers beyond chance on [reviews] yes or no: 1 where all are alike, 0 for chance.

    None where both gave one and the same answer throughout, so that agreement was certain. Cohen 1960, "A coefficient
    of agreement for nominal scales".
    """
    from sklearn.metrics import cohen_kappa_score

    one, other = np.asarray(first, bool), np.asarray(second, bool)
    if len(np.unique(np.concatenate([one, other]))) < 2:
        return None
    return float(cohen_kappa_score(one, other))


def krippendorff_alpha(values: Ints, scale: Sequence[int]) -> float | None:
    """Ordinal agreement of any number of labelers; None where all values are the same.

    Args:
        values: [labelers, units] positions in `scale`, negative where a labeler gave none. Units with fewer than two
            values do not count.

    1 - observed / expected disagreement over coincidences, with the squared distance of ranks; Krippendorff 2011,
    "Computing Krippendorff's Alpha-Reliability", sections C and D (ordinal metric differences).
    """
    given = np.stack([(values == position).sum(0) for position in range(len(scale))]).astype(float)
    given = given[:, given.sum(0) >= 2]
    weighted = given / (given.sum(0) - 1)
    coincidences = weighted @ given.T - np.diag(weighted.sum(1))
    counts = coincidences.sum(1)
    rank = counts.cumsum() - counts / 2
    distance = (rank[:, None] - rank[None]) ** 2
    expected = (np.outer(counts, counts) * distance).sum()
    return None if not expected else float(1 - (counts.sum() - 1) * (coincidences * distance).sum() / expected)


def report(answers: pa.Table, taxonomy: Taxonomy) -> AgreementReport:
    """Agreement in a table with review_id, labels, labeller, one row per review and labeler.

    Kappa is the mean over the pairs of labelers that share reviews (Light 1971), weighted by how many they share;
    `shared` counts the reviews of two or more labelers. Alpha is over the scores of every (review, keyword) that two or
    more named.
    """
    by_review = _by_review(answers)
    labelers = sorted({name for each in by_review.values() for name in each})
    shared = [each for each in by_review.values() if len(each) > 1]
    per_keyword: dict[str, KeywordAgreement] = {
        name: {"kappa": _mean_kappa(shared, labelers, name), "alpha": _alpha(shared, labelers, [name], taxonomy)}
        for name in taxonomy.names
    }
    alpha = _alpha(shared, labelers, taxonomy.names, taxonomy)
    return {"labellers": labelers, "shared": len(shared), "alpha": alpha, "per_keyword": per_keyword}


def markdown(agreement: AgreementReport) -> str:
    """The report for people."""
    if not agreement["shared"]:
        return "No review was labeled by two labelers, so nothing is known about their agreement.\n"
    labelers = ", ".join(map(md.escape, agreement["labellers"]))
    rows = [(md.escape(name), row["kappa"], row["alpha"]) for name, row in agreement["per_keyword"].items()]
    rows.append(("all scores", None, agreement["alpha"]))
    table = md.table(("keyword", "kappa (named or not)", "alpha (ordinal) of its score"), rows)
    return "\n".join([f"{agreement['shared']:,} reviews were labeled by two or more of {labelers}.", "", *table]) + "\n"


def _by_review(table: pa.Table) -> dict[str, Answers]:
    """Review id -> the answers to it."""
    answers: dict[str, Answers] = {}
    for row in table.select(["review_id", "labels", "labeller"]).to_pylist():
        scores = {label["keyword"]: label["score"] for label in row["labels"]}
        answers.setdefault(row["review_id"], {})[row["labeller"]] = scores
    return answers


def _mean_kappa(shared: list[Answers], labelers: list[str], keyword: str) -> float | None:
    """Kappa of naming a keyword, averaged over pairs of labelers with the number of their reviews as weights."""
    kappas, weights = [], []
    for a, b in itertools.combinations(labelers, 2):
        of_both = [each for each in shared if a in each and b in each]
        kappa = cohen_kappa([keyword in each[a] for each in of_both], [keyword in each[b] for each in of_both])
        if kappa is not None:
            kappas.append(kappa)
            weights.append(len(of_both))
    return round(float(np.average(kappas, weights=weights)), 4) if kappas else None


def _alpha(shared: list[Answers], labelers: list[str], keywords: Sequence[str], taxonomy: Taxonomy) -> float | None:
    """Alpha of the scores of these keywords."""
    if not labelers:
        return None
    position = {score: i for i, score in enumerate(taxonomy.scores)}
    units = [(each, name) for each in shared for name in keywords]
    values = [[position[each[a][name]] if name in each.get(a, {}) else -1 for each, name in units] for a in labelers]
    alpha = krippendorff_alpha(np.array(values, np.int64).reshape(len(labelers), len(units)), taxonomy.scores)
    return None if alpha is None else round(alpha, 4)
