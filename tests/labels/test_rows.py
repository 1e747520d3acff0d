"""rows: every row comes with the location at which a person finds it, whatever the format."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.errors import UserError
from ray_app.labels.rows import UnreadableRow, check_readable, id_of, rows
from tests.data.reading.test_text_files import workbook

ROW = {"a": "1", "b": "가, 나"}


@pytest.mark.parametrize(
    ("name", "content", "number"),
    [
        ("a.jsonl", f"\n{json.dumps(ROW)}\n", 2),
        ("a.NDJSON", json.dumps(ROW), 1),
        ("a.csv", 'a , b\n,\n1,"가, 나"\n', 3),
        ("a.tsv", "a\tb\n1\t가, 나\n", 2),
    ],
)
def test_a_row_is_numbered_as_a_person_counts(tmp_path: Path, name: str, content: str, number: int) -> None:
    uri = str(tmp_path / name)
    storage.write_bytes(uri, content.encode())
    assert list(rows(uri, "rows")) == [(f"{uri} row {number}", ROW)]


def test_parquet_is_read_whole(tmp_path: Path) -> None:
    uri = f"{tmp_path}/a.parquet"
    storage.write_parquet(uri, pa.table({"a": ["1"], "b": ["가, 나"], "c": [1]}))
    assert list(rows(str(tmp_path), "rows")) == [(f"{uri} row 1", ROW | {"c": 1})]


def test_a_cell_without_a_name_and_a_broken_line_are_errors_of_their_row(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/a.csv", b"a,b\n1,2,3\n1\n1,2,\n")
    bad, *good = [row for _, row in rows(f"{tmp_path}/a.csv", "rows")]
    assert good == [{"a": "1"}, {"a": "1", "b": "2"}]
    with pytest.raises(UserError, match="3 cells under 2 names; quote cells with delimiters"):
        check_readable(bad)
    storage.write_bytes(f"{tmp_path}/b.jsonl", b"{\n[1]")
    errors = [row.reason for _, row in rows(f"{tmp_path}/*.jsonl", "rows") if isinstance(row, UnreadableRow)]
    assert errors[0].startswith("not JSON (")
    assert errors[1] == "not a JSON object"


def test_a_file_of_another_kind_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/a.orc", b"x")
    with pytest.raises(UserError, match=r"a\.orc: labels are read from \.parquet, \.jsonl, \.ndjson, \.csv, \.tsv"):
        list(rows(str(tmp_path), "labels"))
    with pytest.raises(UserError, match=r"\*\.csv: no files there"):
        list(rows(f"{tmp_path}/*.csv", "labels"))


def test_a_row_without_an_id_is_called_by_its_file_and_number() -> None:
    assert id_of("s3://shop/a row 1/reviews.csv row 12") == "reviews.csv-12"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", "sep=;\r\na;b\r\n1;가, 나\r\n".encode("cp949")),
        ("a.csv", "a;b\n1;가, 나\n".encode()),
        ("a.tsv", "a\tb\n1\t가, 나\n".encode("utf-16")),
        ("a.csv.gz", gzip.compress('a,b\n1,"가, 나"\n'.encode(), mtime=0)),
        ("a.jsonl.gz", gzip.compress(b'{"a": "1", "b": "\\uac00, \\ub098"}', mtime=0)),
        ("a.jsonl", '{"a": "1", "b": "가, 나"}'.encode("utf-16")),
    ],
    ids=range(6),
)
def test_rows_are_read_however_they_are_written(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert [row for _, row in rows(str(tmp_path), "rows")] == [ROW]


def test_a_workbook_is_read(tmp_path: Path) -> None:
    workbook(tmp_path / "a.xlsx", [["a", "b"], [1, "가, 나"]])
    assert [row for _, row in rows(str(tmp_path), "rows")] == [ROW]


def test_stray_quotes_swallow_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('id\ttext\tn\n1\t"좋아\t1\n2\t보통\t2\n3\t"나쁨\t3\n', encoding="utf-8")
    assert [row["text"] for _, row in rows(str(tmp_path), "rows")] == ['"좋아', "보통", '"나쁨']


def test_a_stray_quote_of_a_csv_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,그는 "좋다" 했다\n2,"나쁨\n3,"굿, ""정말"""\n', encoding="utf-8")
    found = list(rows(str(tmp_path), "rows"))
    assert [location.rpartition(" ")[2] for location, row in found if isinstance(row, UnreadableRow)] == ["3"]
    assert [row["text"] for _, row in found if not isinstance(row, UnreadableRow)] == ['그는 "좋다" 했다', '굿, "정말"']
    with pytest.raises(UserError, match="a stray quote: write"):
        check_readable(found[1][1])


def test_a_column_called_error_is_a_column(tmp_path: Path) -> None:
    for name, data in (("a.csv", "a,error\n1,mine\n"), ("b.jsonl", '{"a": "1", "error": "mine"}')):
        (tmp_path / name).write_text(data, encoding="utf-8")
        [(_, row)] = rows(f"{tmp_path}/{name}", "rows")
        check_readable(row)
        assert row == {"a": "1", "error": "mine"}


def test_half_a_character_costs_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "\\ud83d"}\n{"a": "\\ud83d\\ude00"}\n', encoding="utf-8")
    bad, good = [row for _, row in rows(str(tmp_path), "rows")]
    assert isinstance(bad, UnreadableRow)
    assert bad.reason.startswith("half a character")
    assert good == {"a": "😀"}
