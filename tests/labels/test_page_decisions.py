"""Decisions made in the page: written without overwriting anybody, and taken by merge and by apply."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ray_app import storage
from ray_app.data.rows import LabelRow
from ray_app.data.taxonomy import load
from ray_app.errors import UserError
from ray_app.labels import decisions, merge
from ray_app.labels.decided import page_files
from ray_app.labels.decided.page_files import DecidedReview


def label(keyword: str, score: int, *highlights: str) -> LabelRow:
    return {"keyword": keyword, "score": score, "highlights": list(highlights) or None, "opinions": None}


def decided(who: str, when: str, labels: list[LabelRow], review_id: str = "r1", text: str = "배송 늦어요") -> Any:
    row: DecidedReview = {
        "review_id": review_id,
        "text": text,
        "labels": labels,
        "labeller": who,
        "labelled_at": f"2026-11-{when}T09:00:00+00:00",
        "bundle": "abc123",
        "decisions": page_files.compare([], [(None, one) for one in labels]),
    }
    return row


OVERALL = label("만족도", -1)


def test_every_decision_is_a_file_of_its_own_whoever_writes_at_once(tmp_path: Path) -> None:
    folder = str(tmp_path / "decisions")
    rows = [decided(who, "01", [OVERALL], f"r{i}") for i in range(6) for who in ("kim", "../박", ".hidden")]
    with ThreadPoolExecutor(6) as threads:
        files = list(threads.map(lambda row: page_files.append(folder, row), rows))
    assert len(set(files)) == len(rows)
    assert {row["review_id"] + row["labeller"] for row in page_files.read(folder)} == {
        row["review_id"] + row["labeller"] for row in rows
    }
    assert all(Path(file).resolve().is_relative_to(tmp_path / "decisions") for file in files)
    for name in ("", "  ", "가" * 61):
        with pytest.raises(UserError):
            page_files.append(folder, decided(name, "01", [OVERALL]))


def test_what_was_decided_is_told_by_finding() -> None:
    old = [label("배송", 1, "배송은"), label("핏", 1), OVERALL]
    new = [(0, label("배송", -1, "늦어요")), (2, OVERALL), (None, label("가격", 2))]
    assert [(each["action"], each["old"], each["new"]) for each in page_files.compare(old, new)] == [
        ("change", old[0], new[0][1]),
        ("remove", old[1], None),
        ("confirm", OVERALL, OVERALL),
        ("add", None, new[2][1]),
    ]


def test_merge_takes_the_newest_of_each_person_and_leaves_disputes(tmp_path: Path) -> None:
    folder = str(tmp_path / "decisions")
    page_files.append(folder, decided("kim", "02", [OVERALL, label("배송", -1, "늦어요")]))
    page_files.append(folder, decided("kim", "01", [OVERALL]))
    page_files.append(folder, decided("kim", "01", [OVERALL], "r2", "별로"))
    page_files.append(folder, decided("park", "01", [label("만족도", 1)], "r2", "별로"))
    report = merge.run("", folder, str(tmp_path / "labels"), load(), "page")
    assert (report["new"], report["disputed"]) == (1, 1)
    (row,) = storage.read_parquet(report["labels"]).to_pylist()
    assert row["labels"] == [OVERALL, label("배송", -1, "늦어요")]
    assert (row["labeller"], row["round"]) == ("kim", "page")


def _labels(tmp_path: Path) -> str:
    rows = [decided("old", "01", [label("배송", 1, "배송"), label("핏", 1), label("만족도", -1, "별로")])]
    page_files.append(str(tmp_path / "first"), rows[0])
    return str(merge.run("", str(tmp_path / "first"), str(tmp_path / "one"), load(), "one")["labels"])


def test_apply_gives_a_review_its_labels_anew(tmp_path: Path) -> None:
    labels, folder = _labels(tmp_path), str(tmp_path / "decisions")
    mine = [label("배송", -1, "늦어요"), OVERALL, label("가격", 2)]
    page_files.append(folder, decided("kim", "01", [OVERALL]))
    page_files.append(folder, decided("kim", "02", mine))
    page_files.append(folder, decided("park", "02", mine))  # agrees
    done = decisions.run(labels, folder, str(tmp_path / "two"), load())
    assert {name: done[name] for name in ("kept", "fixed", "added", "dropped")} == {
        "kept": 1,
        "fixed": 1,
        "added": 1,
        "dropped": 1,
    }
    (row,) = storage.read_parquet(str(done["labels"])).to_pylist()
    assert row["labels"] == [label("배송", -1, "늦어요"), label("만족도", -1, "별로"), label("가격", 2)]


def test_apply_names_people_who_disagree_and_reviews_without_labels(tmp_path: Path) -> None:
    labels, folder = _labels(tmp_path), str(tmp_path / "decisions")
    page_files.append(folder, decided("kim", "02", [OVERALL]))
    page_files.append(folder, decided("park", "02", [label("만족도", 1)]))
    with pytest.raises(UserError, match=r"park/000001\.jsonl row 1: .*kim/000001\.jsonl row 1 decides about this"):
        decisions.run(labels, folder, str(tmp_path / "two"), load())
    page_files.append(str(tmp_path / "other"), decided("kim", "02", [OVERALL], "r9"))
    with pytest.raises(UserError, match="review_id 'r9' is not in the labels"):
        decisions.run(labels, str(tmp_path / "other"), str(tmp_path / "three"), load())
    page_files.append(str(tmp_path / "bad"), decided("kim", "02", [label("베송", 1)]))
    with pytest.raises(UserError, match=r"000001\.jsonl row 1: unknown keyword '베송'"):
        decisions.run(labels, str(tmp_path / "bad"), str(tmp_path / "four"), load())
