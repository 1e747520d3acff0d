"""docs/labelling.md from top to bottom, as written, on tiny data: only sizes and the base model are others.

Once with English names and the formats that the page has, once with Korean names and workbooks alone.
"""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_app import sample, storage
from ray_app.data.taxonomy import load
from ray_app.labels import workbook
from ray_app.labels.reader import read_labels
from tests.support.bundles import encoder, hf_tokenizer, make_bundle
from tests.support.documents import commands, configured, job_call

openpyxl = pytest.importorskip("openpyxl")
SMALLER = {  # what is added to a command, by its first words, to make it quick
    "analyze": "--placement here --device cpu --highlights off",
    "acquire simulate": "--start 20 --batch 10 --rounds 1 --seeds 1 --no-plot",
    "acquire": "--budget 20",
    "audit": "--folds 2",
    "audit measure": "--folds 2",
    "train": "--base-model base --workers 0 --epochs 1 --batch-size 16 --device cpu",
    "evaluate": "--device cpu --no-highlights",
    "evaluate pairs": "--device cpu",
    "pretrain": "--layers 1 --hidden 32 --intermediate 32 --vocabulary 600 --epochs 1",
}
KOREAN = {"review_id": "리뷰번호", "text": "리뷰내용", "mall": "쇼핑몰", "category": "카테고리"}
IN_EXCEL = {  # what the page has -> what a team has that labels in Excel
    "labels.parquet": "labels.xlsx",
    "runs/audit/decisions.csv": "runs/audit/decisions.xlsx",
}
BY_HAND = ("acquire merge", "audit apply")  # before these a person answers


def written_down() -> list[list[str]]:
    """Every job of the page with its arguments, in order."""
    calls = [job_call(command) for page, command in commands() if page == "labelling.md"]
    return [call for call in calls if call and len(call) > 2]


def prepare(folder: Path, names: Mapping[str, str]) -> None:
    """What the page takes as given: reviews, labels, a bundle; and a base model of two layers.

    `names` are the reviews' own names of their columns.
    """
    rows = [row for row in sample.written_reviews() if row["split"] == "train"][:240]
    tested = [row for row in sample.written_reviews() if row["split"] == "test"][:40]
    (folder / "labels.jsonl").write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in (*rows[:160], *tested)), encoding="utf-8"
    )
    storage.write_parquet(str(folder / "labels.parquet"), read_labels(str(folder / "labels.jsonl")).table)
    reviews = [
        {"review_id": f"r{i}", "text": row["text"], "mall": "가나"[i % 2], "category": "ab"[i % 3 % 2]}
        for i, row in enumerate(rows[160:])
    ]
    table = pa.Table.from_pylist(reviews)
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    storage.write_parquet(str(folder / "reviews" / "a.parquet"), table)
    pair = {"text_origin": "배송이 빨라요", "score_origin": 1, "text": "배송이 느려요", "score": -1}
    storage.write_parquet(str(folder / "pairs.parquet"), pa.Table.from_pylist([pair]))
    make_bundle(folder / "runs" / "bundle")
    encoder("bert").save_pretrained(folder / "base")
    hf_tokenizer("bert").save_pretrained(folder / "base")


def write_labels_sheet(folder: Path) -> None:
    """The same labels as a team keeps them in Excel: a column per keyword, under Korean names."""
    taxonomy = load()
    columns = [workbook.Column(name=name) for name in ("리뷰번호", "리뷰내용", "데이터구분", *taxonomy.names)]
    rows = []
    for row in read_labels(str(folder / "labels.parquet")).table.to_pylist():
        scores = {label["keyword"]: str(label["score"]) for label in row["labels"]}
        rows.append([row["review_id"], row["text"], row["split"], *(scores.get(name, "") for name in taxonomy.names)])
    (folder / "labels.xlsx").write_bytes(workbook.to_xlsx(columns, rows, "labels"))
    (folder / "labels.parquet").unlink()


def fill_in(path: Path, values: Callable[[int], Mapping[str, object]]) -> None:
    """A person types into a workbook: column -> value of every row, counted from 0."""
    book = openpyxl.load_workbook(path)
    sheet = book.active
    header = [cell.value for cell in sheet[1]]
    for row in range(2, sheet.max_row + 1):
        for name, value in values(row - 2).items():
            sheet.cell(row, header.index(name) + 1).value = value
    book.save(path)


def answer_in_excel(folder: Path) -> None:
    """A labeler chooses scores in the drop-downs of the batch's workbook."""
    (folder / "answers").mkdir()
    path = folder / "answers/jiwoo.xlsx"
    shutil.copy(folder / "runs/batch/xlsx/reviews.xlsx", path)
    fill_in(path, lambda row: {"만족도": 1, "배송": -1})


def decide_in_excel(folder: Path) -> None:
    """Somebody looks at the suspects: the first label is dropped, the others are kept."""
    fill_in(folder / "runs/audit/decisions.xlsx", lambda row: {"action": "keep" if row else "drop"})


def answer(folder: Path) -> None:
    """A labeler fills in the spreadsheet of the batch."""
    header, *rows = csv.reader((folder / "runs/batch/csv/reviews.csv").read_text(encoding="utf-8-sig").splitlines())
    at = header.index("Completion")
    filled = [[*row[:at], "만족도 1, 배송 -1", *row[at + 1 :]] for row in rows]
    (folder / "answers").mkdir()
    with (folder / "answers" / "jiwoo.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *filled])


def decide(folder: Path) -> None:
    """Somebody looks at the suspects: the first label is dropped, the others are kept."""
    path = folder / "runs/audit/decisions.csv"
    header, *rows = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
    at = header.index("action")
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [header, *([*row[:at], "keep" if i else "drop", *row[at + 1 :]] for i, row in enumerate(rows))]
        )


@pytest.mark.parametrize("names", [{}, KOREAN], ids=["english", "korean in excel"])
def test_the_loop_runs_as_written(
    names: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, names)
    if names:
        write_labels_sheet(tmp_path)
    people = (answer_in_excel, decide_in_excel) if names else (answer, decide)
    results: dict[str, Any] = {}
    for job, *arguments in written_down():
        if names and job == "pretrain":  # it reads columns by `--columns`, see docs/data.md
            arguments += ["--columns", f"text={names['text']}"]
        verb = f"{job} {arguments[0]}" if not arguments[0].startswith("-") else job
        if verb in BY_HAND:
            dict(zip(BY_HAND, people, strict=True))[verb](tmp_path)
        if names:
            arguments = [IN_EXCEL.get(word, word) for word in arguments]
            arguments += ["--formats", "xlsx"] if verb in ("acquire", "audit") else []
        run, config = configured(job, [*arguments, *SMALLER.get(verb, "").split()], monkeypatch)
        results[verb] = run(config)
    shown = capsys.readouterr().out
    assert len(read_labels("runs/labels-2/labels.parquet").table) == 200 + 20
    assert results["acquire merge"]["new"] == 20
    assert results["evaluate"]["reviews"] == 40
    assert (tmp_path / "runs/encoder/model.safetensors").exists()
    assert "runs/evaluation-3" in shown
