"""What the classifiers train on, are judged by and tune."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import load
from ray_app.engine.tokenizer import ScorePrompt, Tokenizer
from ray_app.evaluation.metrics import best_micro_f1, tune_thresholds
from ray_app.inference.bundle import SCORE_PROMPT
from ray_app.labels import matrices
from ray_app.training import classifier_task
from tests.support import bundles

TAXONOMY = load()
ROWS: list[dict[str, Any]] = [
    {"text": "옷은 예쁘지만 배송은 늦어요", "labels": [("만족도", 1), ("디자인", 2), ("배송", -1)]},
    {"text": "굿", "labels": [("만족도", 2)]},
    {"text": "배송이 빨라요 " * 30, "labels": [("배송", 2), ("만족도", 2)]},
]


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    full = [
        {
            "review_id": str(i),
            "text": row["text"],
            "labels": [{"keyword": k, "score": s, "highlights": []} for k, s in row["labels"]],
            "split": "train",
        }
        for i, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, LABELED)


TABLE = table_of(ROWS)
PAIRS = [(i, k, s) for i, row in enumerate(ROWS) for k, s in row["labels"]]


def logits_of(probabilities: Any) -> Any:
    return np.log(probabilities / (1 - probabilities)).astype(np.float32)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_training_data_are_the_prompts_that_inference_reads(kind: str) -> None:
    hf = bundles.hf_tokenizer(kind)
    tokenizer = Tokenizer(hf)
    plain = classifier_task.keyword_data(TABLE, TAXONOMY, tokenizer, 64)
    assert len(plain) == 3
    assert plain.targets.dtype == np.float32
    assert (plain.targets == matrices.keyword_matrix(TABLE, TAXONOMY)).all()
    for i, row in enumerate(ROWS):
        expected = hf(row["text"].rstrip(), truncation=True, max_length=64)["input_ids"]
        assert plain.sequences.row(i).tolist() == expected
    prompt = ScorePrompt(tokenizer, TAXONOMY.names, SCORE_PROMPT)
    scored = classifier_task.score_data(TABLE, TAXONOMY, prompt, 200)
    assert [TAXONOMY.scores[s] for s in scored.targets] == [s for _, _, s in PAIRS]
    for i, (review, keyword, _) in enumerate(PAIRS[:4]):
        whole = SCORE_PROMPT.format(review=ROWS[review]["text"], keyword=keyword)
        assert scored.sequences.row(i).tolist() == hf(whole)["input_ids"]


def test_joined_reviews_name_the_keywords_of_both_and_stay_as_many() -> None:
    tokenizer = Tokenizer(bundles.hf_tokenizer("bert"))
    rows = [*ROWS, {"text": "색이 곱네요", "labels": [("만족도", 2), ("색상", 2)]}]
    task = classifier_task.keyword_task(table_of(rows), TABLE, TAXONOMY, tokenizer, 64, join=1.0, seed=0)
    alone = classifier_task.keyword_data(table_of(rows), TAXONOMY, tokenizer, 64)
    task.begin_epoch(1)
    assert isinstance(task.train.targets, np.ndarray)
    assert len(task.train) == len(rows)
    overall = TAXONOMY.index["만족도"]
    assert (task.train.targets[:, overall] == 1).all()
    assert (task.train.targets >= alone.targets).all()
    color, design = TAXONOMY.index["색상"], TAXONOMY.index["디자인"]
    assert task.train.targets[0, color] == 1, "the first review joins the only one that speaks of something else"
    assert task.train.targets[3, color] == 1
    assert task.train.targets[3, [design, TAXONOMY.index["배송"]]].max() == 1
    assert (task.train.sequences.lengths[[0, 3]] > alone.sequences.lengths[[0, 3]]).all()


def test_a_prompt_may_hold_a_joined_review_with_the_keyword_of_one() -> None:
    prompt = ScorePrompt(Tokenizer(bundles.hf_tokenizer("bert")), TAXONOMY.names, SCORE_PROMPT)
    table = table_of([*ROWS[:2], {"text": "색이 곱네요", "labels": [("만족도", 2), ("색상", 2)]}])
    task = classifier_task.score_task(table, TABLE, TAXONOMY, prompt, 200, balance=0.0, join=1.0, seed=0)
    alone = classifier_task.score_data(table, TAXONOMY, prompt, 200)
    joined: set[int] = set()
    for epoch in range(1, 6):
        task.begin_epoch(epoch)
        assert task.train.targets.tolist() == alone.targets.tolist()
        longer = task.train.sequences.lengths > alone.sequences.lengths
        joined |= set(np.flatnonzero(longer).tolist())
        for i in range(len(task.train)):
            tail = prompt.tails[int(matrices.score_pairs(table, TAXONOMY)[1][i])]
            end = len(task.train.sequences.row(i)) - len(prompt.tokenizer.suffix)
            assert task.train.sequences.row(i)[end - len(tail) : end].tolist() == tail, "the keyword asked for stays"
    names = [TAXONOMY.names[k] for k in matrices.score_pairs(table, TAXONOMY)[1]]
    assert {names[i] for i in joined} == {"디자인", "배송", "색상"}


def test_keywords_are_selected_and_thresholds_tuned_on_probabilities() -> None:
    tokenizer = Tokenizer(bundles.hf_tokenizer("bert"))
    data = classifier_task.keyword_data(TABLE, TAXONOMY, tokenizer, 64)
    probabilities = np.random.default_rng(0).uniform(0.1, 0.9, (3, 15)).astype(np.float32)
    true = data.targets.astype(bool)
    metrics = classifier_task.keyword_metrics(true)
    assert metrics(logits_of(probabilities)) == {"select": pytest.approx(best_micro_f1(true, probabilities), abs=1e-4)}
    assert metrics(np.where(true, 9, -9).astype(np.float32))["select"] == 1
    thresholds = classifier_task.keyword_thresholds(true, logits_of(probabilities))
    np.testing.assert_allclose(thresholds, tune_thresholds(true, probabilities), atol=1e-3)


def test_scores_are_selected_by_accuracy_and_macro_f1_together() -> None:
    true = np.array([0, 1, 4, 4])
    logits = np.eye(5, dtype=np.float32)[[0, 2, 4, 4]]
    metrics = classifier_task.score_metrics(true, TAXONOMY)(logits)
    assert metrics["accuracy"] == 0.75
    assert metrics["macro_f1"] == 0.4
    assert metrics["mae"] == 0.25
    assert metrics["select"] == pytest.approx(0.575, abs=1e-4)


def sequences_of(count: int) -> Any:
    return Tokenizer(bundles.hf_tokenizer("bert"))(["굿"] * count).sequences


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_class_weights_follow_the_inverse_frequency_with_a_mean_of_one(power: float) -> None:
    classes = np.array([0] * 80 + [1] * 20)
    weights = classifier_task.class_weights(classes, 3, power)
    assert weights is not None
    assert weights[1] / weights[0] == pytest.approx(4**power, rel=1e-5)
    assert weights[2] > weights[1]
    assert weights[classes].mean() == pytest.approx(1, rel=1e-5)


def test_no_power_gives_no_class_weights() -> None:
    assert classifier_task.class_weights(np.array([0, 1]), 2, 0) is None
