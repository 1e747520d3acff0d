"""The task of a score classifier that attends: joined reviews, evidence, and that it learns to read the keyword."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_app.data.taxonomy import load
from ray_app.engine.device import choose_device
from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
from ray_app.engine.tokenizer import Tokenizer
from ray_app.evaluation.mixed_reviews import overall_keywords
from ray_app.labels.reader import read_labels
from ray_app.training.joined_reviews import labeled_tokens, named_keywords
from ray_app.training.keyword_queries import initialize_queries
from ray_app.training.keyword_scores import KeywordScoreTask, keyword_score_task
from tests.support import bundles

TAXONOMY = load()
TOKENIZER = Tokenizer(bundles.hf_tokenizer("bert"))
ROWS: list[dict[str, Any]] = [
    {
        "text": "옷은 예쁘지만 배송은 늦어요 배송",
        "labels": [
            {"keyword": "디자인", "score": 1, "highlights": ["예쁘지만"]},
            {"keyword": "배송", "score": -1, "highlights": ["배송"], "opinions": ["늦어요"]},
            {"keyword": "만족도", "score": 0},
        ],
    },
    {"text": "색이 곱다", "labels": [{"keyword": "색상", "score": 2}, {"keyword": "만족도", "score": 2}]},
    {"text": "너무 비싸요", "labels": [{"keyword": "가격", "score": -2}, {"keyword": "만족도", "score": -1}]},
    {"text": "그냥 그래요", "labels": [{"keyword": "만족도", "score": 0}]},
]


def task(folder: Path, **options: Any) -> KeywordScoreTask:
    path = folder / "labels.jsonl"
    lines = [json.dumps({"review_id": str(i), **row}, ensure_ascii=False) for i, row in enumerate(ROWS)]
    path.write_text("\n".join(lines), encoding="utf-8")
    table = read_labels(str(path)).table
    settings: dict[str, Any] = {"max_length": 64, "balance": 0.0, "evidence": 0.3, "join": 1.0, "seed": 0, **options}
    return keyword_score_task(table, table, TAXONOMY, TOKENIZER, **settings)


def test_evidence_is_every_token_of_every_occurrence(tmp_path: Path) -> None:
    made = task(tmp_path)
    row = made.train.rows[0]
    tokens = TOKENIZER([ROWS[0]["text"]])
    by_keyword = {TAXONOMY.names[label.keyword]: label.evidence[0] for label in row.labels}
    spans = [(int(tokens.start[t]), int(tokens.end[t])) for t in by_keyword["배송"]]
    text = ROWS[0]["text"]
    assert {text[start:end] for start, end in spans} <= {"배송", "배", "송", "##송", "배송은"}
    assert {start for start, _ in spans} >= {text.find("배송"), text.rfind("배송")}
    assert len(by_keyword["만족도"]) == 0


def test_joined_reviews_have_the_labels_of_both_without_the_overall_one(tmp_path: Path) -> None:
    made = task(tmp_path)
    assert [TAXONOMY.names[k] for k in made.train.overall] == ["만족도"]
    made.begin_epoch(1)
    assert len(made.rows) == len(made.train.rows)
    joined = [row for row in made.rows if row not in made.train.rows]
    assert joined
    for row in joined:
        keywords = [label.keyword for label in row.labels]
        assert len(set(keywords)) == len(keywords) >= 2
        assert not set(keywords) & made.train.overall
        assert all(words.max(initial=-1) < len(row.ids) for label in row.labels for words in label.evidence)
    assert made.rows[3] == made.train.rows[3], "nothing but an overall label: it stays alone"
    assert made.terms.tolist() == [len(row.labels) for row in made.rows]


def test_evidence_moves_with_its_words(tmp_path: Path) -> None:
    made = task(tmp_path)
    words = {
        (label.keyword, kind): made.train.rows[0].ids[words[0]]
        for label in made.train.rows[0].labels
        for kind, words in enumerate(label.evidence)
        if len(words)
    }
    assert len(words) == 3
    for epoch in range(1, 9):
        made.begin_epoch(epoch)
        for row in made.rows:
            for label in row.labels:
                for kind, tokens in enumerate(label.evidence):
                    if (label.keyword, kind) in words and len(tokens):
                        assert row.ids[tokens[0]] == words[label.keyword, kind]


def test_an_epoch_is_the_same_for_a_seed_and_another_for_the_next(tmp_path: Path) -> None:
    one, other = task(tmp_path), task(tmp_path)
    one.begin_epoch(3)
    other.begin_epoch(3)
    assert [row.ids for row in one.rows] == [row.ids for row in other.rows]
    drawn = set()
    for epoch in range(6):
        one.begin_epoch(epoch)
        drawn.add(tuple(tuple(row.ids) for row in one.rows))
    assert len(drawn) > 1


@pytest.mark.parametrize("room", [16, 20])
def test_a_joined_review_fits_what_the_model_reads(tmp_path: Path, room: int) -> None:
    made = task(tmp_path, max_length=room)
    for epoch in range(5):
        made.begin_epoch(epoch)
        assert made.lengths.max() <= TOKENIZER.max_review_tokens(room)


def test_no_share_joins_nothing(tmp_path: Path) -> None:
    made = task(tmp_path, join=0.0)
    made.begin_epoch(1)
    assert made.rows == list(made.train.rows)


def test_rows_without_labels_cost_nothing(tmp_path: Path) -> None:
    made = task(tmp_path, join=0.0)
    made.rows[1] = type(made.rows[1])(made.rows[1].ids, ())
    model = KeywordScorer(bundles.encoder("bert"), KeywordAttention(len(TAXONOMY.names), 32, 5, 0.0))
    cpu = torch.device("cpu")
    assert float(made.loss(model, np.array([1]), cpu)) == 0
    both, alone = made.loss(model, np.array([0, 1]), cpu), made.loss(model, np.array([0]), cpu)
    assert float(both) == pytest.approx(float(alone), rel=1e-5)


def test_queries_start_from_what_keywords_mean(tmp_path: Path) -> None:
    made, encoder = task(tmp_path), bundles.encoder("bert")
    model = KeywordScorer(encoder, KeywordAttention(len(TAXONOMY.names), 32, 5))
    texts = [row["text"] for row in ROWS]
    initialize_queries(model, texts, TAXONOMY, TOKENIZER, 64, choose_device("cpu"))
    states = made.tokenizer.with_special_tokens(made.tokenizer(texts).sequences, 64)
    assert len(states.ids)
    assert torch.isfinite(model.head.query).all()
    assert torch.linalg.norm(model.head.query.detach(), dim=1).numpy() == pytest.approx(2.0, abs=1e-4)
    assert float(model.head.spread.min()) > 0


def test_overall_keywords_are_those_of_nearly_every_review(tmp_path: Path) -> None:
    made = task(tmp_path)
    few = overall_keywords(named_keywords(made.train.rows[:3], len(TAXONOMY.names)))
    assert frozenset(few.tolist()) == made.train.overall
    rows = labeled_tokens(read_labels("sample").split("test"), TAXONOMY, TOKENIZER, 64)
    overall = overall_keywords(named_keywords(rows, len(TAXONOMY.names)))
    assert [TAXONOMY.names[k] for k in overall] == ["만족도"]
