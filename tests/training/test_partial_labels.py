"""Label sets of a few keywords: what their labelers were not asked about teaches nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import load
from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError
from ray_app.labels.reader import read_labels
from ray_app.training import train
from ray_app.training.classifier_options import Config
from ray_app.training.keyword_scores import KeywordScoreTask, keyword_score_task
from ray_app.training.partial_labels import fully_labeled, with_partial_labels
from tests.support import bundles

TAXONOMY = load()
TOKENIZER = Tokenizer(bundles.hf_tokenizer("bert"))
CPU = torch.device("cpu")
OWN = [
    {"text": "색이 곱다", "labels": [{"keyword": "색상", "score": 2}, {"keyword": "만족도", "score": 2}]},
    {"text": "너무 비싸요", "labels": [{"keyword": "가격", "score": -2}, {"keyword": "만족도", "score": -1}]},
]
PARTIAL = [
    {"text": "배송이 늦어서 화나요", "labels": [{"keyword": "배송", "score": -1}]},
    {"text": "별로예요", "labels": [{"keyword": "만족도", "score": -1}], "split": "test"},
    {"text": "빨리 왔어요", "labels": [{"keyword": "배송", "score": 1}]},
    {"text": "잘 쓸게요", "labels": [{"keyword": "만족도", "score": 1}]},
]


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    lines = [json.dumps({"review_id": str(i), **row}, ensure_ascii=False) for i, row in enumerate(rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def tables(folder: Path) -> tuple[pa.Table, pa.Table]:
    own = read_labels(written(folder / "own.jsonl", OWN)).table
    both = with_partial_labels(own, (written(folder / "some.jsonl", PARTIAL),), TAXONOMY, "fail")
    return own, both


def task(table: pa.Table, held_out: pa.Table, **options: Any) -> KeywordScoreTask:
    settings: dict[str, Any] = {"max_length": 64, "balance": 0.0, "evidence": 0.0, "join": 0.0, "seed": 0, **options}
    return keyword_score_task(table, held_out, TAXONOMY, TOKENIZER, finds=True, **settings)


def scorer() -> KeywordScorer:
    torch.manual_seed(0)
    return KeywordScorer(bundles.encoder("bert"), KeywordAttention(len(TAXONOMY.names), 32, 6, 0.0)).eval()


def test_training_rows_join_with_what_their_labels_were_asked_about(tmp_path: Path) -> None:
    own, both = tables(tmp_path)
    assert both["review_id"].to_pylist() == ["0", "1", "also1-0", "also1-2", "also1-3"]
    assert both["asked"].to_pylist() == [None, None, *[["만족도", "배송"]] * 3]
    assert both["coarse"].to_pylist() == [None, None, True, True, True]
    assert fully_labeled(both).equals(own.select(LABELED.names))
    assert fully_labeled(own) is own


def test_a_row_says_nothing_of_keywords_that_it_was_not_asked_about(tmp_path: Path) -> None:
    own, both = tables(tmp_path)
    made, model = task(both, own), scorer()
    row = made.rows[2]
    color, delivery = TAXONOMY.index["색상"], TAXONOMY.index["배송"]
    grid = torch.zeros(1, len(TAXONOMY.names), requires_grad=True)
    made._finding([row], grid).backward()  # type: ignore[no-untyped-call]
    assert grid.grad is not None
    assert float(grid.grad[0, color]) == 0
    assert float(grid.grad[0, delivery]) < 0, "it is to be found"
    assert float(grid.grad[0, TAXONOMY.index["만족도"]]) == 0
    assert torch.isfinite(made.loss(model, np.arange(5), CPU))
    assert made.terms.tolist() == [3, 3, 2, 2, 2]


def test_a_coarse_label_asks_for_the_sign_alone(tmp_path: Path) -> None:
    own, both = tables(tmp_path)
    made = task(both, own)
    very = torch.tensor([[9.0, 0, 0, 0, 0]])  # surely -2, where the label says -1
    position = torch.tensor([TAXONOMY.scores.index(-1)])
    assert float(made._scoring([made.rows[2]], very, position)) == pytest.approx(0, abs=1e-3)
    exact = [
        type(made.rows[2])(
            made.rows[2].ids, tuple(type(one)(one.keyword, one.score, one.evidence) for one in made.rows[2].labels)
        )
    ]
    assert float(made._scoring(exact, very, position)) > 8
    wrong = torch.tensor([[0.0, 0, 0, 0, 9.0]])
    assert float(made._scoring([made.rows[2]], wrong, position)) > 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"also": ("some.jsonl",), "score_form": "prompt"}, "--also: only keywords that attend"),
        ({"base_model": "ready", "layers": 3}, "--base-model ready: a bundle keeps its layers"),
        ({"base_model": "ready", "score_form": "attention"}, "--base-model ready: .*--score-form joint"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Config(**options).resolved()


def test_labels_that_all_speak_of_nothing_are_refused(tmp_path: Path) -> None:
    rows = [{"text": f"네 {i}", "labels": []} for i in range(20)]
    taxonomy = tmp_path / "two.yaml"
    taxonomy.write_text("{name: t, keywords: [맛, 양], scores: [-1, 0, 1]}", encoding="utf-8")
    config = Config(
        labels=written(tmp_path / "a.jsonl", rows),
        taxonomy=str(taxonomy),
        base_model="starter",
        output=str(tmp_path / "bundle"),
        workers=0,
    )
    with pytest.raises(UserError, match="none of its training reviews has a label"):
        train.run(config)


def test_rows_that_say_a_part_are_never_joined(tmp_path: Path) -> None:
    own, both = tables(tmp_path)
    made = task(both, own, join=1.0)
    for epoch in range(1, 6):
        made.begin_epoch(epoch)
        assert made.rows[2:] == made.train.rows[2:]
        assert all(row.asked is None for row in made.rows[:2])
        assert {len(row.labels) for row in made.rows[:2]} == {2}
