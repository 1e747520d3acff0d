"""decisions: what people decided becomes a new version, and what cannot be done is named with its file and row."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.data.taxonomy import load
from ray_app.errors import UserError
from ray_app.labels import decisions, spreadsheet, versions
from ray_app.labels.versions import CURRENT, HISTORY, LabelVersion

TAXONOMY = load()
NOW = datetime(2026, 11, 22, tzinfo=UTC)
HEADER = ("review_id", "text", "keyword", "kind", "action", "score", "who", "when")


def labeled(*pairs: tuple[str, int]) -> list[dict[str, Any]]:
    return [
        {"keyword": keyword, "score": score, "highlights": ["굿"], "opinions": ["좋아요"]} for keyword, score in pairs
    ]


def version() -> LabelVersion:
    rows = [
        {
            "review_id": "1",
            "text": "배송 굿",
            "labels": labeled(("배송", 1), ("핏", 0)),
            "split": "train",
            "round": "1",
        },
        {"review_id": "2", "text": "핏 굿", "labels": labeled(("핏", 2)), "split": None},
        {"review_id": "3", "text": "굿", "labels": labeled(("만족도", 2)), "split": "test"},
    ]
    return LabelVersion(pa.Table.from_pylist(rows, schema=CURRENT), HISTORY.empty_table())


def sheet(path: Path, *rows: tuple[str, str, str, str]) -> str:
    """review_id, keyword, action, score of each decision."""
    cells = [
        (i, "글", keyword, "score", action, score, "park", "2026-11-20 10:00") for i, keyword, action, score in rows
    ]
    storage.write_bytes(str(path), spreadsheet.to_csv(HEADER, cells))
    return str(path)


def applied(tmp_path: Path, *rows: tuple[str, str, str, str]) -> decisions.Applied:
    made, _ = decisions.read(sheet(tmp_path / "a.csv", *rows), TAXONOMY)
    return decisions.apply(version(), made, NOW, TAXONOMY)


def scores(found: decisions.Applied) -> dict[str, dict[str, int]]:
    return {i: {each["keyword"]: each["score"] for each in row["labels"]} for i, row in found.version.rows().items()}


def test_decisions_change_the_labels_they_name_and_the_rows_before_are_kept(tmp_path: Path) -> None:
    found = applied(
        tmp_path,
        ("1", "배송", "fix", "-1"),
        ("1", "핏", "DROP", ""),
        ("1", "가격", "fix", "2.0"),
        ("2", "", "drop", ""),
        ("3", "만족도", "keep", ""),
    )
    assert scores(found) == {"1": {"배송": -1, "가격": 2}, "3": {"만족도": 2}}
    assert found.counts == {"kept": 1, "fixed": 1, "added": 1, "dropped": 1, "removed": 1}
    row = found.version.rows()["1"]
    assert [each["highlights"] for each in row["labels"]] == [["굿"], None]
    assert [each["opinions"] for each in row["labels"]] == [None, None], "words for +1 do not say why it is -1"
    assert (row["split"], row["round"], row["labeller"]) == ("train", "audit", "park")
    assert row["labelled_at"] == datetime(2026, 11, 20, 10, tzinfo=UTC)
    past = {row["review_id"]: row for row in found.version.history.to_pylist()}
    assert past["1"]["labels"] == labeled(("배송", 1), ("핏", 0))
    assert past["1"]["replaced_by"] == "audit: fix 배송 -1 by park; drop 핏 by park; fix 가격 2 by park"
    assert (past["2"]["replaced_by"], past["2"]["replaced_at"]) == ("audit: drop by park", NOW)


def test_keeping_changes_nothing(tmp_path: Path) -> None:
    found = applied(tmp_path, ("1", "배송", "keep", ""), ("3", "배송", "keep", ""))
    assert found.version.labels.equals(version().labels)
    assert (len(found.version.history), found.counts["kept"]) == (0, 2)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("9", "배송", "keep", "")], "row 2: review_id '9' is not in the labels"),
        ([("", "배송", "keep", "")], "row 2: null review_id"),
        ([("1", "배숑", "drop", "")], "row 2: unknown keyword '배숑'; did you mean '배송'?"),
        ([("1", "배송", "delete", "")], "row 2: action 'delete' is none of keep, fix, drop"),
        ([("1", "", "fix", "1")], "row 2: fix needs a keyword; only drop goes without one"),
        ([("1", "배송", "fix", "")], "row 2: 배송: fix needs a score of -2, -1, 0, 1, 2"),
        ([("1", "배송", "fix", "3")], "row 2: 배송: score '3' is out of range"),
        ([("2", "배송", "drop", "")], "row 2: review '2' has no label 배송 to drop"),
        ([("2", "핏", "drop", "")], "row 2: review '2' would have no label left; drop it without a keyword"),
        ([("3", "만족도", "fix", "1")], "row 2: review '3' is a test row, which an audit never changes"),
        ([("3", "", "drop", "")], "row 2: review '3' is a test row"),
        ([("1", "배송", "keep", ""), ("1", "배송", "drop", "")], "row 3: {uri} row 2 decides about 배송 already"),
        ([("1", "배송", "keep", ""), ("1", "", "drop", "")], "row 3: {uri} row 2 decides about this review already"),
        ([("1", "", "drop", ""), ("1", "배송", "keep", "")], "row 3: {uri} row 2 decides about 배송 already"),
    ],
)
def test_what_cannot_be_done_is_named_and_nothing_is_written(
    tmp_path: Path, rows: Sequence[tuple[str, str, str, str]], words: str
) -> None:
    uri = sheet(tmp_path / "a.csv", *rows)
    storage.write_parquet(f"{tmp_path}/labels.parquet", version().labels)
    with pytest.raises(UserError) as caught:
        decisions.run(f"{tmp_path}/labels.parquet", uri, f"{tmp_path}/v2", TAXONOMY)
    assert str(caught.value).startswith(f"{uri} {words.format(uri=uri)}")
    assert "\n" not in str(caught.value)
    assert not storage.exists(f"{tmp_path}/v2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("review_id,keyword\n1,배송", "a.csv: no column 'action'"),
        ("", "a.csv: empty"),
        ("review_id,keyword,action,when\n1,배송,keep,어제", "a.csv row 2: '어제' is not a time"),
    ],
)
def test_a_file_that_holds_no_decisions_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="cp949")
    with pytest.raises(UserError, match=words):
        decisions.read(str(tmp_path / "a.csv"), TAXONOMY)


def test_every_format_of_decisions_is_read_and_what_is_open_is_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"review_id": "1", "keyword": "배송", "action": "fix", "score": -1, "who": "park", "when": NOW},
        {"review_id": "1", "keyword": "핏", "action": None, "score": None, "who": None, "when": None},
    ]
    storage.write_parquet(f"{tmp_path}/a.parquet", pa.Table.from_pylist(rows))
    lines = [json.dumps(row, default=str, ensure_ascii=False) for row in rows]
    Path(tmp_path, "b.jsonl").write_text("\n".join(lines), encoding="utf-8")
    Path(tmp_path, "c.tsv").write_text(
        f"Review_ID\tkeyword\tAction\tscore\twho\twhen\n1\t배송\tfix\t-1\tpark\t{NOW}\n1\t핏\t\t\t\t\n",
        encoding="cp949",
    )
    for name in ("a.parquet", "b.jsonl", "c.tsv"):
        found, undecided = decisions.read(f"{tmp_path}/{name}", TAXONOMY)
        (decision,) = found.to_pylist()
        assert undecided == 1
        assert {key: decision[key] for key in rows[0]} == rows[0]
        assert decision["place"].startswith(f"{tmp_path}/{name} row ")


def test_a_version_of_an_audit_holds_labels_history_and_decisions(tmp_path: Path) -> None:
    storage.write_parquet(f"{tmp_path}/v1/labels.parquet", version().labels)
    first = sheet(tmp_path / "a.csv", ("1", "배송", "fix", "2"))
    applied = decisions.run(f"{tmp_path}/v1/labels.parquet", first, f"{tmp_path}/v2", TAXONOMY)
    assert (applied["fixed"], applied["undecided"]) == (1, 0)
    second = sheet(tmp_path / "b.csv", ("1", "배송", "fix", "-2"))
    applied = decisions.run(str(applied["labels"]), second, f"{tmp_path}/v3", TAXONOMY)
    found = versions.load(str(applied["labels"]), TAXONOMY)
    assert [row["labels"][0]["score"] for row in found.history.to_pylist()] == [1, 2]
    assert found.rows()["1"]["labels"][0]["score"] == -2
    assert storage.read_parquet(f"{tmp_path}/v3/decisions.parquet")["score"].to_pylist() == [-2]
    with pytest.raises(UserError, match="v3 holds something already"):
        decisions.run(str(applied["labels"]), second, f"{tmp_path}/v3", TAXONOMY)


def test_an_id_is_taken_as_it_is_written_before_it_is_taken_as_a_number(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"review_id": name, "text": "굿", "labels": labeled(("핏", 1), ("만족도", 1))} for name in ("1.0", "1", "2")
    ]
    version = LabelVersion(pa.Table.from_pylist(rows, schema=CURRENT), HISTORY.empty_table())
    lines = [json.dumps({"review_id": name, "keyword": "핏", "action": "drop"}) for name in ("1.0", "2.0")]
    (tmp_path / "d.jsonl").write_text("\n".join(lines), encoding="utf-8")
    decided, _ = decisions.read(str(tmp_path / "d.jsonl"), TAXONOMY)
    after = decisions.apply(version, decided, NOW, TAXONOMY).version.rows()
    assert {name: len(row["labels"]) for name, row in after.items()} == {"1.0": 1, "1": 2, "2": 1}


def test_an_id_that_is_a_float_is_written_as_catalogs_write_it(tmp_path: Path) -> None:
    labels = [[{"keyword": "만족도", "score": 1}]]
    storage.write_parquet(
        str(tmp_path / "a.parquet"), pa.table({"review_id": [12.0], "text": ["굿"], "labels": labels})
    )
    assert [*versions.load(str(tmp_path / "a.parquet"), TAXONOMY).rows()] == ["12"]
