"""CSV, TSV, JSON lines and workbooks as people have them: the same rows however they are written and cut."""

import csv
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app import storage
from ray_app.data.reading.records import Lines, records
from ray_app.errors import UserError
from tests.support.small_catalogs import parquet, planned, rows

HEADER = ["리뷰번호", "리뷰내용", "상품명"]
ROWS = [
    ["r1", "배송이 빨라요", "가방"],
    ["r2", '그는 "최고"라고, 했다', "신발, 흰색"],
    ["r3", "첫 줄\n둘째 줄", "00123"],
    ["r4", "=1+1", ""],
]
EXPECTED = [{"review_id": a, "text": b, "product": c or None} for a, b, c in ROWS]


def csv_bytes(delimiter: str = ",", encoding: str = "utf-8", end: str = "\r\n") -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink, delimiter=delimiter, lineterminator=end).writerows([HEADER, *ROWS])
    return sink.getvalue().encode(encoding)


def jsonl() -> bytes:
    return "\n".join(json.dumps(dict(zip(HEADER, row, strict=True)), ensure_ascii=False) for row in ROWS).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("r.csv", csv_bytes()),
        ("r.csv", csv_bytes(end="\n")),
        ("r.csv", csv_bytes(encoding="utf-8-sig")),
        ("r.csv", csv_bytes(encoding="cp949")),
        ("r.csv", csv_bytes(encoding="utf-16")),
        ("r.txt", csv_bytes("\t", "utf-16-be")),
        ("r.csv", csv_bytes(";", "cp949")),
        ("r.tsv", csv_bytes("\t")),
        ("r.csv", csv_bytes("|")),
        ("r.csv", b"sep=;\r\n" + csv_bytes(";")),
        ("r.csv", "\ufeffsep=,\r\n".encode() + csv_bytes()),
        ("r.csv", "\r\n리뷰 목록\r\n\r\n".encode() + csv_bytes()),
        ("r.csv", csv_bytes() + b"\r\n\r\n"),
        ("r.csv.gz", gzip.compress(csv_bytes(encoding="cp949"))),
        ("r", csv_bytes()),
        ("r.jsonl", jsonl()),
        ("r.json", b"\xef\xbb\xbf" + jsonl()),
        ("r.jsonl.gz", gzip.compress(jsonl())),
    ],
)
@pytest.mark.parametrize("unit_rows", [1, 3, 100])
def test_a_file_is_read_however_it_is_written_and_cut(tmp_path: Path, name: str, data: bytes, unit_rows: int) -> None:
    (tmp_path / name).write_bytes(data)
    plan = planned(tmp_path / name, keep="product", unit_rows=unit_rows)
    accepted, rejected = rows(plan)
    assert rejected == []
    assert [{**row, "product": row["product"] or None} for row in accepted] == EXPECTED
    single = [row for unit in plan.units for row in _alone(plan, unit)]
    assert [row["review_id"] for row in single] == ["r1", "r2", "r3", "r4"]


def _alone(plan: Any, unit: Any) -> list[dict[str, Any]]:
    """A unit read by itself, as after a death."""
    from ray_app.data import reviews

    table, _ = reviews.read(unit, plan.columns)
    return [] if table is None else list(table.to_pylist())


