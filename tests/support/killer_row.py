"""Analyzes 150 rows under the crash journal at argv[1]; row 100 kills this process, as a segfault would."""

import os
import sys

import pyarrow as pa

from ray_app.catalog.poison_rows import CrashJournal


def run(rows: pa.Table) -> pa.Table:
    """The rows as they are, unless one of them kills."""
    if "killer" in rows["text"].to_pylist():
        os._exit(139)
    return rows


if __name__ == "__main__":
    texts = ["killer" if i == 100 else "good" for i in range(150)]
    table = pa.table({"review_id": [str(i) for i in range(150)], "text": texts})
    tables, bad = CrashJournal(sys.argv[1]).run(run, table)
    print(sum(map(len, tables)), bad)
