"""rows: every row comes with the location at which a person finds it, whatever the format."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.errors import UserError
from ray_app.labels.rows import id_of, read_csv, read_parquet, rows

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


def test_parquet_is_read_whole_or_by_its_required_columns(tmp_path: Path) -> None:
    uri = f"{tmp_path}/a.parquet"
    storage.write_parquet(uri, pa.table({"a": ["1"], "b": ["가, 나"], "c": [1]}))
    assert list(rows(str(tmp_path), "rows")) == [(f"{uri} row 1", ROW | {"c": 1})]
    assert list(read_parquet(uri, ("a", "b"), ("d",))) == [(f"{uri} row 1", ROW)]
    with pytest.raises(UserError, match=r"a\.parquet: no column 'd'"):
        list(read_parquet(uri, ("a", "d")))


def test_a_cell_without_a_name_and_a_broken_line_are_errors_of_their_row(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/a.csv", b"a,b\n1,2,3\n1\n1,2,\n")
    assert [row for _, row in read_csv(f"{tmp_path}/a.csv")] == [
        {"error": "3 cells under 2 names; quote commas"},
        {"a": "1"},
        {"a": "1", "b": "2"},
    ]
    storage.write_bytes(f"{tmp_path}/b.jsonl", b"{\n[1]")
    errors = [str(row["error"]) for _, row in rows(f"{tmp_path}/*.jsonl", "rows")]
    assert errors[0].startswith("not JSON (")
    assert errors[1] == "not a JSON object"


def test_a_file_of_another_kind_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/a.xlsx", b"x")
    with pytest.raises(UserError, match=r"a\.xlsx: labels are read from \.parquet, \.jsonl, \.ndjson, \.csv, \.tsv"):
        list(rows(str(tmp_path), "labels"))
    with pytest.raises(UserError, match=r"\*\.csv: no files there"):
        list(rows(f"{tmp_path}/*.csv", "labels"))


def test_a_row_without_an_id_is_called_by_its_file_and_number() -> None:
    assert id_of("s3://shop/a row 1/reviews.csv row 12") == "reviews.csv-12"
