"""Labels that would train something wrong in silence are refused or told."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.errors import UserError
from ray_app.labels import reader
from ray_app.labels.hold_out import training_split


def written(folder: Path, *rows: dict[str, Any]) -> str:
    lines = [
        json.dumps({"review_id": str(i), "text": f"굿 {i}", **row}, ensure_ascii=False) for i, row in enumerate(rows)
    ]
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "a.jsonl")


def label(keyword: object, score: object = 1) -> dict[str, Any]:
    return {"labels": [{"keyword": keyword, "score": score}]}


@pytest.mark.parametrize("review_id", [True, False, [1], {"a": 1}])
def test_an_id_is_a_text_or_a_number(tmp_path: Path, review_id: object) -> None:
    with pytest.raises(UserError, match=r"row 2: review_id .* is no id"):
        reader.read_labels(written(tmp_path, label("배송"), label("배송") | {"review_id": review_id}))


@pytest.mark.parametrize("keyword", ["", "  ", "\u200b", "\n"])
@pytest.mark.parametrize("taxonomy", ["default", "labels"])
def test_a_blank_keyword_is_a_bad_row(tmp_path: Path, keyword: str, taxonomy: str) -> None:
    uri = written(tmp_path, label("배송"), label("핏", 0), label(keyword, 0))
    with pytest.raises(UserError, match="row 3: a label without a keyword"):
        reader.read_labels(uri, taxonomy)


def test_what_copying_leaves_around_a_keyword_is_dropped(tmp_path: Path) -> None:
    uri = written(tmp_path, label("\ufeff배송\u200b"), label("배송", 0))
    assert reader.read_labels(uri, "labels").taxonomy.names == ("배송",)


@pytest.mark.parametrize("name", ["", " ", "배\n송", "배송\u2028빠름"])
def test_a_taxonomy_has_names_of_one_line(name: str) -> None:
    with pytest.raises(UserError, match="is no name for a keyword; write a word or a few"):
        Taxonomy(name="t", keywords=(Keyword(name=name),))


def test_labels_that_contradict_one_another_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [label("배송", score) | {"text": "배송이 그래요"} for score in (1, 1, -1)]
    with caplog.at_level(logging.WARNING):
        assert len(reader.read_labels(written(tmp_path, *rows)).table) == 3
    assert "1 reviews have the text of another one and other labels, such as 0 and 2" in caplog.text


def test_no_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, label("배송"))
    with pytest.raises(UserError, match="no labels are named; name a file or folder"):
        reader.read_labels("")


def test_too_few_training_rows_are_counted(tmp_path: Path) -> None:
    labels = reader.read_labels(written(tmp_path, label("배송"), label("핏") | {"split": "test"}))
    with pytest.raises(UserError, match="a: only 1 training row, 1 of test or validation; two at least are needed"):
        training_split(labels, "a")
