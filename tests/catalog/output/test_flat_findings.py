"""The flat table as CSV: no text of a stranger runs as a formula."""

import csv
import io

import pyarrow as pa
import pytest

from ray_app.catalog.output.flat_findings import to_csv


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "＝1+1", "＋1", "－1", "＠x", "\t=1", "\n=1"])
def test_what_a_spreadsheet_would_run_is_guarded(text: str) -> None:
    written = to_csv(pa.table({"product": [text, "좋은 셔츠", None], "score": [-1, 0, 1]})).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(written, newline="")))
    assert rows[1:] == [[f"'{text}", "-1"], ["좋은 셔츠", "0"], ["", "1"]]
