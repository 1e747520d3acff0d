"""The Arrow columns of every table that is written, and tables of rejected rows.

In: rejected rows with their reason and location. Out: REJECTED tables. `rows.py` has the same rows as Python sees them.
"""

from collections.abc import Sequence

import pyarrow as pa

MAX_CHARACTERS = 20_000
HIGHLIGHT = pa.struct([("word", pa.string()), ("start", pa.int32()), ("end", pa.int32()), ("drop", pa.float32())])
FINDING = pa.struct(
    [
        ("keyword", pa.string()),
        ("probability", pa.float32()),
        ("score", pa.int8()),
        ("score_probabilities", pa.list_(pa.float32())),
        ("highlight", HIGHLIGHT),
        ("opinion", HIGHLIGHT),
    ]
)
ANALYSIS = [
    ("keyword_probabilities", pa.list_(pa.float32())),
    ("findings", pa.list_(FINDING)),
    ("truncated", pa.bool_()),
]


ROW_OPTIONS = [  # options of a row, null for the bundle's defaults: least probability, most keywords, highlights
    ("_threshold", pa.float32()),
    ("_top_k", pa.int32()),
    ("_highlights", pa.bool_()),
]
REJECTED = pa.schema(
    [
        ("review_id", pa.string()),
        ("value", pa.string()),
        ("reason", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("rows", pa.int64()),  # how many rows it stands for: 1, all of a unit that is unreadable, 0 for a whole file
    ]
)
NONE_REJECTED = REJECTED.empty_table()
LABEL = pa.struct(
    [
        ("keyword", pa.string()),
        ("score", pa.int8()),
        ("highlights", pa.list_(pa.string())),
        ("opinions", pa.list_(pa.string())),
    ]
)
LABELED = pa.schema(
    [("review_id", pa.string()), ("text", pa.string()), ("labels", pa.list_(LABEL)), ("split", pa.string())]
)
PROVENANCE = [("labeller", pa.string()), ("labelled_at", pa.timestamp("us", "UTC"))]
ANSWERS = pa.schema([*(field for field in LABELED if field.name != "split"), *PROVENANCE])
FILES = pa.schema(  # the files of a plan: `reviews.Source`
    [("file", pa.string()), ("version", pa.string()), ("rows", pa.int64()), ("reason", pa.string())]
)
UNITS = pa.schema(  # the pieces of a plan's units: those of one unit follow one another
    [
        ("id", pa.string()),
        ("file", pa.string()),
        ("version", pa.string()),
        ("row_group", pa.int64()),
        ("skip", pa.int64()),
        ("first", pa.int64()),
        ("rows", pa.int64()),
        ("layout", pa.int64()),
        ("start", pa.int64()),
    ]
)


def with_opinions(table: pa.Table) -> pa.Table:
    """Analyses or labels of a release whose findings and labels had no words for the feeling, with null ones."""
    for name, item in (("findings", FINDING), ("labels", LABEL)):
        at = table.schema.get_field_index(name)
        if at < 0 or table.schema.field(at).type == pa.list_(item):
            continue
        lists = table[name].combine_chunks()
        flat = lists.flatten()
        columns = [
            flat.field(f.name) if flat.type.get_field_index(f.name) >= 0 else pa.nulls(len(flat), f.type) for f in item
        ]
        rows = pa.StructArray.from_arrays(columns, fields=list(item))
        table = table.set_column(at, name, pa.ListArray.from_arrays(lists.offsets, rows))
    return table


def rejected_rows(rows: Sequence[tuple[str | None, object, str, str, int]]) -> pa.Table:
    """(review id, value, reason, file, row) -> REJECTED; a value is kept as text of at most MAX_CHARACTERS."""
    if not rows:
        return NONE_REJECTED
    names = REJECTED.names[:-1]
    return pa.Table.from_pylist(
        [dict(zip(names, (i, _shortened(value), *rest), strict=True)) | {"rows": 1} for i, value, *rest in rows],
        schema=REJECTED,
    )


def rejected_unit(file: str, first_row: int, reason: str, rows: int = 0) -> pa.Table:
    """One REJECTED row for `rows` rows that could not be read, or for a whole file, whose rows are not counted."""
    table = rejected_rows([(None, None, reason, file, first_row)])
    return table.set_column(len(REJECTED) - 1, "rows", pa.array([rows], pa.int64()))


def with_rows(table: pa.Table) -> pa.Table:
    """Rejects of a release that did not say how many rows each stands for; other tables as they are."""
    if "reason" not in table.column_names or "rows" in table.column_names:
        return table
    return table.append_column("rows", pa.nulls(len(table), pa.int64()))


def _shortened(value: object) -> str | None:
    return None if value is None else str(value)[:MAX_CHARACTERS]
