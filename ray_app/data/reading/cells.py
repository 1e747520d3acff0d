"""Rows of Python values -> columns with types: what CSV, JSON lines and sheets have in common.

In: rows as lists of values. Out: the type of every column, known once all rows were seen; tables with those types.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time

import pyarrow as pa

from ray_app.data.column_types import EXACT
from ray_app.data.columns import Dialect, Layout
from ray_app.data.values import Scalar, text_of

Row = tuple[list[Scalar], str | None]  # a row's values, and why it could not be read
ERRORS = ("#REF!", "#N/A", "#DIV/0!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!")  # what a sheet shows for no value
TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us"),
    "date": pa.date32(),
    "null": pa.null(),
}


@dataclass
class ColumnKinds:
    """What the values of one column are, seen one by one."""

    kinds: set[str] = field(default_factory=set)
    low: int = 0
    high: int = 0  # these two of integers
    largest: float = 0.0  # of all numbers, without sign

    def add(self, value: Scalar) -> None:
        """Takes one value in."""
        if value is None:
            return
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self.largest = max(self.largest, abs(value))
        if isinstance(value, bool):
            self.kinds.add("bool")
        elif isinstance(value, int):
            self.kinds.add("int64")
            self.low, self.high = min(self.low, value), max(self.high, value)
        else:
            kinds = {str: "string", float: "double", datetime: "timestamp", date: "date"}
            self.kinds.add(kinds.get(type(value), "other"))

    @property
    def type(self) -> str:
        """The name in TYPES of a type that holds all values exactly."""
        if not self.kinds:
            return "null"
        largest = max(-self.low, self.high)
        if self.kinds == {"int64"}:
            return "int64" if largest < 2**63 else "string"
        if self.kinds == {"int64", "double"}:
            return "double" if largest <= EXACT else "string"
        if self.kinds == {"date", "timestamp"}:
            return "timestamp"
        return next(iter(self.kinds)) if len(self.kinds) == 1 and "other" not in self.kinds else "string"


def schema_of(dialect: Dialect) -> pa.Schema:
    """The columns of a text file or sheet."""
    types = dialect.types or ("string",) * len(dialect.names)
    return pa.schema([(name, TYPES[kind]) for name, kind in zip(dialect.names, types, strict=True)])


def table_of(rows: Sequence[Row], layout: Layout) -> tuple[pa.Table, dict[int, str]]:
    """Rows -> a table of the layout's columns, and the rows that could not be read, with the reason."""
    assert layout.dialect is not None
    schema, bad = schema_of(layout.dialect), {i: error for i, (_, error) in enumerate(rows) if error}
    columns: dict[str, pa.Array] = {}
    for name in layout.names:
        at = schema.names.index(name)
        of = schema.field(at).type
        values = [cells[at] if at < len(cells) else None for cells, _ in rows]
        if pa.types.is_string(of) or pa.types.is_null(of):
            columns[name] = _texts(values, name in (layout.text, layout.review_id), bad, name == layout.text)
        elif pa.types.is_timestamp(of):
            columns[name] = pa.array([_moment(value) for value in values], of)
        else:
            columns[name] = pa.array(values, of)
    return pa.table(columns) if columns else pa.table({"": pa.nulls(len(rows))}), bad


def _moment(value: Scalar) -> Scalar:
    """A date as the moment at which it begins."""
    return datetime.combine(value, time()) if type(value) is date else value


def _texts(values: Sequence[Scalar], strict: bool, bad: dict[int, str], blank: bool) -> pa.Array:
    """Values as text, where `strict` those of an id or a text: what can be none makes the row bad.

    As bytes where some hold what the encoding does not know, for `values.conform` to escape and count.
    """
    result: list[str | None] = []
    unknown = False
    for i, value in enumerate(values):
        text = value if isinstance(value, str) else text_of(value)
        if strict and (isinstance(value, (bool, list, dict)) or value in ERRORS):
            bad.setdefault(i, f"{'text' if blank else 'id'} is {text[:20] if text else ''}")
        if text is not None and not text.isascii() and not _encodable(text):
            unknown = True
            if strict:
                bad.setdefault(i, "bytes that the file's encoding does not know, or half a character")
                text = _bytes(text).decode("utf-8", "backslashreplace")
        result.append(text if text or blank else None)
    if unknown and not strict:
        return pa.array([None if text is None else _bytes(text) for text in result], pa.binary())
    return pa.array(result, pa.string())


def _bytes(text: str) -> bytes:
    """Text with bytes that no encoding knew (`surrogateescape`), and with halves of characters, as bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
