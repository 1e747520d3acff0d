"""columns: they are found under the names people use, and every bad row is rejected with its location and reason."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.data.columns import Columns, split_rows
from ray_app.data.reading.description import Description
from ray_app.data.reading.joined import join
from ray_app.data.schema import ANALYSIS, MAX_CHARACTERS, REJECTED, rejected_unit
from ray_app.errors import UserError
from ray_app.storage import FileInfo

PLAIN = Columns(review_id="review_id", text="text")


def found(names: list[str], mapping: str = "", keep: str = "") -> Columns:
    kept = [name.strip() for name in keep.split(",") if name.strip()]
    schema = pa.schema([(name, pa.string()) for name in names])
    file = FileInfo(uri="a.parquet", size=1, modified=1)
    described = (file, Description(kind="csv", schema=schema, chunks=()))  # without rows that could settle a doubt
    return join([described], mapping, kept, "a.parquet", ".", None).columns


def split(rows: list[tuple[Any, Any]], text_type: Any = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    ids, texts = zip(*rows, strict=True)
    raw = pa.table({"review_id": pa.array(ids), "text": pa.array(texts, text_type)})
    accepted, rejected = split_rows(raw, PLAIN, "s3://shop/a.parquet", 100)
    assert rejected.schema == REJECTED
    return accepted.to_pylist(), rejected.to_pylist()


@pytest.mark.parametrize(
    ("names", "review_id", "text"),
    [
        (["review_id", "text"], "review_id", "text"),
        (["리뷰번호", "리뷰 내용"], "리뷰번호", "리뷰 내용"),
        (["번호", "후기"], "번호", "후기"),
        (["리뷰ID", "상품평"], "리뷰ID", "상품평"),
        (["ID", "Review Text"], "ID", "Review Text"),
        (["Review_No", "CONTENTS"], "Review_No", "CONTENTS"),
        (["body", "id", "review_id", "text"], "review_id", "text"),
        (["id", "ID", "text", "TEXT"], "id", "text"),
    ],
)
def test_columns_are_found_by_korean_and_english_names(names: list[str], review_id: str, text: str) -> None:
    assert found(names) == Columns(review_id=review_id, text=text)


def test_mapping_wins_over_names_and_may_name_one_of_both() -> None:
    assert found(["id", "no", "text", "후기"], "review_id=no, text=후기") == Columns(review_id="no", text="후기")
    assert found(["id", "말"], "text=말") == Columns(review_id="id", text="말")


def test_kept_columns_are_listed_once_after_id_and_text() -> None:
    columns = found(["id", "본문", "mall", "date"], keep="date, mall,")
    assert columns == Columns(review_id="id", text="본문", keep=("date", "mall"))
    assert columns.all == ["id", "본문", "date", "mall"]
    assert found(["id", "본문"], keep="id,본문").all == ["id", "본문"]
    assert found(["id", "text"], keep="text").all == ["id", "text"]


@pytest.mark.parametrize(
    ("names", "mapping", "keep", "words"),
    [
        (["a", "text"], "", "", ["no review_id column among a, text", "--columns review_id=NAME"]),
        (["id", "a"], "", "", ["no text column among id, a", "--columns text=NAME"]),
        (["id", "contents"], "text=content", "", ["no column 'content'", "did you mean 'contents'"]),
        (["id", "text"], "text", "", ["--columns 'text'", "review_id=NAME,text=NAME"]),
        (["id", "text"], "body=text", "", ["--columns 'body=text'"]),
        (["id", "text", "mall"], "", "moll", ["--keep moll", "did you mean 'mall'"]),
        *((["id", "body", name], "", name, [f"--keep {name}"]) for name, _ in ANALYSIS),
        *((["id", "body", name], "", name, [f"--keep {name}"]) for name in ("reason", "scores", "highlights")),
        (["id", "body", "text"], "text=body", "text", ["--keep text"]),
    ],
)
def test_column_that_cannot_be_used_is_named_with_file_or_flag(
    names: list[str], mapping: str, keep: str, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        found(names, mapping, keep)
    assert all(word in str(caught.value) for word in words)
    assert "a.parquet" in str(caught.value) or "--columns" in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (("b", None), "null text"),
        (("b", ""), "empty text"),
        (("b", " \t\n\u3000"), "empty text"),
        (("b", "\u200b\ufeff\x00"), "empty text"),
        (("b", "가" * (MAX_CHARACTERS + 1)), "text has 20001 characters, over the limit of 20000"),
        ((None, "굿"), "null id"),
        (("", "굿"), "null id"),
        (("  ", "굿"), "null id"),
        (("a", "굿"), "id already seen in its unit"),
        ((" a ", "굿"), "id already seen in its unit"),
    ],
)
def test_bad_row_is_rejected_with_reason_file_and_row_and_its_neighbours_stay(
    bad: tuple[str | None, str | None], reason: str
) -> None:
    accepted, rejected = split([("a", "좋아요"), bad, ("c", "별로")])
    assert [row["review_id"] for row in accepted] == ["a", "c"]
    assert rejected == [
        {
            "review_id": (bad[0] or "").strip() or None,
            "value": None if bad[1] is None else bad[1][:MAX_CHARACTERS],
            "reason": reason,
            "file": "s3://shop/a.parquet",
            "row": 101,
            "rows": 1,
        }
    ]


def test_text_of_exactly_the_limit_is_accepted() -> None:
    assert split([("a", "가" * MAX_CHARACTERS)])[1] == []


@pytest.mark.parametrize(("values", "kind"), [([1, 2], "int"), ([1.5, 2.5], "float"), ([["굿"], ["굿"]], "list")])
def test_text_that_is_not_a_string_is_rejected_with_its_type(values: list[Any], kind: str) -> None:
    accepted, rejected = split([("a", values[0]), ("b", values[1]), ("c", None)])
    assert accepted == []
    expected = f"text is {kind}, not a string"
    assert [row["reason"] for row in rejected] == [expected, expected, "null text"]
    assert rejected[0]["value"] == str(values[0])


@pytest.mark.parametrize("text_type", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_every_string_type_of_arrow_is_text(text_type: pa.DataType) -> None:
    assert split([("a", "좋아요"), ("b", "굿")], text_type)[0][1] == {"review_id": "b", "text": "굿"}


@pytest.mark.parametrize("column", ["review_id", "text"])
def test_string_that_is_not_utf8_spoils_its_own_row_only(column: str) -> None:
    broken = pa.array([b"\xb0\xa1", "좋아요".encode(), None], pa.binary()).view(pa.string())
    raw = pa.table({"review_id": ["a", "b", "c"], "text": ["굿", "굿", "굿"]}).set_column(
        ["review_id", "text"].index(column), column, broken
    )
    accepted, rejected = split_rows(raw, PLAIN, "a.parquet", 0)
    assert [row[column] for row in accepted.to_pylist()] == ["좋아요"]
    assert [row["row"] for row in rejected.to_pylist()] == [0, 2]
    assert rejected["reason"][0].as_py() == ("id is not UTF-8" if column == "review_id" else "text is not valid UTF-8")


@pytest.mark.parametrize(("review_id", "shown"), [(7, "7"), (b"r7", "r7"), (" r7\n", "r7")])
def test_ids_become_strings(review_id: object, shown: str) -> None:
    assert split([(review_id, "굿")])[0] == [{"review_id": shown, "text": "굿"}]


def test_kept_columns_pass_through_as_they_are_under_the_common_names() -> None:
    raw = pa.table({"번호": [1, 2, 3], "후기": ["굿", None, " 좋아요 "], "price": pa.array([5, 6, 7], pa.int16())})
    accepted, _ = split_rows(raw, Columns(review_id="번호", text="후기", keep=("price", "번호")), "a.parquet", 0)
    assert accepted.schema.field("price").type == pa.int16()
    assert accepted.to_pylist() == [
        {"review_id": "1", "text": "굿", "price": 5, "번호": 1},
        {"review_id": "3", "text": " 좋아요 ", "price": 7, "번호": 3},
    ]


IDS = st.none() | st.sampled_from(["a", "b", " ", "c "])
TEXTS = st.none() | st.sampled_from(["굿", "", "\u200b", "배송 빨라요"])


@given(st.lists(st.tuples(IDS, TEXTS), min_size=1, max_size=12))
def test_every_row_is_accepted_or_rejected_and_order_is_kept(rows: list[tuple[str | None, str | None]]) -> None:
    ids, texts = (pa.array(values, pa.string()) for values in zip(*rows, strict=True))
    accepted, rejected = split_rows(pa.table({"review_id": ids, "text": texts}), PLAIN, "f", 0)
    refused = rejected["row"].to_pylist()
    assert len(accepted) + len(rejected) == len(rows)
    assert refused == sorted(set(refused))
    assert accepted["text"].to_pylist() == [text for i, (_, text) in enumerate(rows) if i not in refused]


def test_unreadable_unit_is_one_reject_without_values() -> None:
    table = rejected_unit("a.parquet", 40, "unreadable rows: x", 7)
    assert table.schema == REJECTED
    assert table.to_pylist() == [
        {"review_id": None, "value": None, "reason": "unreadable rows: x", "file": "a.parquet", "row": 40, "rows": 7}
    ]
