"""The audit step without Ray: from labels to suspects, to decisions, to a new version, to a comparison."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ray_app import sample, storage
from ray_app.audit import apply, audit, compare, measure
from ray_app.audit.suspects import KINDS, SUSPECTS
from ray_app.errors import UserError
from ray_app.labels import completions, reader
from ray_app.labels.reader import SPLITS

ROWS = 700


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


def reviews() -> list[dict[str, Any]]:
    train = [row for row in sample.written_reviews() if row["split"] == "train"][:ROWS]
    test = [row for row in sample.written_reviews() if row["split"] == "test"]
    return [json.loads(json.dumps(row)) for row in (*train, *test)]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An audit's folder, and its labels: one review lost a label that a rule asks for, one got a wrong score."""
    folder = tmp_path_factory.mktemp("audit")
    rows = reviews()
    seams = next(row for row in rows if row["split"] == "train" and "실밥" in row["text"])
    seams["labels"] = [label for label in seams["labels"] if label["keyword"] != "마감처리"]
    seams["review_id"] = "seams"
    broken = next(row for row in rows if row["split"] == "test" and "실밥" in row["text"])
    broken["labels"] = [label for label in broken["labels"] if label["keyword"] != "마감처리"]
    path = write(folder / "labels.jsonl", rows)
    audit.run(audit.Config(labels=path, output=str(folder / "out"), fast=True, folds=2, queue=30))
    return folder / "out", path


def test_suspects_are_sorted_and_of_rows_that_are_not_test_rows(audited: tuple[Path, str]) -> None:
    folder, path = audited
    table = storage.read_parquet(str(folder / "suspects.parquet"))
    assert table.schema.equals(SUSPECTS)
    rows = table.to_pylist()
    assert {row["kind"] for row in rows} <= set(KINDS)
    assert [row["confidence"] for row in rows] == sorted((row["confidence"] for row in rows), reverse=True)
    tested = set(reader.read_labels(path).split("test")["review_id"].to_pylist())
    assert not tested & {row["review_id"] for row in rows}
    for row in rows:
        assert (row["given"] is None) <= (row["kind"] in ("missing", "rule"))
        assert (row["suggested"] is None) == (row["kind"] == "extra")
        assert (row["evidence"] or row["text"]) in row["text"]


def test_a_broken_rule_is_reported_with_its_word_and_how_often_it_is_followed(audited: tuple[Path, str]) -> None:
    rows = storage.read_parquet(str(audited[0] / "suspects.parquet")).to_pylist()
    (row,) = (
        row for row in rows if row["kind"] == "rule" and row["review_id"] == "seams" and row["keyword"] == "마감처리"
    )
    assert "실밥" in row["evidence"]
    assert row["reason"].startswith("rule 실밥 -> 마감처리, and it says 「")
    assert 0.5 < row["confidence"] < 1
    assert row["suggested"] == "마감처리"


def test_the_report_has_keywords_rules_pairs_and_support(audited: tuple[Path, str]) -> None:
    text = (audited[0] / "report.md").read_text(encoding="utf-8")
    for heading in (
        "## Keywords",
        "## Support",
        "## Worst rows",
        "## Guideline",
        "## Confusable keywords",
        "### 실밥 -&gt; 마감처리",
    ):
        assert heading in text
    assert f"{ROWS} reviews" in text
    assert "200 test reviews were left alone" in text
    assert "Benjamini-Hochberg" in text
    assert "percentile bootstrap" in text


def test_the_queue_holds_the_likeliest_with_labels_as_given(audited: tuple[Path, str]) -> None:
    folder, path = audited
    suspects = storage.read_parquet(str(folder / "suspects.parquet"))["review_id"].to_pylist()
    with (folder / "queue" / "csv" / "reviews.csv").open(encoding="utf-8-sig") as file:
        queued = list(csv.DictReader(file))
    assert [row["review_id"] for row in queued] == list(dict.fromkeys(suspects))[:30]
    given = {row["review_id"]: row["labels"] for row in reader.read_labels(path).table.to_pylist()}
    for row in queued:
        expected = [(label["keyword"], label["score"]) for label in given[row["review_id"]]]
        assert [
            (each["keyword"], each["score"]) for each in completions.parse_completion(row["Model"]) or ()
        ] == expected
    assert {each.name for each in (folder / "queue").iterdir()} == {"label-studio", "prodigy", "doccano", "csv"}


