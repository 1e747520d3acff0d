"""How far labellers agree where several saw the same review. Pure functions on arrays, and the report of a table.

In: labels per labeller. Out: Cohen's kappa per keyword, Krippendorff's alpha of scores; None where nothing can vary.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from ray_app.data.taxonomy import Taxonomy


def cohen_kappa(first: ArrayLike, second: ArrayLike) -> float | None:
    """Agreement of two labellers beyond chance on [reviews] yes or no, 1 for all alike, 0 for chance; None where both
    gave one and the same answer throughout, so that agreement was certain.

    (observed - expected) / (1 - expected); Cohen 1960, "A coefficient of agreement for nominal scales".
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if not len(a):
        return None
    expected = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return None if expected == 1 else float(((a == b).mean() - expected) / (1 - expected))


def krippendorff_alpha(values: NDArray[Any], scale: Sequence[int]) -> float | None:
    """Ordinal agreement of any number of labellers: [labellers, units] positions in `scale`, negative where a labeller
    said nothing; units that fewer than two labellers valued do not count. None where all values are the same.

    1 - observed / expected disagreement over coincidences, with the squared distance of ranks; Krippendorff 2011,
    "Computing Krippendorff's Alpha-Reliability", sections C and D (ordinal metric differences).
    """
    said = np.stack([(values == position).sum(0) for position in range(len(scale))]).astype(float)
    said = said[:, said.sum(0) >= 2]
    pairs = (said / (said.sum(0) - 1)) @ said.T - np.diag((said / (said.sum(0) - 1)).sum(1))
    counts = pairs.sum(1)
    rank = counts.cumsum() - counts / 2
    distance = (rank[:, None] - rank[None]) ** 2
    expected = (np.outer(counts, counts) * distance).sum()
    return None if not expected else float(1 - (counts.sum() - 1) * (pairs * distance).sum() / expected)


def report(answers: pa.Table, taxonomy: Taxonomy) -> dict[str, Any]:
    """Agreement in a table with review_id, labels, labeller, one row per review and labeller.

    Kappa is the mean over the pairs of labellers that share reviews (Light 1971), weighted by how many they share;
    `shared` is how many reviews that are. Alpha is over the scores of all (review, keyword) that two or more named.
    """
    said = _said(answers)
    who = sorted({name for each in said.values() for name in each})
    both = [each for each in said.values() if len(each) > 1]
    per_keyword = {
        name: {"kappa": _light(both, who, name), "alpha": _alpha(both, who, [name], taxonomy)}
        for name in taxonomy.names
    }
    alpha = _alpha(both, who, taxonomy.names, taxonomy)
    return {"labellers": who, "shared": len(both), "alpha": alpha, "per_keyword": per_keyword}


def markdown(found: dict[str, Any]) -> str:
    """The report for people."""
    if not found["shared"]:
        return "No review was labelled by two labellers, so nothing is known of their agreement.\n"
    lines = [
        f"{found['shared']:,} reviews were labelled by two or more of {', '.join(found['labellers'])}.",
        "",
        "| keyword | kappa (named or not) | alpha (ordinal) of its score |",
        "| --- | --- | --- |",
    ]
    for name, row in found["per_keyword"].items():
        lines.append(f"| {name} | {_shown(row['kappa'])} | {_shown(row['alpha'])} |")
    return "\n".join([*lines, f"| all scores | | {_shown(found['alpha'])} |"]) + "\n"


Said = dict[str, dict[str, int]]  # labeller -> keyword -> score


def _said(answers: pa.Table) -> dict[str, Said]:
    """Review -> labeller -> keyword -> score."""
    said: dict[str, Said] = {}
    for row in answers.select(["review_id", "labels", "labeller"]).to_pylist():
        scores = {label["keyword"]: label["score"] for label in row["labels"]}
        said.setdefault(row["review_id"], {})[row["labeller"]] = scores
    return said


def _light(both: list[Said], who: list[str], keyword: str) -> float | None:
    kappas, weights = [], []
    for a, b in itertools.combinations(who, 2):
        seen = [each for each in both if a in each and b in each]
        kappa = cohen_kappa([keyword in each[a] for each in seen], [keyword in each[b] for each in seen])
        if kappa is not None:
            kappas.append(kappa)
            weights.append(len(seen))
    return round(float(np.average(kappas, weights=weights)), 4) if kappas else None


def _alpha(both: list[Said], who: list[str], keywords: Sequence[str], taxonomy: Taxonomy) -> float | None:
    position = {score: i for i, score in enumerate(taxonomy.scores)}
    units = [(each, name) for each in both for name in keywords]
    values = [[position[each[a][name]] if name in each.get(a, {}) else -1 for each, name in units] for a in who]
    alpha = krippendorff_alpha(np.array(values, int).reshape(len(who), len(units)), taxonomy.scores) if who else None
    return None if alpha is None else round(alpha, 4)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
