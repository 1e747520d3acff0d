"""An output's files -> rows of an Iceberg table, each file once, by Ray's own writer.

In: a finished output. The catalog is the one pyiceberg's standard configuration calls `default` (`.pyiceberg.yaml`,
`PYICEBERG_CATALOG__DEFAULT__URI`). A snapshot says through which file it took the output in, so that a run that is gone
on with, or added to, appends only what is new.
"""

import hashlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog.compaction import published
from ray_app.errors import UserError, first_line

MISSING = "--sink iceberg needs pyiceberg: pip install -e '.[iceberg]'"


def catalog(name: str) -> Any:
    """The catalog, with the namespace of the table `name`. Raises UserError where it cannot be opened."""
    try:
        from pyiceberg.catalog import load_catalog
    except ImportError:
        raise UserError(MISSING) from None
    try:
        found = load_catalog("default")
        found.create_namespace_if_not_exists(name.rpartition(".")[0])
    except Exception as error:  # whatever the user's catalog raises
        raise UserError(f"--sink iceberg: the catalog 'default' cannot be opened ({first_line(error)})") from None
    return found


def iceberg(out: str, name: str) -> int:
    """Appends to the table `name` (`namespace.table`, made where it is not) and returns how many rows."""
    import ray.data

    from ray_app import cluster

    home = catalog(name)
    done = [facts for _, facts in published(out) if facts and facts["file"].startswith("data/")]
    key = f"nunchi.{hashlib.sha256(out.encode()).hexdigest()[:8]}.files"
    new = done[_taken(home, name, key) :]
    if not new:
        return 0
    read = _Reader(out)
    home.create_table_if_not_exists(name, schema=read.table(new[0]["file"]).schema)
    cluster.start()
    rows = [{"file": facts["file"]} for facts in new]
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    data = data.map_batches(read, batch_size=1, batch_format="pyarrow")
    data.write_iceberg(name, {"name": "default"}, snapshot_properties={key: str(len(done))})
    with home.load_table(name).transaction() as change:  # snapshots expire, a table's properties stay
        change.set_properties({key: str(len(done))})
    return sum(facts["rows"] for facts in new)


class _Reader:
    """A file's rows, with the column that its folders stand for."""

    def __init__(self, out: str) -> None:
        self.out = out

    def __call__(self, batch: Any) -> pa.Table:
        return self.table(batch["file"][0].as_py())

    def table(self, file: str) -> pa.Table:
        with storage.open_input(storage.join(self.out, file)) as source:
            table = pq.ParquetFile(source).read()
        for column, value in storage.partition(file, "").items():
            table = table.append_column(column, pa.array([value] * len(table), pa.string()))
        return table


def _taken(home: Any, name: str, key: str) -> int:
    """How many of the output's files the table has."""
    if not home.table_exists(name):
        return 0
    table = home.load_table(name)
    told = [table.properties, *(s.summary.additional_properties for s in table.snapshots() if s.summary)]
    return max((int(facts.get(key, 0)) for facts in told), default=0)
