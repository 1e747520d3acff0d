"""evaluator: losses and metrics are per token and per row, whatever the batches; prompts and answers fit the model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_app.data import taxonomy
from ray_app.errors import UserError
from ray_app.lm import templates
from ray_app.lm.evaluator import BERT, COMPARISONS, INPUT_COLUMNS, OVERLAPS, EvaluationPlan, LMEvaluator
from ray_app.lm.generation import Decoding
from ray_app.lm.results import ResultSums
from tests.support.language_models import figures, make_lm

ROWS = [
    ("배송 빨라요", "배송1"),
    ("핏이 예쁘고 색상도 화면과 같아서 만족합니다 " * 2, "핏2, 색상1, 만족도2"),
    ("굿", "만족도1"),
]


def input_table(template: templates.Template, rows: list[tuple[str, str]] = ROWS) -> pa.Table:
    labels = [[{"keyword": part[:-1], "score": int(part[-1])} for part in text.split(", ")] for _, text in rows]
    labeled = [{"text": text, "labels": row} for (text, _), row in zip(rows, labels, strict=True)]
    completions = [template.completion_parts(row) for row in labeled]
    columns = {
        "row": range(len(rows)),
        "id": [f"r{i}" for i in range(len(rows))],
        "prompt": [template.prompt_parts(row) for row in labeled],
        "completion": completions,
        "other": [*completions[1:], completions[0]],
    }
    return pa.table(columns, schema=INPUT_COLUMNS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_lm(tmp_path_factory.mktemp("lm") / "review")


@pytest.fixture
def plan(folder: str) -> EvaluationPlan:
    return EvaluationPlan(
        model=folder,
        template=templates.load("review"),
        taxonomy=taxonomy.load(),
        decoding=Decoding(max_new_tokens=64),
        constrained=True,
        limit=192,
    )


def test_the_loss_is_weighted_by_tokens_and_never_counts_padding(plan: EvaluationPlan) -> None:
    """Against transformers' own loss of each row alone; the mean of the rows' means is another figure."""
    evaluator = LMEvaluator(plan)
    table = input_table(plan.template)
    prompts, completions = table["prompt"].to_pylist(), table["completion"].to_pylist()
    means, counts = [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        front, back = (
            evaluator.hf("".join(text), add_special_tokens=False)["input_ids"] for text in (prompt, completion)
        )
        back += [evaluator.hf.eos_token_id]
        labels = torch.tensor([[-100] * len(front) + back])
        with torch.no_grad():
            means.append(float(evaluator.model(torch.tensor([front + back]), labels=labels).loss))
        counts.append(len(back))
    results = ResultSums()
    results.add(evaluator(table))
    report: Any = results.report()
    assert report["loss_tokens"] == sum(counts)
    assert report["loss"] == pytest.approx(np.dot(means, counts) / sum(counts), abs=1e-5)
    assert report["perplexity"] == pytest.approx(np.exp(report["loss"]), rel=1e-4)
    assert abs(report["loss"] - np.mean(means)) > 0.01


def test_units_of_rows_make_no_difference(plan: EvaluationPlan) -> None:
    evaluator, table = LMEvaluator(plan), input_table(plan.template)
    whole, parts = ResultSums(), ResultSums()
    kept = [whole.add(evaluator(table))]
    kept += [parts.add(evaluator(table.slice(i, 1))) for i in (2, 0, 1)]
    assert figures(whole.report()) == pytest.approx(figures(parts.report()), rel=1e-6, abs=2e-4)
    assert whole.report()["generation"]["tokens"] == parts.report()["generation"]["tokens"]
    together = pa.concat_tables(kept[1:]).sort_by("row")
    for name in ("generated", "rougeL", "loss_tokens"):
        assert together[name].to_pylist() == kept[0][name].to_pylist()


def test_the_four_comparisons_are_what_they_say(plan: EvaluationPlan) -> None:
    evaluator = LMEvaluator(plan)
    reference, other, generated = (
        ["배송이 빨라요", "핏이 좋아요"],
        ["핏이 좋아요", "배송이 빨라요"],
        ["배송이 빨라요", "색이 달라요"],
    )
    scores = evaluator.compare(reference, other, generated)
    assert scores.shape == (2, len(COMPARISONS), OVERLAPS + BERT)
    at = {name: scores[:, c] for c, name in enumerate(COMPARISONS)}
    rouge_l, f1 = OVERLAPS - 1, OVERLAPS + 2
    assert at["model"][0, [rouge_l, f1]] == pytest.approx(1, abs=1e-5)
    assert at["reference"][:, [rouge_l, f1]] == pytest.approx(1, abs=1e-5)
    shuffled = evaluator.compare(other[:1], reference[:1], generated[:1])[0, 0]
    assert at["shuffled"][0] == pytest.approx(shuffled, abs=1e-5)
    assert at["unrelated"] == pytest.approx(evaluator.compare(reference, reference, other)[:, 0], abs=1e-5)
    assert (at["unrelated"][:, f1] < 0.95).all()


def test_without_an_encoder_there_is_no_bertscore(plan: EvaluationPlan) -> None:
    results = ResultSums()
    kept = results.add(LMEvaluator(replace(plan, bertscore=""))(input_table(plan.template)))
    assert results.report()["bertscore"] is None
    assert results.report()["rouge1"] is not None
    assert kept["bertscore_f1"].null_count == len(kept)


def test_evidence_comes_first_and_the_answer_parses_all_the_same(tmp_path: Path) -> None:
    """A random model never gets to the answer by itself."""
    template, known = templates.load("review_evidence"), taxonomy.load()
    plan = EvaluationPlan(
        model=make_lm(tmp_path / "m", "review_evidence"),
        template=template,
        taxonomy=known,
        decoding=Decoding(max_new_tokens=40, stop=template.stop),
        constrained=True,
        limit=192,
    )
    evaluator, table = LMEvaluator(plan), input_table(template)
    written, _ = evaluator.generate(table["prompt"].to_pylist(), [0, 1, 2])
    for row in written:
        parsed = template.parse(row.text, known)
        assert parsed.scores
        assert not parsed.bad
        assert row.text.count(template.answer_after) == 1
        assert len(row.text.partition(template.answer_after)[0]) > 5
    alone = [evaluator.generate([prompt], [i])[0][0] for i, prompt in enumerate(table["prompt"].to_pylist())]
    assert alone == written


def test_a_prompt_too_long_is_cut_in_the_middle_and_counted(plan: EvaluationPlan) -> None:
    evaluator = LMEvaluator(plan)
    table = input_table(plan.template, [("배송 빨라요 " * 200, "배송1"), *ROWS[:1]])
    results = evaluator(table)
    assert results["prompt_cut"].to_pylist() == [True, False]
    assert plan.template.parse(results["generated"][0].as_py(), taxonomy.load()).scores


def test_no_room_for_a_prompt_is_refused(plan: EvaluationPlan) -> None:
    crowded: Any = replace(plan, decoding=Decoding(max_new_tokens=190))
    with pytest.raises(UserError, match="--max-new-tokens 190: of the 192 tokens"):
        LMEvaluator(crowded)(input_table(plan.template))
