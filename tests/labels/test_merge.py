"""merge: answers join the labels as a new version; disputes wait; nothing is overwritten or forgotten."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app import storage
from ray_app.data.schema import ANSWERS, LABELED
from ray_app.data.taxonomy import load
from ray_app.errors import UserError
from ray_app.labels import merge, reader, spreadsheet, versions
from ray_app.labels.versions import CURRENT, HISTORY, LabelVersion
from tests.support.full_disk import full_disk

TAXONOMY = load()
NOW = datetime(2026, 11, 22, tzinfo=UTC)
Scores = dict[str, int]


def label(keyword: str, score: int, *highlights: str, opinions: Sequence[str] = ()) -> dict[str, Any]:
    words = {"highlights": list(highlights) or None, "opinions": list(opinions) or None}
    return {"keyword": keyword, "score": score, **words}


def answer(review_id: str, who: str, scores: Scores, day: int | None = 0, text: str = "배송 굿") -> dict[str, Any]:
    when = None if day is None else NOW + timedelta(days=day)
    made = [label(keyword, score) for keyword, score in scores.items()]
    return {"review_id": review_id, "text": text, "labels": made, "labeller": who, "labelled_at": when}


def answers_of(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=ANSWERS)


def version_of(*rows: dict[str, Any]) -> LabelVersion:
    table = pa.Table.from_pylist([{"text": "배송 굿", "split": None, **row} for row in rows], schema=CURRENT)
    return LabelVersion(table, HISTORY.empty_table())


def scores(row: Mapping[str, Any]) -> Scores:
    return {each["keyword"]: each["score"] for each in row["labels"]}


def merged(version: LabelVersion, rows: Sequence[dict[str, Any]], resolve: str = "") -> merge.Merged:
    return merge.merge_answers(version, answers_of(*rows), "2", NOW, resolve)


def counted(found: merge.Merged) -> dict[str, int]:
    return {kind: count for kind, count in found.counts.items() if count}


def test_new_reviews_are_added_with_their_provenance() -> None:
    found = merged(version_of(), [answer("1", "kim", {"배송": 1}), answer("2", "lee", {"핏": 0}, None)])
    rows = found.version.rows()
    assert (rows["1"]["labeller"], rows["1"]["labelled_at"], rows["1"]["round"]) == ("kim", NOW, "2")
    assert (rows["2"]["labelled_at"], rows["2"]["split"]) == (NOW, None)
    assert counted(found) == {"new": 2}
    assert not len(found.version.history)


def test_a_newer_answer_replaces_labels_and_the_row_before_is_kept() -> None:
    old = {"review_id": "1", "labels": [label("배송", -1, "배송")], "split": "test", "labeller": "kim"}
    found = merged(version_of(old, {"review_id": "0", "labels": [label("핏", 1)]}), [answer("1", "lee", {"배송": 1})])
    assert found.version.labels["review_id"].to_pylist() == ["1", "0"]
    row = found.version.rows()["1"]
    assert (row["labels"], row["split"], row["labeller"]) == ([label("배송", 1, "배송")], "test", "lee")
    (past,) = found.version.history.to_pylist()
    assert (past["labels"], past["replaced_by"], past["replaced_at"]) == (old["labels"], "round 2", NOW)
    assert counted(found) == {"changed": 1}


def test_an_answer_older_than_the_labels_goes_to_the_history_itself() -> None:
    old = {"review_id": "1", "labels": [label("배송", -1)], "labelled_at": NOW}
    found = merged(version_of(old), [answer("1", "lee", {"배송": 1}, -1)])
    assert scores(found.version.rows()["1"]) == {"배송": -1}
    (past,) = found.version.history.to_pylist()
    assert (scores(past), past["replaced_by"], past["labeller"]) == ({"배송": 1}, "a newer answer", "lee")
    assert counted(found) == {"outdated": 1}


def test_merging_the_same_answers_again_changes_nothing() -> None:
    rows = [answer("1", "kim", {"배송": 1, "핏": 0}), answer("2", "kim", {"핏": 0})]
    first = merged(version_of(), rows).version
    again = merged(first, [answer("1", "lee", {"핏": 0, "배송": 1}, 3), rows[1]])
    assert again.version.labels.equals(first.labels)
    assert (len(again.version.history), counted(again)) == (0, {"confirmed": 2})


def test_a_labeler_who_answers_twice_means_the_newer_answer() -> None:
    rows = [answer("1", "kim", {"배송": 1}, 1), answer("1", "kim", {"배송": -1}, 0)]
    for order in (rows, rows[::-1]):
        assert scores(merged(version_of(), order).version.rows()["1"]) == {"배송": 1}


def test_labelers_who_agree_make_one_row_with_the_highlights_of_both() -> None:
    rows = [answer("1", "lee", {"배송": 1}, 1), answer("1", "kim", {"배송": 1}, 0)]
    rows[0]["labels"], rows[1]["labels"] = [label("배송", 1, "굿", "배송")], [label("배송", 1, "굿")]
    row = merged(version_of(), rows).version.rows()["1"]
    assert (row["labels"], row["labeller"]) == ([label("배송", 1, "굿", "배송")], "kim, lee")
    assert row["labelled_at"] == NOW + timedelta(days=1)


def test_opinions_are_united_and_kept_only_while_the_feeling_has_the_same_sign() -> None:
    rows = [answer("1", "lee", {"배송": 1}, 1), answer("1", "kim", {"배송": 1}, 0)]
    rows[0]["labels"] = [label("배송", 1, opinions=["굿"])]
    rows[1]["labels"] = [label("배송", 1, opinions=["빠르고"])]
    version = merged(version_of(), rows).version
    assert version.rows()["1"]["labels"] == [label("배송", 1, opinions=["빠르고", "굿"])]
    stronger = merged(version, [answer("1", "kim", {"배송": 2}, 2)]).version
    assert stronger.rows()["1"]["labels"] == [label("배송", 2, opinions=["빠르고", "굿"])]
    assert merged(stronger, [answer("1", "kim", {"배송": -1}, 3)]).version.rows()["1"]["labels"] == [label("배송", -1)]


def test_labelers_who_agree_that_a_review_speaks_of_nothing_are_no_dispute() -> None:
    found = merged(version_of(), [answer("1", "kim", {}), answer("1", "lee", {})])
    assert (found.version.rows()["1"]["labels"], counted(found)) == ([], {"new": 1})


K, L, P = ("kim", "lee", "park")


@pytest.mark.parametrize(
    ("resolve", "answered", "expected"),
    [
        ("", [(K, {"배송": 1}, 0), (L, {"배송": 2}, 1)], None),
        ("", [(K, {"배송": 1}, 0), (L, {"배송": 1, "핏": 0}, 1)], None),
        ("newest", [(K, {"배송": 1}, 0), (L, {"배송": 2}, 1)], {"배송": 2}),
        ("newest", [(K, {"배송": 1}, 2), (L, {"배송": 2}, 1)], {"배송": 1}),
        ("newest", [(K, {"배송": 1}, 1), (L, {"배송": 2}, 1)], None),
        ("newest", [(K, {"배송": 1}, None), (L, {"배송": 2}, None)], None),
        ("majority", [(K, {"배송": 1}, 0), (L, {"배송": 2}, 1)], None),
        ("majority", [(K, {"배송": 1, "핏": 0}, 0), (L, {"배송": 1}, 1), (P, {"배송": 2}, 2)], {"배송": 1}),
        (
            "majority",
            [(K, {"배송": 1}, 0), (L, {"배송": 1, "핏": 2}, 1), (P, {"배송": 1, "핏": 2}, 2)],
            {"배송": 1, "핏": 2},
        ),
        ("majority", [(K, {"배송": 1}, 0), (L, {"배송": 1, "핏": 2}, 1), (P, {"배송": 1, "핏": 1}, 2)], None),
        ("majority", [(K, {"배송": 1}, 0), (L, {"배송": 1, "핏": 0}, 1)], None),
        ("majority", [(K, {"배송": 1}, 0), (L, {"핏": 2}, 1), (P, {"길이": 1}, 2)], None),
    ],
)
def test_disputes_wait_unless_a_rule_decides(
    resolve: str, answered: list[tuple[str, Scores, int | None]], expected: Scores | None
) -> None:
    old = {"review_id": "1", "labels": [label("가격", 0)]}
    found = merged(version_of(old), [answer("1", *each) for each in answered], resolve)
    row = found.version.rows()["1"]
    if expected is None:
        assert (row["labels"], counted(found)) == (old["labels"], {"disputed": 1})
        assert [{each["labeller"] for each in answers} for answers in found.disputed] == [
            {who for who, _, _ in answered}
        ]
    else:
        assert (scores(row), counted(found), found.disputed) == (expected, {"changed": 1}, ())


ANSWERED = st.lists(
    st.tuples(
        st.sampled_from("123456"),
        st.sampled_from((K, L, P)),
        st.dictionaries(st.sampled_from(("배송", "핏")), st.integers(-2, 2), min_size=1),
        st.integers(-2, 2),
    ),
    max_size=12,
)


@given(answered=ANSWERED, resolve=st.sampled_from(merge.RULES))
def test_every_review_goes_one_way_and_no_row_is_lost(answered: Any, resolve: str) -> None:
    before = version_of(
        {"review_id": "1", "labels": [label("배송", 1)], "split": "test", "labelled_at": NOW},
        {"review_id": "2", "labels": [label("핏", 1)], "split": "train"},
        {"review_id": "9", "labels": [label("핏", 1)], "split": "validation"},
    )
    found = merged(before, [answer(*each) for each in answered], resolve)
    assert sum(found.counts.values()) == len({review_id for review_id, *_ in answered})
    ids = found.version.labels["review_id"].to_pylist()
    assert ids[:3] == ["1", "2", "9"]
    assert len(set(ids)) == len(ids) == 3 + found.counts["new"]
    assert found.version.labels["split"].to_pylist()[:3] == ["test", "train", "validation"]
    assert len(found.version.history) == found.counts["changed"] + found.counts["outdated"]
    assert len(found.disputed) == found.counts["disputed"]
    kept = [*found.version.labels.to_pylist(), *found.version.history.to_pylist()]
    for row in before.labels.to_pylist():
        assert any(row.items() <= each.items() for each in kept)


def test_an_id_that_is_another_review_is_refused() -> None:
    old = {"review_id": "1", "labels": [label("배송", 1)]}
    with pytest.raises(UserError, match=r"review '1': kim answered to another text; give it another id"):
        merged(version_of(old), [answer("1", "kim", {"배송": 1}, text="배송 별로")])
    found = merged(version_of(old | {"text": "배송 굿 😀"}), [answer("1", "kim", {"배송": 2}, text="배송  굿 ??")])
    assert found.version.rows()["1"]["text"] == "배송 굿 😀"


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UserError, match="--resolve vote: write newest or majority"):
        merged(version_of(), [], "vote")


def sheet(path: Path, *rows: Sequence[str]) -> str:
    storage.write_bytes(str(path), spreadsheet.to_csv(("review_id", "text", "Completion"), rows))
    return str(path)


def test_rounds_are_versions_in_new_folders_and_disputes_are_a_queue(tmp_path: Path) -> None:
    kept = {"review_id": ["1", "2"], "text": ["배송 굿", "핏 굿"], "split": ["test", None], "mall": ["가", "나"]}
    start = pa.table(kept | {"labels": pa.array([[label("배송", -1)], [label("핏", 1)]], CURRENT.field("labels").type)})
    storage.write_parquet(f"{tmp_path}/start.parquet", start)
    for who, score in (("kim", 1), ("lee", 2)):
        sheet(
            tmp_path / f"answers/{who}.csv",
            ("1", "배송 굿", "배송 1"),
            ("3", "새것", f"만족도 {score}"),
            ("2", "핏 굿", ""),
        )
    report = merge.run(f"{tmp_path}/start.parquet", f"{tmp_path}/answers", f"{tmp_path}/v1", TAXONOMY, "1")
    assert (report["answers"], report["changed"], report["disputed"], report["new"]) == (4, 1, 1, 0)
    assert (report["skipped"], report["agreement"]["shared"]) == ({"unfinished": 2}, 2)
    queue = Path(tmp_path, "v1/disputed.csv").read_text(encoding="utf-8-sig").splitlines()
    assert queue == ["review_id,text,Completion,Answers", "'3,새것,,kim: 만족도 1 / lee: 만족도 2"]
    assert "kim, lee" in Path(tmp_path, "v1/agreement.md").read_text(encoding="utf-8")

    sheet(tmp_path / "judge.csv", ("3", "새것", "만족도 2"), ("1", "배송 굿", "배송 0"))
    report = merge.run(report["labels"], f"{tmp_path}/judge.csv", f"{tmp_path}/v2", TAXONOMY, "2")
    version = versions.load(report["labels"], TAXONOMY)
    assert {i: (scores(row), row["split"], dict(row)["mall"], row["round"]) for i, row in version.rows().items()} == {
        "1": ({"배송": 0}, "test", "가", "2"),
        "2": ({"핏": 1}, None, "나", None),
        "3": ({"만족도": 2}, None, None, "2"),
    }
    past = [(row["review_id"], scores(row), row["replaced_by"]) for row in version.history.to_pylist()]
    assert past == [("1", {"배송": -1}, "round 1"), ("1", {"배송": 1}, "round 2")]
    assert len(reader.read_labels(report["labels"]).table) == 3
    assert storage.read_parquet(f"{tmp_path}/start.parquet").equals(start)


def test_a_version_is_never_overwritten_and_a_table_can_start_empty(tmp_path: Path) -> None:
    uri = sheet(tmp_path / "kim.csv", ("1", "배송 굿", "배송 1"))
    report = merge.run("", uri, f"{tmp_path}/v1", TAXONOMY, "1")
    assert report["new"] == 1
    with pytest.raises(UserError, match="v1 holds something already; a version is never overwritten"):
        merge.run("", uri, f"{tmp_path}/v1", TAXONOMY, "1")
    with pytest.raises(UserError, match="no such file"):
        merge.run(f"{tmp_path}/none.parquet", uri, f"{tmp_path}/v2", TAXONOMY, "1")


@pytest.mark.parametrize("room", [0, 3_000, 6_000])
def test_a_full_disk_leaves_no_half_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    uri = sheet(tmp_path / "kim.csv", ("1", "배송 굿", "배송 1"))
    with monkeypatch.context() as full:
        full_disk(full, room)
        with pytest.raises(UserError, match="no space left on the disk"):
            merge.run("", uri, f"{tmp_path}/v1", TAXONOMY, "1")
    assert merge.run("", uri, f"{tmp_path}/v1", TAXONOMY, "1")["new"] == 1


def test_a_column_of_provenance_that_is_something_else_is_named(tmp_path: Path) -> None:
    table = version_of({"review_id": "1", "labels": [label("배송", 1)]}).labels
    broken = table.set_column(5, "labelled_at", pa.array(["어제"]))
    storage.write_parquet(f"{tmp_path}/a.parquet", broken)
    with pytest.raises(UserError, match=r"a.parquet: column labelled_at is not timestamp"):
        versions.load(f"{tmp_path}/a.parquet", TAXONOMY)


AS_LABELED = {  # how a Parquet table names its columns -> the columns beside the labels in a version of it
    "id text labels mall": "mall",
    "리뷰번호 내용 라벨 mall": "mall",
    "review_id text Completion mall": "mall",
    "review_id text labels Completion mall": "mall",
    "review_id text 배송 핏 mall": "mall",
    "review_id text 배송 핏 데이터구분 mall": "mall",
    "review_id text 배송 핏 가격표": "가격표",
    "id text labels 작업자 작업일시 mall": "mall labeller labelled_at",
    "id text labels 작업자 labeller": "작업자 labeller",
}
CELLS: dict[str, Any] = {
    **dict.fromkeys(("id", "review_id", "리뷰번호"), "1"),
    **dict.fromkeys(("text", "내용"), "배송 굿"),
    **{name: [{"keyword": "배송", "score": 1}] for name in ("labels", "라벨")},
    "Completion": "배송 1",
    "배송": 1,
    "핏": None,
    "데이터구분": "test",
    "mall": "가",
    "가격표": 9_900,
    "작업자": "kim",
    "labeller": "lee",
    "작업일시": NOW,
}


@pytest.mark.parametrize(("names", "beside"), AS_LABELED.items())
def test_a_version_keeps_no_column_that_says_its_labels_again(names: str, beside: str, tmp_path: Path) -> None:
    """Once the labels change, such a column would say something else, and be read in place of them."""
    table = pa.table({name: [CELLS[name]] for name in names.split()})
    storage.write_parquet(f"{tmp_path}/a.parquet", table)
    sheet(tmp_path / "kim.csv", ("1", "배송 굿", "배송 -2"))
    uri = merge.run(f"{tmp_path}/a.parquet", f"{tmp_path}/kim.csv", f"{tmp_path}/v1", TAXONOMY, "1")["labels"]
    (row,) = storage.read_parquet(uri).to_pylist()
    assert {*row} == {*CURRENT.names, *beside.split()}
    assert (scores(row), row["labeller"], row["split"]) == (
        {"배송": -2},
        "kim",
        "test" if "데이터구분" in names else None,
    )
    history = versions.load(uri, TAXONOMY).history.to_pylist()
    assert [(scores(past), past["labeller"]) for past in history] == [
        ({"배송": 1}, "lee" if "labeller" in names else "kim" if "작업자" in names else None)
    ]


def test_files_of_other_columns_make_one_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tables = (
        {"id": ["1"], "text": ["배송 굿"], "Completion": ["배송 1"], "mall": ["가"], "n": [1]},
        {"review_id": ["2"], "내용": ["핏 굿"], "핏": [1], "n": [0.5]},
        {"리뷰번호": ["3"], "text": ["핏 별로"], "labels": [[{"keyword": "핏", "score": -1}]]},
    )
    for number, columns in enumerate(tables):
        storage.write_parquet(f"{tmp_path}/labels/{number}.parquet", pa.table(columns))
    found = versions.load(f"{tmp_path}/labels", TAXONOMY).labels
    assert found.column_names == [*LABELED.names, "mall", "n", "labeller", "labelled_at", "round"]
    assert [found[name].to_pylist() for name in ("mall", "n")] == [["가", None, None], [1, 0.5, None]]
    storage.write_parquet(f"{tmp_path}/labels/3.parquet", pa.table({**tables[2], "리뷰번호": ["4"], "n": ["가"]}))
    with pytest.raises(UserError, match=r"labels: its files do not go together"):
        versions.load(f"{tmp_path}/labels", TAXONOMY)
    (tmp_path / "a.csv").write_text("id,text,Completion,mall\n1,배송 굿,배송 1,가\n", encoding="utf-8")
    with caplog.at_level("INFO"):
        assert versions.load(f"{tmp_path}/a.csv", TAXONOMY).labels.column_names == CURRENT.names
    assert "a.csv: mall: not kept in the new version" in caplog.text


def test_two_columns_of_one_name_beside_the_labels_are_told(tmp_path: Path) -> None:
    names = ["id", "text", "Completion", "mall", "mall"]
    table = pa.Table.from_arrays([pa.array([text]) for text in ("1", "배송 굿", "배송 1", "가", "나")], names)
    storage.write_parquet(f"{tmp_path}/a.parquet", table)
    with pytest.raises(UserError, match=r"a.parquet: two columns are called 'mall'; rename one"):
        versions.load(f"{tmp_path}/a.parquet", TAXONOMY)
