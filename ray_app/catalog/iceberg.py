"""The files of an output -> rows of an Iceberg table, each file once, by Ray's own writer.

In: a finished output. The catalog is the one that pyiceberg's standard configuration calls `default`
(`.pyiceberg.yaml`, `PYICEBERG_CATALOG__DEFAULT__URI`). The table and its snapshots record how many of the output's
files they hold, so that a run that is resumed or added to appends only what is new.
"""

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog.compaction import published
from ray_app.storage.iceberg import open_catalog

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


def append_new_files(out: str, table: str) -> int:
    """Appends the files that `table` (`namespace.table`) does not hold yet, and returns how many rows those are.

    Creates the table where it does not exist. Raises UserError where the catalog cannot be opened.
    """
    import ray.data

    from ray_app import cluster

    catalog = open_catalog(table)
    files = [done for _, done in published(out) if done and done["file"].startswith("data/")]
    key = f"nunchi.{hashlib.sha256(out.encode()).hexdigest()[:8]}.files"
    new = files[_appended(catalog, table, key) :]
    if not new:
        return 0
    read = _FileReader(out)
    catalog.create_table_if_not_exists(table, schema=read.table(new[0]["file"]).schema)
    cluster.start()
    rows = [{"file": done["file"]} for done in new]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset = dataset.map_batches(read, batch_size=1, batch_format="pyarrow")
    dataset.write_iceberg(table, {"name": "default"}, snapshot_properties={key: str(len(files))})
    with catalog.load_table(table).transaction() as change:  # snapshots expire, a table's properties stay
        change.set_properties({key: str(len(files))})
    return sum(done["rows"] for done in new)


class _FileReader:
    """Reads an output file, with the columns that its folders stand for."""

    def __init__(self, out: str) -> None:
        self.out = out

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self.table(batch["file"][0].as_py())

    def table(self, file: str) -> pa.Table:
        """The rows of `file`, a path below the output."""
        with storage.open_input(storage.join(self.out, file)) as source:
            table = pq.ParquetFile(source).read()
        for column, value in storage.partition(file, "").items():
            table = table.append_column(column, pa.array([value] * len(table), pa.string()))
        return table


def _appended(catalog: "Catalog", name: str, key: str) -> int:
    """How many of the output's files the table holds."""
    if not catalog.table_exists(name):
        return 0
    table = catalog.load_table(name)
    properties = [table.properties, *(s.summary.additional_properties for s in table.snapshots() if s.summary)]
    return max((int(each.get(key, 0)) for each in properties), default=0)
