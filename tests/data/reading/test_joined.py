"""One schema for all files: a kept column holds every value exactly, and never costs a review."""

import uuid
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.data import reviews
from ray_app.data.column_types import Seen, common_type
from ray_app.errors import UserError
from tests.support.small_catalogs import TEXTS, parquet, planned, rows, values

MOMENT = datetime(2023, 11, 14, 22, 13, 20)
BIG = 2**60 + 1
MS, US, NS = pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns")


@pytest.mark.parametrize(
    ("first", "second", "of", "kept"),
    [
        (pa.array([5, 4]), pa.array([5.0, None]), pa.float64(), [5.0, 4.0, 5.0, None]),
        (pa.array([1], pa.int32()), pa.array([3 * 10**10]), pa.int64(), [1, 3 * 10**10]),
        (pa.array([255], pa.uint8()), pa.array([-1], pa.int8()), pa.int16(), [255, -1]),
        (pa.array([2**64 - 1], pa.uint64()), pa.array([-1]), pa.decimal128(20, 0), [2**64 - 1, -1]),
        (pa.array([BIG]), pa.array([0.5]), pa.string(), [str(BIG), "0.5"]),
        (pa.array([Decimal(5)], pa.decimal128(38, 0)), pa.array([4]), pa.decimal128(38, 0), [5, 4]),
        (
            pa.array([Decimal("1.25")]),
            pa.array([Decimal("1000.5")]),
            pa.decimal128(6, 2),
            [Decimal("1.25"), Decimal("1000.50")],
        ),
        (
            pa.array([MOMENT], pa.timestamp("ms")),
            pa.array([MOMENT], pa.timestamp("us")),
            pa.timestamp("us"),
            [MOMENT] * 2,
        ),
        (
            pa.array([MOMENT], pa.timestamp("us")),
            pa.array([MOMENT], pa.timestamp("ns")),
            pa.timestamp("ns"),
            [MOMENT] * 2,
        ),
        (
            pa.array([datetime(9999, 12, 31)], pa.timestamp("us")),
            pa.array([MOMENT], pa.timestamp("ns")),
            pa.string(),
            ["9999-12-31 00:00:00", "2023-11-14 22:13:20"],
        ),
        (pa.array([MOMENT], pa.timestamp("us", "UTC")), pa.array([MOMENT], pa.timestamp("us")), pa.string(), None),
        (
            pa.array([date(2026, 1, 1)]),
            pa.array([MOMENT], pa.timestamp("s")),
            pa.timestamp("ms"),
            [datetime(2026, 1, 1), MOMENT],
        ),
        (pa.array([date(2026, 1, 1)]), pa.array(["내일"]), pa.string(), ["2026-01-01", "내일"]),
        (
            pa.array([time(9)], pa.time32("s")),
            pa.array([time(9, 0, 0, 5)], pa.time64("us")),
            pa.time64("us"),
            [time(9), time(9, 0, 0, 5)],
        ),
        (pa.nulls(1), pa.array(["A"]), pa.string(), [None, "A"]),
        (pa.array([1]), pa.array(["x"]), pa.string(), ["1", "x"]),
        (pa.array([True]), pa.array([2]), pa.string(), ["true", "2"]),
        (pa.array(["A"]).dictionary_encode(), pa.array(["B"], pa.large_string()), pa.string(), ["A", "B"]),
        (pa.array(["A"], pa.string_view()), pa.array([b"B"]), pa.string(), ["A", "B"]),
        (
            pa.array([[1]], pa.list_(pa.field("element", pa.int32()))),
            pa.array([[2], None], pa.list_(pa.field("item", pa.int64()))),
            pa.list_(pa.int64()),
            [[1], [2], None],
        ),
        (pa.array([["a"]], pa.large_list(pa.string())), pa.array([["b"]]), pa.list_(pa.string()), [["a"], ["b"]]),
        (
            pa.array([{"a": 1}, None]),
            pa.array([{"b": "x", "a": 0.5}]),
            pa.struct([("a", pa.string()), ("b", pa.string())]),
            [{"a": "1", "b": None}, None, {"a": "0.5", "b": "x"}],
        ),
        (None, pa.array([3]), pa.int64(), [None, None, None, 3]),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_kept_column_has_one_type_that_holds_all_values(
    tmp_path: Path, first: pa.Array | None, second: pa.Array, of: pa.DataType, kept: list[Any] | None, swapped: bool
) -> None:
    names = ("b", "a") if swapped else ("a", "b")
    parquet(tmp_path / f"{names[0]}.parquet", v=first)
    parquet(tmp_path / f"{names[1]}.parquet", v=second)
    plan = planned(tmp_path, keep="v")
    assert plan.columns.types is not None
    if not pa.types.is_struct(of):  # its fields come in the order of the files
        assert plan.columns.types.field("v").type == of
    if first is None or common_type([Seen(first.type)]) != common_type([Seen(second.type)]):
        assert plan.notes[-1].startswith("v: ")
        assert plan.notes[-1].endswith(f"-> {plan.columns.types.field('v').type}")
    found = values(tmp_path, "v", keep="v")
    size = len(second) if swapped else len(found) - len(second)
    found = found[size:] + found[:size] if swapped else found
    assert kept is None or found == kept


def test_zones_and_local_times_are_kept_apart(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", at=pa.array([MOMENT], pa.timestamp("us", "UTC")))
    parquet(tmp_path / "b.parquet", at=pa.array([MOMENT], pa.timestamp("us")))
    assert values(tmp_path, "at", keep="at") == ["2023-11-14 22:13:20+00:00", "2023-11-14 22:13:20"]
    assert planned(tmp_path, keep="at").notes[-1] == (
        "at: timestamp[us, tz=UTC] in a.parquet, timestamp[us] in b.parquet -> string"
    )


def test_two_zones_are_the_same_instants_in_utc(tmp_path: Path) -> None:
    for name, zone in (("a", "Asia/Seoul"), ("b", "UTC")):
        parquet(tmp_path / f"{name}.parquet", at=pa.array([MOMENT], pa.timestamp("us", zone)))
    assert len(set(values(tmp_path, "at", keep="at"))) == 1


def test_an_empty_first_file_decides_nothing(tmp_path: Path) -> None:
    nothing = pa.nulls(0)
    parquet(tmp_path / "1.parquet", review_id=nothing, text=nothing, mall=nothing, rating=nothing)
    for day in (2, 3):
        parquet(tmp_path / f"{day}.parquet", mall=["A", "B"], rating=[5, 4])
    plan = planned(tmp_path, keep="mall,rating")
    assert plan.columns.types is not None
    assert [field.type for field in plan.columns.types] == [pa.string(), pa.int64()]
    assert len(rows(plan)[0]) == 4
    assert not any(note.startswith("mall: ") for note in plan.notes)


def test_columns_that_differ_by_mall_are_found_in_each_file(tmp_path: Path) -> None:
    parquet(tmp_path / "coupang.parquet", product=["가방", "신발"])
    parquet(
        tmp_path / "naver.parquet",
        review_id=None,
        text=None,
        리뷰글번호=[1, 2],
        리뷰상세내용=TEXTS[:2],
        상품명=["모자", "옷"],
    )
    accepted, rejected = rows(planned(tmp_path, keep="product"))
    assert rejected == []
    assert [row["product"] for row in accepted] == ["가방", "신발", "모자", "옷"]
    assert [row["text"] for row in accepted] == [*TEXTS[:2], *TEXTS[:2]]


@pytest.mark.parametrize("name", ["a", "z"])
def test_a_file_of_another_kind_is_one_reject_wherever_it_is_sorted(tmp_path: Path, name: str) -> None:
    parquet(tmp_path / f"{name}.parquet", review_id=None, text=None, product_id=[1], name=["x"])
    parquet(tmp_path / "m.parquet")
    plan = planned(tmp_path)
    assert [(Path(s.file).stem, s.reason) for s in plan.unreadable] == [
        (name, "no review_id column among product_id, name")
    ]
    assert len(rows(plan)[0]) == 3


def test_folders_give_columns(tmp_path: Path) -> None:
    for day, mall in (("2026-01-01", "A"), ("2026-01-02", "%EA%B0%80"), ("2026-01-02", "__HIVE_DEFAULT_PARTITION__")):
        parquet(tmp_path / f"dt={day}" / f"mall={mall}" / "part-0.parquet", review_id=[f"{day}{mall}"])
    accepted, _ = rows(planned(tmp_path, keep="mall,dt"))
    assert sorted((row["dt"], row["mall"] or "") for row in accepted) == [
        ("2026-01-01", "A"),
        ("2026-01-02", ""),
        ("2026-01-02", "가"),
    ]


def test_later_files_follow_the_same_rules(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", rating=[5, 4])
    before = planned(tmp_path, keep="rating")
    parquet(tmp_path / "b.parquet", rating=[4.5])
    parquet(tmp_path / "c.parquet", review_id=None, 리뷰번호=["x"])
    parquet(tmp_path / "d.parquet", text=None, 이름=["x"])
    after = planned(tmp_path, keep="rating", known=before.columns, done=frozenset({str(tmp_path / "a.parquet")}))
    accepted, _ = rows(after)
    assert [row["rating"] for row in accepted] == [4.5, None]
    assert "int64 in the files before" in after.notes[-1]
    assert [Path(source.file).stem for source in after.unreadable] == ["d"]
    assert after.columns.layouts[: len(before.columns.layouts)] == before.columns.layouts


@pytest.mark.parametrize("column", ["text", "review_id", "value"])
def test_a_name_that_two_columns_have_is_refused_in_one_line(tmp_path: Path, column: str) -> None:
    table = pa.table({"review_id": ["a"], "text": ["x"], "value": [1]})
    pq.write_table(table.append_column(column, pa.array(["y"])), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="rename one"):
        planned(tmp_path, keep="value")
    if column == "value":
        assert len(rows(planned(tmp_path))[0]) == 1


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (pa.array([123456789.0, 5.0, None]), ["123456789", "5", None]),
        (pa.array([1.0, float("nan")]), ["1", None]),
        (pa.array([Decimal("10.50"), Decimal("3.00")]), ["10.5", "3"]),
        (pa.array([bytes(range(16))], pa.binary(16)), ["00010203-0405-0607-0809-0a0b0c0d0e0f"]),
        (pa.array([uuid.UUID(int=5).bytes], pa.uuid()), [str(uuid.UUID(int=5))]),
        (pa.array([b"r1", b"\xff"]), ["r1", None]),
        (pa.array([" a ", ""]), ["a", None]),
        (pa.array(["a"], pa.string_view()), ["a"]),
        (pa.array([2**63], pa.uint64()), [str(2**63)]),
    ],
)
def test_an_id_has_one_text(tmp_path: Path, ids: pa.Array, texts: list[str | None]) -> None:
    parquet(tmp_path / "a.parquet", review_id=ids)
    accepted, rejected = rows(planned(tmp_path))
    assert [row["review_id"] for row in accepted] == [text for text in texts if text]
    assert all(row["reason"] in ("null id", "id is not UTF-8") for row in rejected)


def test_ids_whose_digits_are_lost_are_refused_or_set_aside(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", review_id=[2034567891234567.0, 2.034567891234568e17])
    with pytest.raises(UserError, match=r"ids in 'review_id' are double up to .* write them as text or int64"):
        planned(tmp_path)
    pq.write_table(pq.read_table(path), path, write_statistics=False)
    accepted, [rejected] = rows(planned(tmp_path))
    assert [row["review_id"] for row in accepted] == ["2034567891234567"]
    assert "last digits are lost" in rejected["reason"]


def test_rows_of_a_catalog_without_ids_are_numbered_by_file_and_row(tmp_path: Path) -> None:
    for day in ("1", "2"):
        parquet(tmp_path / f"dt={day}" / "p.parquet", review_id=None, text=TEXTS)
    with pytest.raises(UserError, match=r"no review_id column .* review_id=#"):
        planned(tmp_path)
    found = values(tmp_path, "review_id", mapping="review_id=#", unit_rows=2)
    assert found == [f"dt={day}/p.parquet#{row}" for day in "12" for row in range(3)]


def test_ids_that_restart_in_every_file_are_kept_also_where_files_share_a_unit(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        parquet(tmp_path / f"{name}.parquet", review_id=None, 번호=[1, 2, 3])
    plan = planned(tmp_path)
    assert len(plan.units) == 1
    assert [row["review_id"] for row in rows(plan)[0]] == ["1", "2", "3"] * 2


def test_bytes_that_are_no_utf8_cost_no_row_and_spoil_no_file(tmp_path: Path) -> None:
    bad = pa.array(["정상".encode(), "깨짐".encode("cp949")], pa.binary()).view(pa.string())
    parquet(tmp_path / "a.parquet", mall=bad, tags=pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), bad))
    plan = planned(tmp_path, keep="mall,tags")
    [unit] = reviews.read_units(plan.units, plan.columns)
    assert unit.accepted is not None
    assert unit.accepted["mall"].to_pylist() == ["정상", "\\xb1\\xfa\\xc1\\xfc"]
    assert unit.accepted["tags"].to_pylist() == [["정상"], ["\\xb1\\xfa\\xc1\\xfc"]]
    assert unit.repaired == {"mall": 1, "tags": 1}
    unit.accepted.validate(full=True)


def test_text_without_a_string_annotation_is_decoded(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", review_id=[b"a", b"b"], text=["굿".encode(), b"\xb1\xfa"])
    accepted, [rejected] = rows(planned(tmp_path))
    assert [row["text"] for row in accepted] == ["굿"]
    assert rejected["reason"] == "text is not valid UTF-8"


def test_no_digit_of_a_long_decimal_is_lost(tmp_path: Path) -> None:
    long = Decimal("123456789012345678901234567890.5")
    parquet(tmp_path / "in" / "a.parquet", review_id=[long, Decimal("30.0")], text=TEXTS[:2], price=[long, long])
    parquet(tmp_path / "in" / "b.parquet", review_id=["x"], text=TEXTS[:1], price=["무료"])
    accepted, _ = rows(planned(tmp_path / "in", keep="price"))
    assert [row["review_id"] for row in accepted] == [str(long), "30", "x"]
    assert [row["price"] for row in accepted] == [str(long), str(long), "무료"]


def test_the_type_of_a_column_that_is_no_text_is_said_with_the_file(tmp_path: Path) -> None:
    parquet(tmp_path / "in" / "a.parquet")
    parquet(tmp_path / "in" / "b.parquet", text=[1, 2, 3])
    assert [source.reason for source in planned(tmp_path / "in").unreadable] == [
        "no text column among review_id, text; text is int64"
    ]
