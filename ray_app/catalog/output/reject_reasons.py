"""Why rows were rejected, by reason: how many rows, and the first of them. In: REJECTED tables. Out: counts."""

import re
from collections.abc import Mapping
from typing import TypedDict

import pyarrow as pa

from ray_app.data.reviews import CHANGED, UNREADABLE

_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,.:e+]*")  # what differs between two rejects for the same reason
LONGEST = 100  # characters of a reason
SHOWN = 60  # characters of a value in an example


class Reason(TypedDict):
    """How many rows were rejected for one reason, and the first of them."""

    rows: int
    example: str


def count(rejected: pa.Table) -> dict[str, Reason]:
    """Reason, without what varies -> its rows and an example."""
    found: dict[str, Reason] = {}
    for row in rejected.to_pylist():
        reason = _VARIES.sub("…", row["reason"])[:LONGEST]
        known = found.setdefault(reason, {"rows": 0, "example": _example(row)})
        known["rows"] += row["rows"]
    return found


def merge(into: dict[str, Reason], more: Mapping[str, Reason]) -> None:
    """Adds counts to others; the first example stays."""
    for name, reason in more.items():
        known = into.setdefault(name, {"rows": 0, "example": reason["example"]})
        known["rows"] += reason["rows"]


def unreadable(rejected: pa.Table) -> dict[str, str]:
    """File -> reason, of the files of which a part, or nothing, could be read."""
    rows = zip(rejected["file"].to_pylist(), rejected["reason"].to_pylist(), rejected["rows"].to_pylist(), strict=True)
    return {file: why for file, why, rows_ in rows if rows_ == 0 or why.startswith(UNREADABLE) or why == CHANGED}


def _example(row: Mapping[str, object]) -> str:
    """`a.parquet row 5 (id 17): 'text'`."""
    place = f"{row['file']} row {row['row']}"
    identity = f" (id {row['review_id']})" if row["review_id"] is not None else ""
    value = f": {str(row['value'])[:SHOWN]!r}" if row["value"] is not None else ""
    return f"{place}{identity}{value}; {row['reason']}"
