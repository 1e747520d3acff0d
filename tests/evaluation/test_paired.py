"""Two bundles on the same rows: values are the report's, and intervals of the difference say what the rows can tell."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_app.data.taxonomy import load
from ray_app.evaluation import paired
from ray_app.evaluation.report import evaluate_predictions
from ray_app.labels.matrices import keyword_matrix

TAXONOMY = load()
ALL = np.arange(len(TAXONOMY.names))


def rows(count: int = 200, seed: int = 0) -> pa.Table:
    """Labels drawn at random; every review has 만족도."""
    rng = np.random.default_rng(seed)
    names = [name for name in TAXONOMY.names if name != "만족도"]
    labels = [
        [
            {"keyword": name, "score": int(rng.choice(TAXONOMY.scores))}
            for name in ["만족도", *rng.choice(names, rng.integers(1, 4), replace=False)]
        ]
        for _ in range(count)
    ]
    return pa.table({"text": [f"리뷰 {i}" for i in range(count)], "labels": labels})


def answers(table: pa.Table, wrong: float, seed: int = 1) -> paired.Answers:
    """The labels, with a share of cells and scores turned."""
    rng = np.random.default_rng(seed)
    true = keyword_matrix(table, TAXONOMY)
    scores = np.zeros(true.shape, np.int64)
    for i, labels in enumerate(table["labels"].to_pylist()):
        for label in labels:
            scores[i, TAXONOMY.index[label["keyword"]]] = TAXONOMY.scores.index(label["score"])
    drawn = np.where(rng.random(true.shape) < wrong, rng.integers(0, len(TAXONOMY.scores), true.shape), scores)
    return paired.Answers(found=true ^ (rng.random(true.shape) < wrong / 4), scores=drawn)


def compared(table: pa.Table, old: paired.Answers, new: paired.Answers, keywords: Any = ALL) -> Any:
    sides = [paired.measures(table, TAXONOMY, keywords, side) for side in (old, new)]
    return {row["measure"]: row for row in paired.differences(sides[0], sides[1], len(table), 300, 0)}


def test_values_are_those_of_the_report() -> None:
    table = rows()
    given = answers(table, 0.3)
    found = [
        {TAXONOMY.names[k]: TAXONOMY.scores[given.scores[i, k]] for k in np.flatnonzero(row)}
        for i, row in enumerate(given.found)
    ]
    report = evaluate_predictions(table, found, given.scores, TAXONOMY, {})
    result = compared(table, given, given)
    assert {name: row["old"] for name, row in result.items()} == pytest.approx(
        {
            "keywords F1, micro": report["keywords"]["micro_varying"]["f1"],
            "keywords F1, macro": report["keywords"]["macro"]["f1"],
            "tuples F1, exact score": report["tuples"]["micro"]["f1"],
            "tuples F1, sign of the score": report["tuples"]["micro_sign"]["f1"],
            "score accuracy, given the keyword": report["scores"]["accuracy"],
            "sign in mixed reviews": report["scores"]["mixed"]["sign_accuracy"],
        },
        abs=1e-4,
    )
    assert {row["verdict"] for row in result.values()} == {paired.UNSURE}
    assert paired.verdict(list(result.values())) == paired.UNSURE


@pytest.mark.parametrize(("old", "new", "said"), [(0.4, 0.05, paired.BETTER), (0.05, 0.4, paired.WORSE)])
def test_a_planted_difference_is_seen(old: float, new: float, said: str) -> None:
    table = rows()
    result = compared(table, answers(table, old), answers(table, new))
    for row in result.values():
        assert row["verdict"] == said
        assert row["low"] < row["difference"] < row["high"]
        assert row["difference"] == pytest.approx(row["new"] - row["old"], abs=1e-3)
    assert paired.verdict(list(result.values())) == said


def test_one_measure_that_is_worse_outweighs_those_that_are_better() -> None:
    table = rows()
    good, bad = answers(table, 0.05), answers(table, 0.4)
    result = compared(table, good, paired.Answers(found=keyword_matrix(table, TAXONOMY), scores=bad.scores))
    assert result["keywords F1, micro"]["verdict"] == paired.BETTER
    assert paired.verdict(list(result.values())) == paired.WORSE


def test_only_shared_keywords_count() -> None:
    table = rows()
    good = answers(table, 0.1)
    spoiled = paired.Answers(found=good.found.copy(), scores=good.scores.copy())
    spoiled.found[:, 5] ^= True
    spoiled.scores[:, 5] = 0
    shared = np.delete(ALL, 5)
    assert {row["difference"] for row in compared(table, good, spoiled, shared).values()} == {0.0}
    assert compared(table, good, spoiled)["keywords F1, micro"]["verdict"] == paired.WORSE


def test_rows_that_say_nothing_of_a_measure_leave_it_empty() -> None:
    table = pa.table({"text": ["좋아요"] * 3, "labels": [[{"keyword": "만족도", "score": 1}]] * 3})
    given = paired.Answers(found=keyword_matrix(table, TAXONOMY), scores=np.full((3, len(ALL)), 3))
    result = compared(table, given, given)
    assert result["sign in mixed reviews"]["old"] is None
    assert result["sign in mixed reviews"]["verdict"] == ""
    assert result["keywords F1, micro"]["old"] == 1.0
