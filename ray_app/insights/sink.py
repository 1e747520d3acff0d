"""A report's tables in the user's Iceberg catalog, where BI tools read them: PREFIX_keywords, PREFIX_groups, ...

In: the tables. Out: the same rows in place of those of the last report; a table's snapshots keep the earlier ones.
"""

import warnings

from ray_app.insights.tables import Tables
from ray_app.storage.iceberg import open_catalog


def write(prefix: str, tables: Tables) -> int:
    """Replaces the rows of all tables, each as a whole, and returns how many rows they have.

    Raises UserError where the catalog cannot be opened.
    """
    catalog = open_catalog(prefix)
    rows = 0
    for name, table in tables.each():
        there = catalog.create_table_if_not_exists(f"{prefix}_{name}", schema=table.schema)
        if set(table.column_names) - set(there.schema().column_names):  # a later release has more columns
            with there.update_schema() as update:
                update.union_by_name(table.schema)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that there was no row to replace
            there.overwrite(table)
        rows += table.num_rows
    return rows
