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
    ]
)
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
UNITS = pa.schema(  # the units of a plan: `reviews.Unit`
    [
        ("id", pa.string()),
        ("file", pa.string()),
        ("version", pa.string()),
        ("row_group", pa.int64()),
        ("skip", pa.int64()),
        ("first", pa.int64()),
        ("rows", pa.int64()),
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
    return pa.Table.from_pylist(
        [dict(zip(REJECTED.names, (i, _shortened(value), *rest), strict=True)) for i, value, *rest in rows],
        schema=REJECTED,
    )


def rejected_unit(file: str, first_row: int, reason: str) -> pa.Table:
    """One REJECTED row for a whole unit, or a whole file, that could not be read."""
    return rejected_rows([(None, None, reason, file, first_row)])


def _shortened(value: object) -> str | None:
    return None if value is None else str(value)[:MAX_CHARACTERS]
