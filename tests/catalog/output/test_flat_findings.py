"""The flat table as CSV: no text of a stranger runs as a formula."""

import csv
import io

import pyarrow as pa
import pytest

from ray_app.catalog.output.flat_findings import flat_table
from ray_app.data.arrow_csv import to_csv
from ray_app.data.schema import FINDING


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "＝1+1", "＋1", "－1", "＠x", "\t=1", "\n=1"])
def test_what_a_spreadsheet_would_run_is_guarded(text: str) -> None:
    written = to_csv(pa.table({"product": [text, "좋은 셔츠", None], "score": [-1, 0, 1]})).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(written, newline="")))
    assert rows[1:] == [[f"'{text}", "-1"], ["좋은 셔츠", "0"], ["", "1"]]


def test_kept_columns_with_the_names_of_the_tables_own_are_all_there() -> None:
    finding = {"keyword": "배송", "score": 1, "probability": 0.9}
    columns = {
        "review_id": ["a"],
        "keyword": ["x"],
        "kept_keyword": ["y"],
        "findings": pa.array([[finding]], pa.list_(FINDING)),
    }
    [row] = flat_table(pa.table(columns)).to_pylist()
    assert (row["keyword"], row["kept_keyword"], row["kept_kept_keyword"]) == ("배송", "y", "x")
