"""docs/labelling.md from top to bottom, as written, on tiny data: only sizes and the base model are others."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_app import sample, storage
from ray_app.labels.reader import read_labels
from tests.support.bundles import encoder, hf_tokenizer, make_bundle
from tests.support.documents import commands, configured, job_call

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


@pytest.mark.parametrize("names", [{}, KOREAN], ids=["english", "korean"])
def test_the_loop_runs_as_written(
    names: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, names)
    results: dict[str, Any] = {}
    for job, *arguments in written_down():
        if names and job == "pretrain":  # it reads columns by `--columns`, see docs/data.md
            arguments += ["--columns", f"text={names['text']}"]
        verb = f"{job} {arguments[0]}" if not arguments[0].startswith("-") else job
        if verb in BY_HAND:
            {"acquire merge": answer, "audit apply": decide}[verb](tmp_path)
        run, config = configured(job, [*arguments, *SMALLER.get(verb, "").split()], monkeypatch)
        results[verb] = run(config)
    shown = capsys.readouterr().out
    assert len(read_labels("runs/labels-2/labels.parquet").table) == 200 + 20
    assert results["acquire merge"]["new"] == 20
    assert results["evaluate"]["reviews"] == 40
    assert (tmp_path / "runs/encoder/model.safetensors").exists()
    assert "runs/evaluation-3" in shown
