"""jobs.evaluate: honest about what the bundle knows, and a report without the baseline where it cannot be fitted."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_app import storage
from ray_app.errors import UserError
from ray_app.evaluation import evaluate
from ray_app.evaluation.metrics import keyword_report
from ray_app.inference import known_texts
from tests.support.families import save_family, train_family
from tests.support.full_disk import full_disk


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_family(save_family("bert", folder / "base"), folder / "bundle", test=0.25)
    return folder


def run(folder: Path, labels: str, output: Path, **options: Any) -> Any:
    given: dict[str, Any] = {"highlights": False, "device": "cpu", **options}
    return evaluate.run(evaluate.Config(bundle=str(folder / "bundle"), labels=labels, output=str(output), **given))


def test_training_labels_judge_nothing(trained: Path, tmp_path: Path) -> None:
    split = storage.read_parquet(str(trained / "bundle.training" / "labels.parquet"))
    rest = split.filter(np.array([name != "test" for name in split["split"].to_pylist()]))
    storage.write_parquet(str(tmp_path / "rest.parquet"), rest.drop_columns(["split"]))
    with pytest.raises(UserError, match=f"trained or tuned on every one of its {len(rest)} reviews.*--test 0.2"):
        run(trained, str(tmp_path / "rest.parquet"), tmp_path / "out")


def test_what_was_trained_on_is_left_out_and_counted(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = storage.read_parquet(str(trained / "bundle.training" / "labels.parquet")).to_pylist()
    tested = sum(row["split"] == "test" for row in rows)
    lines = [json.dumps({**row, "split": None, "text": f" {row['text']}!"}, ensure_ascii=False) for row in rows]
    (tmp_path / "all.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        report = run(trained, str(tmp_path / "all.jsonl"), tmp_path / "out")
    assert (report["reviews"], report["left_out"]) == (tested, len(rows) - tested)
    assert f"{len(rows) - tested} of {len(rows)} reviews left out" in caplog.text
    assert f"{len(rows) - tested} more were left out" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_report_without_a_baseline_says_why(trained: Path, tmp_path: Path) -> None:
    rows = storage.read_parquet(str(trained / "bundle.training" / "labels.parquet")).to_pylist()
    few = [row for row in rows if row["split"] == "test"][:3]
    learned = [{**few[0], "review_id": f"n{i}", "text": text, "split": "train"} for i, text in enumerate("가나")]
    lines = [json.dumps(row, ensure_ascii=False) for row in [*few, *learned]]
    (tmp_path / "few.jsonl").write_text("\n".join(lines), encoding="utf-8")
    report = run(trained, str(tmp_path / "few.jsonl"), tmp_path / "out")
    assert report["baseline"] is None
    assert "the baseline cannot learn from" in report["no_baseline"]
    assert "No baseline: the baseline cannot" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_full_disk_leaves_no_report_that_counts(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = str(trained / "bundle.training" / "labels.parquet")
    for room in (0, 8_000):
        with monkeypatch.context() as full:
            full_disk(full, room)
            with pytest.raises(UserError, match="no space left on the disk"):
                run(trained, labels, tmp_path / "out")
        assert not (tmp_path / "out" / "report.json").exists()


def test_a_text_is_known_in_any_of_its_forms(tmp_path: Path) -> None:
    known_texts.write(["옷이 좋아요", "Fits Well!", "★"], tmp_path)
    asked = ["옷이  좋아요~", "fits well", "★", "옷이 나빠요", "☆"]
    found = known_texts.known(asked, tmp_path)
    assert found is not None
    assert found.tolist() == [True, True, True, False, False]
    assert known_texts.known(asked, tmp_path / "elsewhere") is None


def test_a_bundle_knows_what_the_one_it_began_as_knew(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    for folder in (first, second, third):
        folder.mkdir()
    known_texts.write(["처음 것"], first)
    known_texts.write(["다음 것"], second, first)
    known = known_texts.known(["처음 것", "다음 것", "새것"], second)
    assert known is not None
    assert known.tolist() == [True, True, False]
    known_texts.write(["다음 것"], third, tmp_path)  # that does not say: neither can this
    assert known_texts.known(["다음 것"], third) is None


def test_few_labels_have_an_interval() -> None:
    rng = np.random.default_rng(0)
    true = np.column_stack([rng.random(200) < 0.5, rng.random(200) < 0.05])
    predicted = true ^ (rng.random(true.shape) < 0.1)
    rows = keyword_report(true, predicted, ["배송", "마감처리"], {})["per_keyword"]
    assert "f1_interval" not in rows["배송"]
    low, high = rows["마감처리"]["f1_interval"]
    assert 0 <= low < rows["마감처리"]["f1"] < high <= 1
    assert high - low > 0.1
