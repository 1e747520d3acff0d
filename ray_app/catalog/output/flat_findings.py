"""Analyses with their findings nested -> one row per finding, for spreadsheets and SQL that know no lists.

In: analyses. Out: a table of review_id, kept columns, keyword, score, probability and the two words; the same as CSV.
"""

import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ray_app.data.column_types import is_nested, is_text
from ray_app.data.schema import ANALYSIS
from ray_app.data.values import texts
from ray_app.labels.spreadsheet import FORMULA

FOLDER, KEPT = "findings", "kept_"
OWN = ("keyword", "score", "probability", "highlight", "opinion")
LEFT = frozenset({"text", "embedding", *(name for name, _ in ANALYSIS)})  # columns of analyses that are not repeated
BOM = "\ufeff".encode()  # without it Excel reads Korean as cp949


def flat_table(analyzed: pa.Table) -> pa.Table:
    """One row per finding. A kept column with the name of a finding's is called `kept_NAME`."""
    findings = analyzed["findings"].combine_chunks()
    rows = pc.list_parent_indices(findings)
    flat = findings.flatten()
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name in analyzed.column_names:
        if name not in LEFT:
            own = name
            while own in OWN or (own != name and own in analyzed.column_names):
                own = f"{KEPT}{own}"
            columns[own] = analyzed[name].take(rows)
    for name in OWN:
        value = flat.field(name)
        columns[name] = pc.struct_field(value, "word") if pa.types.is_struct(value.type) else value
    return pa.table(columns)


def to_csv(table: pa.Table) -> bytes:
    """The table as CSV in UTF-8 with a byte order mark; nested values as JSON.

    An apostrophe goes before text that a spreadsheet would run as a formula: reviews are strangers' texts.
    """
    for i, field in enumerate(table.schema):
        if is_nested(field.type) or is_text(field.type):
            column = pa.array(texts(table[field.name]), pa.string())
            risky = pc.match_substring_regex(column, f"^{FORMULA}")
            guarded = pc.binary_join_element_wise("'", column, "")
            table = table.set_column(i, field.name, pc.if_else(risky, guarded, column))
    names = [f"'{name}" if re.match(FORMULA, name) else name for name in table.column_names]  # columns may be anyone's
    table = table.rename_columns(names)
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return BOM + bytes(sink.getvalue())
