"""Small catalogs of any kind, planned and read without a model: which rows come in, and which are set aside."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.data import reviews

TEXTS = ["배송이 빨라요", "색이 예뻐요", "핏이 별로예요"]
PLACE = ("source_file", "source_row")


def parquet(path: Path, **columns: Any) -> Path:
    """A file of reviews: `review_id` and `text` unless given; a column given as None is left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = max((len(values) for values in columns.values() if values is not None), default=3)
    given = {"review_id": [f"{path.stem}{i}" for i in range(rows)], "text": (TEXTS * rows)[:rows], **columns}
    pq.write_table(pa.table({name: values for name, values in given.items() if values is not None}), path)
    return path


def planned(uri: object, keep: str = "", mapping: str = "", unit_rows: int = 2_000, **options: Any) -> reviews.Plan:
    """The plan of an input."""
    kept = tuple(filter(None, keep.split(",")))
    return reviews.plan(reviews.resolve_input(str(uri)), mapping, kept, unit_rows, "", **options)


def rows(plan: reviews.Plan) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Accepted rows, without the place they come from, and rejected rows of all units."""
    accepted: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    for unit in reviews.read_units(plan.units, plan.columns):
        if unit.accepted is not None:
            accepted += unit.accepted.drop_columns(list(PLACE)).to_pylist()
        rejected += unit.rejected.to_pylist()
    assert len(accepted) + sum(row["rows"] for row in rejected) == plan.rows
    return accepted, rejected


def values(uri: object, name: str, **options: Any) -> list[Any]:
    """One column of the accepted rows; no row may be rejected."""
    accepted, rejected = rows(planned(uri, **options))
    assert rejected == []
    return [row[name] for row in accepted]
