"""dataset: every format gives the same rows, and every bad row is named with its file and row."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.data.taxonomy import load
from ray_app.errors import UserError
from ray_app.lm import dataset, templates

INTERVIEW, REVIEW = templates.load("interview"), templates.load("review")
GOOD = [
    {"question": "강점은요?", "experience": "신입", "occupation": "디자인", "answer": '음, "끈기"요', "split": "train"},
    {"question": "약점은요?", "experience": "경력", "occupation": "ICT", "answer": "어,\n조급함이요", "split": "test"},
]
KOREAN = {"question": "질문", "experience": "경력", "occupation": "직업", "answer": "답변"}
MAPPING = ",".join(f"{field}={column}" for field, column in KOREAN.items())


def write(path: Path, rows: list[Any], encoding: str = "utf-8") -> str:
    if path.suffix == ".parquet":
        storage.write_parquet(str(path), pa.Table.from_pylist(rows))
    elif path.suffix == ".jsonl":
        lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
        path.write_text("\n".join(lines), encoding=encoding)
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        cells = [list(rows[0]), *(list(row.values()) for row in rows)]
        quoted = (mark.join('"' + str(cell).replace('"', '""') + '"' for cell in row) for row in cells)
        path.write_bytes("\r\n".join(quoted).encode(encoding))
    return str(path)


def row(**changes: Any) -> dict[str, Any]:
    return {**GOOD[0], **changes}


@pytest.mark.parametrize("korean", [False, True])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str, korean: bool) -> None:
    rows = [{KOREAN.get(name, name): value for name, value in row.items()} for row in GOOD] if korean else GOOD
    uri = write(tmp_path / f"rows{suffix}", rows, "cp949" if suffix == ".csv" else "utf-8")
    found = dataset.read(uri, INTERVIEW, columns=MAPPING if korean else "")
    first = 2 if suffix in (".csv", ".tsv") else 1
    assert list(found.rows) == [{**row, "id": f"{uri} row {i}"} for i, row in enumerate(GOOD, first)]
    assert found.split("test") == [found.rows[1]]
    assert (found.taxonomy, found.dropped) == (None, ())


def test_a_folder_is_read_whole_and_ids_and_numbers_are_kept_as_text(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [row(id=7, experience=3)])
    write(tmp_path / "b.parquet", [{**GOOD[1], "id": "x", "split": None}])
    found = dataset.read(str(tmp_path), INTERVIEW).rows
    assert [(r["id"], r["experience"], r["split"]) for r in found] == [("7", "3", "train"), ("x", "경력", None)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(answer=None), "null or empty answer"),
        (row(answer="  "), "null or empty answer"),
        (row(occupation=["ICT"]), "null or empty occupation"),
        (row(split="dev"), "unknown split 'dev'; known: train, validation, test"),
        ({k: v for k, v in GOOD[0].items() if k != "answer"}, "no column 'answer'.*name it with --columns answer="),
        ('{"question"', "not JSON"),
        ("[1]", "not a JSON object"),
    ],
)
def test_a_bad_row_is_named_and_may_be_dropped(tmp_path: Path, bad: Any, message: str) -> None:
    uri = write(tmp_path / "rows.jsonl", [GOOD[0], bad, GOOD[1]])
    with pytest.raises(UserError, match=rf"rows\.jsonl row 2: {message}"):
        dataset.read(uri, INTERVIEW)
    found = dataset.read(uri, INTERVIEW, on_bad_row="drop")
    assert [r["question"] for r in found.rows] == ["강점은요?", "약점은요?"]
    assert len(found.dropped) == 1
    assert f"{uri} row 2: " in found.dropped[0]


def test_a_csv_row_with_too_many_cells_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,experience,occupation,answer\n왜요,신입,ICT,네, 그게요\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"rows\.csv row 2: 5 cells under 4 names; quote cells"):
        dataset.read(str(path), INTERVIEW)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", "", "no rows there"),
        ("head.csv", "question,experience,occupation,answer\n", "no rows there"),
        ("rows.orc", "x", r"rows are read from \.parquet, \.jsonl"),
        ("bad.jsonl", "{}\n{}", "row 1: no column 'question'"),
    ],
)
def test_empty_and_unreadable_input_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        dataset.read(str(path), INTERVIEW)


def test_only_bad_rows_are_no_input(tmp_path: Path) -> None:
    uri = write(tmp_path / "rows.jsonl", ["{}", "{}"])
    with pytest.raises(UserError, match=r"every one of 2 rows is bad; the first: .* row 1"):
        dataset.read(uri, INTERVIEW, on_bad_row="drop")


@pytest.mark.parametrize(
    ("text", "message"), [("answr=답변", "did you mean 'answer'"), ("answer", "write question=NAME,experience=NAME")]
)
def test_a_mistake_in_columns_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataset.column_names(text, INTERVIEW)


def test_labeled_reviews_come_with_their_labels_in_the_taxonomys_order(tmp_path: Path) -> None:
    labels = [{"keyword": "디자인", "score": 1}, {"keyword": "배송", "score": -1}, {"keyword": "만족도", "score": 0}]
    uri = write(tmp_path / "labels.jsonl", [{"review_id": "r1", "text": "좋아요", "labels": labels, "split": "test"}])
    for taxonomy in ("default", load()):
        found = dataset.read(uri, REVIEW, taxonomy)
        [one] = found.rows
        assert (one["id"], one["split"], found.taxonomy) == ("r1", "test", load())
        assert REVIEW.completion(one) == " 만족도0, 배송-1, 디자인1"


def test_the_shipped_samples_are_read() -> None:
    interview = dataset.read("sample", INTERVIEW)
    assert len(interview.rows) >= 300
    assert {r["experience"] for r in interview.rows} == {"신입", "경력"}
    assert min(len(interview.split(name)) for name in ("train", "validation", "test")) > 20
    assert len(dataset.read("sample", REVIEW).split("test")) == 200
    with pytest.raises(UserError, match="no sample of 'faq'"):
        dataset.read(
            "sample", templates.Template(name="faq", reads="table", prompt_format="{q}", completion_format="{a}")
        )
