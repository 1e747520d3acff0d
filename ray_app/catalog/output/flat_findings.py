"""Analyses with their findings nested -> one row per finding, for spreadsheets and SQL that know no lists.

In: analyses. Out: a table of review_id, kept columns, keyword, score, probability and the two words.
"""

import pyarrow as pa
import pyarrow.compute as pc

from ray_app.data.schema import ANALYSIS

FOLDER, KEPT = "findings", "kept_"
OWN = ("keyword", "score", "probability", "highlight", "opinion")
LEFT = frozenset({"text", "embedding", *(name for name, _ in ANALYSIS)})  # columns of analyses that are not repeated


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