def test_the_sheet_has_one_line_per_label_and_apply_takes_it(audited: tuple[Path, str], tmp_path: Path) -> None:
    folder, path = audited
    with (folder / "decisions.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["review_id"], row["keyword"]) for row in rows}) == len(rows)
    assert not any(row["action"] for row in rows)
    assert all(row["score"] for row in rows if "score" in row["kind"].split("+"))
    seams = next(row for row in rows if (row["review_id"], row["keyword"]) == ("seams", "마감처리"))
    seams |= {"action": "fix", "score": "-1", "who": "kim"}
    with (tmp_path / "decided.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    config = apply.ApplyConfig(labels=path, decisions=str(tmp_path / "decided.csv"), output=str(tmp_path / "new"))
    assert apply.apply(config)["added"] == 1
    after = reader.read_labels(str(tmp_path / "new" / "labels.parquet"))
    fixed = next(row for row in after.table.to_pylist() if row["review_id"] == "seams")
    assert ("마감처리", -1) in [(label["keyword"], label["score"]) for label in fixed["labels"]]
    assert len(after.table) == len(reader.read_labels(path).table)
    assert after.split("test").equals(reader.read_labels(path).split("test"))
    assert storage.read_parquet(str(tmp_path / "new" / "history.parquet"))["review_id"].to_pylist() == ["seams"]


def test_an_audit_is_never_overwritten(audited: tuple[Path, str]) -> None:
    with pytest.raises(UserError, match="holds an audit already"):
        audit.run(audit.Config(labels=audited[1], output=str(audited[0]), fast=True))


def test_an_audit_that_was_killed_while_it_wrote_is_completed(audited: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "out" / "queue" / "csv").mkdir(parents=True)
    (tmp_path / "out" / "queue" / "csv" / "reviews.csv").write_text("half a li")
    audit.run(audit.Config(labels=audited[1], output=str(tmp_path / "out"), fast=True, folds=2, formats=("csv",)))
    assert "seams" in (tmp_path / "out" / "queue" / "csv" / "reviews.csv").read_text(encoding="utf-8-sig")


def test_an_unknown_format_is_refused_before_anything_is_trained(audited: tuple[Path, str], tmp_path: Path) -> None:
    config = audit.Config(labels=audited[1], output=str(tmp_path / "out"), formats=("csv", "labelstudio"))
    with pytest.raises(UserError, match="--formats labelstudio: no such format; did you mean 'label-studio'"):
        audit.run(config)


def test_labels_without_a_fault_leave_no_queue_but_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"review_id": str(i), "text": f"배송 빨라요 {i * 7919}", "labels": [{"keyword": "만족도", "score": 1}]}
        for i in range(20)
    ]
    path = write(tmp_path / "labels.jsonl", rows)
    counts = audit.run(audit.Config(labels=path, output=str(tmp_path / "out"), fast=True, folds=2))
    assert counts == dict.fromkeys(KINDS, 0)
    command = f"-m jobs.audit apply --labels {path} --decisions {tmp_path}/out/decisions.csv --taxonomy default"
    assert capsys.readouterr().out.splitlines()[-1].endswith(command)
    assert "0 suspects" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "queue").exists()


def test_test_rows_alone_are_nothing_to_audit(tmp_path: Path) -> None:
    rows = [row for row in sample.written_reviews() if row["split"] == "test"]
    config = audit.Config(labels=write(tmp_path / "labels.jsonl", rows), output=str(tmp_path / "out"), fast=True)
    with pytest.raises(UserError, match="only test rows"):
        audit.run(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"folds": 1}, "--folds 1"), ({"queue": 0}, "--queue 0"), ({"cpus_per_fold": 0.0}, "--cpus-per-fold 0")],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        audit.Config(**options)


def test_planted_errors_are_found_better_than_by_chance(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.jsonl", reviews())
    config = measure.MeasureConfig(labels=path, output=str(tmp_path / "out"), fast=True, folds=3, share=0.06)
    storage.write_bytes(str(tmp_path / "out" / "folds" / "of-an-audit.npz"), b"")  # that was interrupted
    report = measure.measure(config)
    assert [path.name for path in (tmp_path / "out").rglob("*.npz")] == ["of-an-audit.npz"]
    keywords, scores = report["keywords"], report["scores"]
    assert keywords["recall"] is not None
    assert keywords["recall"] > 0.4
    assert keywords["factor"] is not None
    assert keywords["factor"] > 5
    assert scores["recall"] is not None
    assert scores["recall"] > 2 * scores["chance"]
    assert sum(row["keywords"]["planted"] for row in report["per_keyword"].values()) == report["keywords"]["planted"]
    assert "| 만족도 | 0 |" in (tmp_path / "out" / "measure.md").read_text(encoding="utf-8")


def test_compare_shows_what_better_labels_are_worth_on_the_same_test_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = reviews()
    after = write(tmp_path / "after.jsonl", rows)
    for row in rows:
        if row["split"] == "train":
            row["labels"] = [label for label in row["labels"] if label["keyword"] != "배송"] or row["labels"]
    before = write(tmp_path / "before.jsonl", rows)
    report = compare.compare(compare.CompareConfig(before=before, after=after, output=str(tmp_path / "out")))
    assert report["before"]
    assert report["after"]
    old, new = (each["keywords"]["per_keyword"]["배송"] for each in (report["before"], report["after"]))
    assert old["f1"] == 0 < new["f1"]
    assert old["support"] == new["support"] > 0
    assert old["support_train"] == 0 < new["support_train"]
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].endswith(f"-m jobs.train --labels {after} --taxonomy default")
    line = next(line for line in printed.splitlines() if line.startswith("| 배송 |"))
    assert line.count("|") == 14
    assert (tmp_path / "out" / "compare.md").exists()


@pytest.mark.parametrize(("change", "message"), [("labels", "was changed"), ("split", "of one table only")])
def test_versions_with_other_test_rows_are_not_compared(tmp_path: Path, change: str, message: str) -> None:
    rows = reviews()
    before = write(tmp_path / "before.jsonl", rows)
    tested = next(row for row in rows if row["split"] == "test")
    tested |= {"labels": [{"keyword": "만족도", "score": -2}]} if change == "labels" else {"split": SPLITS[0]}
    after = write(tmp_path / "after.jsonl", rows)
    with pytest.raises(UserError, match=message):
        compare.compare(compare.CompareConfig(before=before, after=after))
