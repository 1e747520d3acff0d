"""Text files as nobody should write them: each fault costs its own row, or is one line that names place and remedy."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.data import reviews
from ray_app.errors import UserError
from tests.data.reading.test_text_files import workbook
from tests.support.small_catalogs import planned, rows, values

LONG = "가" * 3_000_000  # 9 MB
PARTLY = '{"id":1,"text":"배송이 빨라요","m":"좋아"}\n{"id":2,"text":"색이 예뻐요","m":"x"}\n'


@pytest.mark.parametrize(
    ("name", "data", "texts", "reasons"),
    [
        ("r.csv", "id,text\n1,굿\nid,text\n2,빨라요\n", ["굿", "빨라요"], ["the header again"]),
        ("r.csv", "id,text\n1,굿\0굿\n2,빨라요\0\n", ["굿\0굿", "빨라요\0"], []),
        ("r.csv", f'id,text\n1,"{LONG}"\n2,굿\n', ["굿"], ["a line of more than 8 MB"]),
        ("r.csv", f"id,text\n1,{LONG}{LONG}", [], ["a line of more than 8 MB"]),
        ("r.csv", 'id,text\n1,"첫줄\r둘째"\r\n2,빨라요\r안녕\r\n', ["첫줄\r둘째", "빨라요\r안녕"], []),
        ("r.csv", "id,text\r1,굿\r2,빨라요\r", ["굿", "빨라요"], []),
        ("r.csv", "id,text,n\n1,굿\n2,길어,5,6\n3\n", ["굿"], ["4 cells under 3 names; quote", "null text"]),
        ("r.csv", "id,text\n1.0,굿\n2.03E+17,빨라요\n1e5,예뻐요\n", ["굿", "예뻐요"], ["id '2.03E+17' is a rounded"]),
        ("r.csv", "id,text\n1,#REF!\n#N/A,굿\n", [], ["text is #REF!", "id is #N/A"]),
        ("r.jsonl", PARTLY.encode("cp949"), ["배송이 빨라요", "색이 예뻐요"], []),
        (
            "r.jsonl",
            PARTLY.encode() + b'{"id":3,"text":"\xb9\xe8"}',
            ["배송이 빨라요", "색이 예뻐요"],
            ["not JSON (not"],
        ),
        (
            "r.jsonl",
            '{"id":1,"text":["굿"]}\n{"id":true,"text":"굿"}\n{"id":[1],"text":5}',
            [],
            ["text is", "id is", "id"],
        ),
        (
            "r.csv",
            'id,text\n1,"그는 \\"좋다\\" 했다, 정말"\n2,"첫줄 \\"굿\n둘째, 끝"\n',
            ['그는 "좋다" 했다, 정말', '첫줄 "굿\n둘째, 끝'],
            [],
        ),
        ("r.csv", 'id, text\n1, "좋아요, 정말"\n2, 굿\n', ["좋아요, 정말", " 굿"], []),
        ("r.csv", "id\x01text\n1\x01굿\n2\x01\\N\n", ["굿"], ["null text"]),
        ("r.csv", "\ufeffid,text\n1,굿\n\ufeffid,text\n\ufeff2,빨라요\n\x1a", ["굿", "빨라요"], ["the header again"]),
        ("r.jsonl", '{"id":1,"te\n{"id":2,"text":"굿"}\n', ["굿"], ["not JSON"]),
        ("r.jsonl", f'{{"id":1,"x":{"[" * 100_000}}}\n{{"id":2,"text":"굿"}}\n', ["굿"], ["not JSON"]),
        (
            "r.csv.gz",
            gzip.compress("id,text\n1,굿\n".encode(), mtime=0) + gzip.compress("2,빨라요\n".encode(), mtime=0),
            ["굿", "빨라요"],
            [],
        ),
    ],
    ids=(
        "header again",
        "zero bytes",
        "long cell",
        "long line",
        "CR in CRLF",
        "CR",
        "ragged",
        "ids as floats",
        "errors of sheets",
        "cp949 JSON",
        "half UTF-8 JSON",
        "JSON of other types",
        "backslashes before quotes",
        "spaces before quotes",
        "Hive's delimiter and null",
        "marks of files that were appended",
        "first line cut",
        "first line too deep",
        "gzip members",
    ),
)
def test_a_fault_costs_its_own_row(
    tmp_path: Path, name: str, data: str | bytes, texts: list[str], reasons: list[str]
) -> None:
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    for unit_rows in (1, 50):
        accepted, rejected = rows(planned(tmp_path / name, unit_rows=unit_rows))
        assert [row["text"] for row in accepted] == texts
        assert [row["reason"][: len(reason)] for row, reason in zip(rejected, reasons, strict=True)] == reasons


def test_an_integral_id_that_was_written_as_a_float_is_an_integer(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,text\n1.0,굿\n2.50,굿\nv1.0,굿\n", encoding="utf-8")
    assert values(tmp_path, "review_id") == ["1", "2.50", "v1.0"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("とても良い商品でした。配送が早い", "shift_jis"), ("质量很好非常满意物流很快" * 3, "gb18030")],
)
def test_bytes_of_other_languages_are_not_read_as_korean(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "r.csv").write_bytes(f"id,text\n1,{text}\n".encode(encoding))
    with pytest.raises(UserError, match="nor Korean in cp949; save it as UTF-8"):
        planned(tmp_path)


def test_rare_korean_letters_are_read(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes("id,text\n1,똠방각하 펲시 뷁\n".encode("cp949"))
    assert values(tmp_path, "text") == ["똠방각하 펲시 뷁"]


def test_kept_bytes_that_the_encoding_does_not_know_are_counted(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(
        '{"id":1,"text":"굿","m":"\\ud83d"}\n{"id":2,"text":"굿","m":"x"}', encoding="utf-8"
    )
    plan = planned(tmp_path, keep="m")
    [unit] = reviews.read_units(plan.units, plan.columns)
    assert unit.accepted is not None
    assert unit.accepted["m"].to_pylist() == [r"\xed\xa0\xbd", "x"]
    assert unit.repaired == {"m": 1}


def test_numbers_of_json_lose_no_digit(tmp_path: Path) -> None:
    lines = [f'{{"id":{i},"text":"굿","n":{n}}}' for i, n in enumerate(["12345678901234567.89", "0.1", "1e400"])]
    (tmp_path / "r.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert values(tmp_path, "n", keep="n") == ["12345678901234567.89", "0.1", "1e400"]


def test_all_shown_sheets_with_the_same_header_are_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    header: list[Any] = ["id", "text"]
    lines = [[header, *([f"{month}{i}", "굿"] for i in range(3))] for month in "ab"]
    path = workbook(
        tmp_path / "r.xlsx", [header, ["z", "숨김"]], lines[0], [["안내"], header, *lines[1][1:]], [["다른"], ["표"]]
    )
    book = openpyxl.load_workbook(path)
    book.worksheets[0].sheet_state = "hidden"
    book.save(path)
    for unit_rows in (2, 50):
        plan = planned(tmp_path, unit_rows=unit_rows)
        assert [row["review_id"] for row in rows(plan)[0]] == ["a0", "a1", "a2", "b0", "b1", "b2"]
        found = [rows(reviews.Plan(plan.sources, (unit,), plan.columns))[0] for unit in plan.units]
        assert sum(map(len, found)) == 6
    assert any("only the sheets 시트1, 시트2 are read, not 시트0, 시트3" in note for note in plan.notes)


def test_a_workbook_that_breaks_its_library_is_one_line(tmp_path: Path) -> None:
    path = workbook(tmp_path / "r.xlsx", [["id", "text"], [1, "굿"]])
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(path)
    book.create_chartsheet()
    book.save(path)
    with pytest.raises(UserError, match=r"not a readable workbook: .*; save it anew, or as CSV"):
        planned(tmp_path)


@pytest.mark.parametrize(
    ("keep", "words"), [("m,m", "named twice"), ("m,M", "differs in case only"), ("Findings", "a column of that name")]
)
def test_kept_names_that_readers_cannot_tell_apart_are_refused(tmp_path: Path, keep: str, words: str) -> None:
    (tmp_path / "r.csv").write_text("id,text,m,M,Findings\n1,굿,x,y,z\n", encoding="utf-8")
    with pytest.raises(UserError, match=words):
        planned(tmp_path, keep=keep)


def test_a_column_whose_type_is_none_of_an_id_is_said(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [True], "text": ["굿"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no review_id column among id, text; id is bool; name it with --columns"):
        planned(tmp_path)


def test_what_excel_hides_in_cells_is_read_as_it_shows_it(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text('id,text\n="00123",굿\n"=""00124""",빨라요\n', encoding="utf-8")
    assert values(tmp_path / "r.csv", "review_id") == ["00123", "00124"]
    workbook(tmp_path / "r.xlsx", [["id", "text"], [1, "첫줄_x000D_\n_xD83D__xDE00_"], [2, "_x005F_x0041_"]])
    assert values(tmp_path / "r.xlsx", "text") == ["첫줄\r\n😀", "_x0041_"]


def test_cells_that_only_look_filled_are_said(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    lines: list[list[Any]] = [
        ["리뷰 목록", None, None],
        ["id", "text", "mall"],
        [1, "굿", "A"],
        [2, "빨라요", None],
        [3, "별로", "=1+1"],
    ]
    book = openpyxl.load_workbook(workbook(tmp_path / "r.xlsx", lines))
    for cells in ("A1:C1", "C3:C4"):
        book.active.merge_cells(cells)
    book.save(tmp_path / "r.xlsx")
    notes = planned(tmp_path / "r.xlsx", "mall").notes
    assert any("merged cells in C: only the first row" in note for note in notes)
    assert any("1 formulas have no stored result" in note for note in notes)
    workbook(tmp_path / "r.xlsx", [line[:2] for line in lines[1:4]])
    assert planned(tmp_path / "r.xlsx").notes == ("1 file (1 xlsx)",)
