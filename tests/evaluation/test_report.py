"""The evaluation report of predictions, of a bundle and of the baseline; jobs.evaluate in process."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import from_labels
from ray_app.errors import UserError
from ray_app.evaluation import evaluate
from ray_app.evaluation.report import (
    EvaluationReport,
    evaluate_bundle,
    evaluate_predictions,
    predictions,
)
from ray_app.evaluation.word_report import WordJudge
from ray_app.inference.runtime import BundleRuntime
from ray_app.labels.matrices import score_pairs
from ray_app.labels.reader import read_labels

ROWS = [
    {"review_id": "1", "text": "배송 빨라요 색 예뻐요", "labels": [("배송", 1, ["빨라요"]), ("색상", 1, ["예뻐요"])]},
    {"review_id": "2", "text": "배송 늦어요", "labels": [("배송", -1, ["늦어요"])]},
    {"review_id": "3", "text": "색 칙칙해요", "labels": [("색상", -1, ["칙칙해요"])]},
]
COLORS = from_labels([("배송", -1), ("배송", 1), ("색상", 1)])


def table(rows: list[dict[str, Any]] = ROWS) -> pa.Table:
    def label(keyword: str, score: int, words: list[str]) -> dict[str, Any]:
        return {"keyword": keyword, "score": score, "highlights": words, "opinions": words}

    return pa.Table.from_pylist([{**row, "labels": [label(*one) for one in row["labels"]]} for row in rows], LABELED)


def test_evaluating_predictions_counts_keywords_scores_and_tuples() -> None:
    predicted = [{"배송": 1}, {"배송": 1, "색상": 1}, {"색상": -1}]
    scores = np.array([[1, 1], [1, 1], [0, 0]])  # positions on the scale -1, 1
    report = evaluate_predictions(table(), predicted, scores, COLORS, {"배송": 10})
    assert report["keywords"]["micro"] == {"precision": 0.75, "recall": 0.75, "f1": 0.75, "support": 4}
    assert report["keywords"]["per_keyword"]["배송"]["share"] == 0.2
    assert report["scores"]["accuracy"] == 0.75
    assert report["scores"]["confusion"] == [[1, 1], [0, 2]]
    assert report["tuples"]["micro"]["f1"] == 0.5
    assert report["tuples"]["micro_sign"]["f1"] == 0.5


def test_the_report_of_a_bundle_has_every_key(bundle_folder: str) -> None:
    tested = read_labels("sample").split("test").slice(0, 12)
    runtime = BundleRuntime(bundle_folder, "cpu")
    report = evaluate_bundle(runtime, tested, predictions(runtime, tested))
    assert report["keywords"].keys() == {
        "per_keyword", "micro", "macro", "weighted", "samples", "micro_varying"
    }  # fmt: skip
    assert report["scores"]["support"] == len(score_pairs(tested, runtime.meta.taxonomy)[0])
    faithful = WordJudge(runtime, tested, "space", seed=0).highlights()
    assert (faithful["comprehensiveness"] or -1) >= (faithful["random"]["comprehensiveness"] or 0)


def test_a_highlight_is_judged_only_where_there_is_a_choice(bundle_folder: str) -> None:
    one_word = [{"review_id": "1", "text": "배송빨라요", "labels": [("배송", 1, ["배송빨라요"])]}]
    judge = WordJudge(BundleRuntime(bundle_folder, "cpu"), table(one_word), "space", seed=0)
    report = judge.highlights()
    assert (report["hit_rate"], report["support"]) == (None, 0)
    assert judge.opinions() is None


def test_evaluate_writes_the_report_beside_the_baseline(
    bundle_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [row for row in read_labels("sample").table.to_pylist() if row["review_id"].startswith("s")][::12]
    source = tmp_path / "labels.parquet"
    storage.write_parquet(str(source), pa.Table.from_pylist(lines, LABELED))
    report = evaluate.run(
        evaluate.Config(bundle=bundle_folder, labels=str(source), output=str(tmp_path / "out"), device="cpu")
    )
    assert storage.read_json(str(tmp_path / "out" / "report.json")) == report
    tested = sum(row["split"] == "test" for row in lines)
    assert report["reviews"] == tested == report["keywords"]["per_keyword"]["만족도"]["support"]
    assert report["baseline"] is not None
    assert report["baseline"]["tuples"]["micro"]["f1"] > 0
    _assert_same_counts(report, storage.read_parquet(str(tmp_path / "out" / "predictions.parquet")))
    printed = capsys.readouterr().out
    assert "| highlight hit rate |" in printed
    text, _, summary = printed.rpartition("\n\n")
    assert text.strip() == (tmp_path / "out" / "report.md").read_text(encoding="utf-8").strip()
    assert f"in {tmp_path}/out: tuples F1 {report['tuples']['micro']['f1']:.3f}" in summary
    assert f"-m jobs.analyze --input YOUR_REVIEWS.parquet --bundle {bundle_folder}" in summary


def _assert_same_counts(report: EvaluationReport, predicted: pa.Table) -> None:
    """The predictions lead to the report's own counts at the report's own thresholds."""
    assert predicted.column_names == ["review_id", "keyword_probabilities", "keywords"]
    for k, (name, threshold) in enumerate(report["thresholds"].items()):
        found = [np.float32(row[k]) >= np.float32(threshold) for row in predicted["keyword_probabilities"].to_pylist()]
        right = sum(f and name in labels for f, labels in zip(found, predicted["keywords"].to_pylist(), strict=True))
        row = report["keywords"]["per_keyword"][name]
        assert row["precision"] == round(right / max(1, sum(found)), 4)
        assert row["recall"] == round(right / max(1, row["support"]), 4)


def test_labels_of_another_taxonomy_are_refused_by_row(bundle_folder: str, tmp_path: Path) -> None:
    source = tmp_path / "labels.csv"
    source.write_text("text,Completion\n좋아요,맛 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"labels.csv row 2: .*'맛'"):
        evaluate.run(evaluate.Config(bundle=bundle_folder, labels=str(source), output=str(tmp_path / "out")))
