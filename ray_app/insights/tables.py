"""The tables of a report as files: Parquet, and CSV for spreadsheets. In: tables. Out: OUTPUT/tables/NAME.*."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import pyarrow as pa

from ray_app import storage
from ray_app.data.arrow_csv import to_csv
from ray_app.insights.store import Row


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Every table of a report, by its name."""

    keywords: pa.Table
    words: pa.Table
    quotes: pa.Table
    groups: pa.Table
    trend: pa.Table
    changes: pa.Table
    star_drivers: pa.Table
    star_drivers_by_product: pa.Table
    stars: pa.Table
    quality: pa.Table
    drift: pa.Table
    against: pa.Table

    def each(self) -> Iterator[tuple[str, pa.Table]]:
        """(name, table) of every one."""
        for field in fields(self):
            yield field.name, getattr(self, field.name)


def write(folder: str, tables: Tables) -> None:
    """Writes the tables; text that a spreadsheet would run as a formula gets an apostrophe in CSV."""
    for name, table in tables.each():
        storage.write_parquet(storage.join(folder, "tables", f"{name}.parquet"), table)
        storage.write_bytes(storage.join(folder, "tables", f"{name}.csv"), to_csv(table))


def read(folder: str) -> dict[str, pa.Table]:
    """The tables of a report that was written. Raises UserError where there is none."""
    files = storage.list_files(storage.join(folder, "tables"), ".parquet")
    return {file.uri.rpartition("/")[2].removesuffix(".parquet"): storage.read_parquet(file.uri) for file in files}


def by_value(table: pa.Table, key: str) -> Mapping[str, list[Row]]:
    """The rows of a table by one column's value."""
    found: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        found.setdefault(str(row[key]), []).append(row)
    return found