def test_csv_and_parquet_of_the_same_rows_are_one_catalog(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(csv_bytes())
    parquet(tmp_path / "b.parquet", product=[1, 2, 3])
    plan = planned(tmp_path, keep="product")
    assert "product: string in a.csv, int64 in b.parquet -> string" in plan.notes
    assert [row["product"] for row in rows(plan)[0]] == ["가방", "신발, 흰색", "00123", None, "1", "2", "3"]


@pytest.mark.parametrize(
    ("data", "texts", "reasons"),
    [
        ('번호\t내용\t점수\n1\t"좋아요\t5\n2\t보통\t4\n3\t"나쁨\t1\n', ['"좋아요', "보통", '"나쁨'], []),
        (
            "번호,내용,점수\n1,나쁨,넘침,1\n2,보통,4\n",
            ["보통"],
            ["4 cells under 3 names; quote cells with delimiters"],
        ),
        ("번호,내용,점수\n1,나쁨\n2,보통,4,\n", ["나쁨", "보통"], []),
        ('번호,내용,점수\n1,"좋아요,5\n2,보통",4\n3,끝,1\n', ['"좋아요', '보통"', "끝"], []),
        ('번호,내용,점수\n1,"끝없이,5\n2,보통,4\n', ['"끝없이', "보통"], []),
        ('번호,내용,점수\n1,5" 화면,5\n2,6" 화면,4\n', ['5" 화면', '6" 화면'], []),
        ("번호,내용,점수\n,없음,5\n2,,4\n3,&nbsp;,4\n", [], ["null id", "empty text", "empty text"]),
    ],
)
def test_a_bad_line_costs_itself_only(tmp_path: Path, data: str, texts: list[str], reasons: list[str]) -> None:
    (tmp_path / "r.csv").write_text(data, encoding="utf-8")
    for unit_rows in (1, 50):
        accepted, rejected = rows(planned(tmp_path / "r.csv", unit_rows=unit_rows))
        assert [row["text"] for row in accepted] == texts
        assert [row["reason"] for row in rejected] == reasons


def test_a_broken_line_of_json_costs_itself_only(tmp_path: Path) -> None:
    lines = [
        b'{"id": 1, "text": "\xea\xb5\xbf", "n": 1}',
        b"{broken",
        b"[1]",
        b'{"id": 3, "text": "\\ud83d", "n": "x"}',
        b'{"id": 4}',
    ]
    (tmp_path / "r.jsonl").write_bytes(b"\n".join(lines))
    accepted, rejected = rows(planned(tmp_path, keep="n"))
    assert accepted == [{"review_id": "1", "text": "굿", "n": "1"}]
    assert [row["row"] for row in rejected] == [1, 2, 3, 4]
    assert rejected[0]["reason"].startswith("not JSON")
    assert rejected[2]["reason"].endswith("half a character")


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ([1, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([2**60, 0.5], pa.string()),
        ([True, None], pa.bool_()),
        ([{"a": 1}], pa.string()),
    ],
)
def test_values_of_json_have_a_type_that_holds_them(tmp_path: Path, found: list[Any], kind: pa.DataType) -> None:
    lines = [json.dumps({"id": i, "text": "굿", "v": value}) for i, value in enumerate(found)]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    plan = planned(tmp_path, keep="v")
    assert plan.columns.types is not None
    assert plan.columns.types.field("v").type == kind
    kept = [row["v"] for row in rows(plan)[0]]
    assert kept == (
        [str(v) if not isinstance(v, dict) else json.dumps(v) for v in found] if kind == pa.string() else found
    )


def test_bytes_beside_the_encoding_are_set_aside_or_escaped(tmp_path: Path) -> None:
    good = "".join(f"{i},좋아요 {i},몰\n" for i in range(50))
    (tmp_path / "r.csv").write_bytes(f"번호,내용,mall\n{good}".encode() + b"50,\xb1\xfa,x\n51,ok,\xb1\xfa\n")
    accepted, [rejected] = rows(planned(tmp_path, keep="mall"))
    assert len(accepted) == 51
    assert accepted[-1]["mall"] == "\\xb1\\xfa"
    assert "bytes that the file's encoding does not know" in rejected["reason"]


def test_an_unknown_encoding_and_a_damaged_archive_are_rejects(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n" + b"".join(b"%d,\xff\xff\xfe\n" % i for i in range(30)))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(csv_bytes() * 3000)[:-2000])
    (tmp_path / "c.csv").write_bytes(csv_bytes(encoding="utf-16") + b"\0")
    workbook(tmp_path / "d.xlsx", [["id", "text"], [1, "굿"]])
    whole = (tmp_path / "d.xlsx").read_bytes()
    (tmp_path / "d.xlsx").write_bytes(whole[: len(whole) // 2])
    parquet(tmp_path / "e.parquet")
    reasons = [source.reason for source in planned(tmp_path).unreadable]
    assert reasons[0] is not None
    assert reasons[0].startswith("unreadable CSV file: neither UTF-8, UTF-16 nor cp949")
    assert reasons[1] is not None
    assert reasons[1].startswith("unreadable CSV file: damaged gzip")
    assert reasons[2] == "unreadable CSV file: damaged UTF-16: truncated data"
    assert str(reasons[3]).startswith("unreadable xlsx file: not a readable workbook: ")


def test_csv_is_read_from_s3(tmp_path: Path, s3: str) -> None:
    for name, data in (("a.csv", csv_bytes(encoding="cp949")), ("b.csv.gz", gzip.compress(csv_bytes()))):
        storage.write_bytes(f"{s3}/in/{name}", data)
    storage.write_bytes(f"{s3}/in/c.xlsx", workbook(tmp_path / "c.xlsx", [HEADER, *ROWS[:3]]).read_bytes())
    accepted, _ = rows(planned(f"{s3}/in", keep="product", unit_rows=3))
    assert [row["review_id"] for row in accepted] == [*["r1", "r2", "r3", "r4"] * 2, "r1", "r2", "r3"]


def workbook(path: Path, *sheets: list[list[Any]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, lines in enumerate(sheets):
        sheet = book.create_sheet(f"시트{number}")
        for line in lines:
            sheet.append(line)
    book.save(path)
    return path


def test_a_workbook_is_read_below_its_header(tmp_path: Path) -> None:
    from datetime import datetime

    lines: list[list[Any]] = [
        ["리뷰 목록"],
        [],
        [*HEADER, "작성일"],
        *([*row, datetime(2026, 1, 2)] for row in ROWS[:3]),
        [],
    ]
    workbook(tmp_path / "r.xlsx", [["설명", "이 파일은"]], lines)
    plan = planned(tmp_path, keep="product,date", unit_rows=3)
    accepted, rejected = rows(plan)
    assert rejected == []
    assert [row["text"] for row in accepted] == [row[1] for row in ROWS[:3]]
    assert accepted[2]["product"] == "00123"
    assert accepted[0]["date"] == datetime(2026, 1, 2)
    assert any("only the sheet '시트1' is read, not 시트0" in note for note in plan.notes)


def test_numbers_that_a_workbook_has_rounded_are_no_ids(tmp_path: Path) -> None:
    workbook(tmp_path / "r.xlsx", [["id", "text"], [20240101123456789, "굿"]])
    with pytest.raises(UserError, match="their last digits are lost"):
        planned(tmp_path)


def test_a_workbook_without_its_library_is_a_reject_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workbook(tmp_path / "r.xlsx", [["id", "text"], [1, "굿"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"reading \.xlsx needs openpyxl: .*\[xlsx\]"):
        planned(tmp_path)


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
PIECES = st.lists(st.sampled_from(['"', '""', ",", "\n", "\r\n", "가", "a", " ", "\t"]), max_size=40).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=PIECES, width=st.integers(1, 3))
def test_a_file_cut_at_any_record_has_the_same_records(text: str, width: int) -> None:
    data = text.encode()
    whole = list(records(Lines(io.BytesIO(data)), ",", "utf-8", width))
    for i, record in enumerate(whole):
        rest = io.BytesIO(data[record.start :])
        assert list(records(Lines(rest, record.start), ",", "utf-8", width)) == whole[i:]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6), min_size=3, max_size=3),
        max_size=8,
    )
)
def test_what_the_csv_module_writes_is_read_back(lines: list[list[str]]) -> None:
    sink = io.StringIO(newline="")
    csv.writer(sink, quoting=csv.QUOTE_ALL).writerows(lines)
    found = records(Lines(io.BytesIO(sink.getvalue().encode())), ",", "utf-8", 0)
    assert [record.cells for record in found] == lines
