"""An Arrow table as CSV that spreadsheets open: UTF-8 with a byte order mark. In: a table. Out: bytes."""

import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ray_app.data.column_types import is_nested, is_text
from ray_app.data.values import texts

BOM = "\ufeff".encode()  # without it Excel reads Korean as cp949
FORMULA = r"[=+\-@＝＋－＠\t\r\n]"  # what starts one: https://owasp.org/www-community/attacks/CSV_Injection


def to_csv(table: pa.Table) -> bytes:
    """The table as CSV in UTF-8 with a byte order mark; nested values as JSON.

    An apostrophe goes before text that a spreadsheet would run as a formula: reviews are strangers' texts.
    """
    for i, field in enumerate(table.schema):
        if is_nested(field.type) or is_text(field.type):
            table = table.set_column(i, field.name, _guarded(table[field.name].combine_chunks()))
    names = [f"'{name}" if re.match(FORMULA, name) else name for name in table.column_names]  # columns may be anyone's
    table = table.rename_columns(names)
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return BOM + bytes(sink.getvalue())


def _guarded(column: pa.Array) -> pa.Array:
    """The values as text that no spreadsheet runs."""
    if pa.types.is_string(column.type):  # names repeat: each is looked at once
        encoded = column.dictionary_encode()
        return _without_formulas(encoded.dictionary).take(encoded.indices)
    return _without_formulas(column)


def _without_formulas(column: pa.Array) -> pa.Array:
    plain = pa.array(texts(column), pa.string())
    risky = pc.match_substring_regex(plain, f"^{FORMULA}")
    return pc.if_else(risky, pc.binary_join_element_wise("'", plain, ""), plain)
