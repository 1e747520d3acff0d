"""A small catalog of two files, and runs of `jobs.analyze` over it without Ray."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from ray_app.catalog import analyze, verify
from tests.support.bundles import sample_texts

TEXTS = sample_texts(60)


def write(path: Path, first: int, last: int) -> None:
    malls = ["가" if i % 3 else "나" for i in range(first, last)]
    pq.write_table(pa.table({"id": list(range(first, last)), "text": TEXTS[first:last], "mall": malls}), path)


def config(reviews: Path, bundle: str, **changes: Any) -> analyze.Config:
    settings: dict[str, Any] = {
        "output": str(reviews.parent / "out"),
        "highlights": "off",
        "placement": "here",
        "device": "cpu",
        "unit_rows": 8,
        "keep": "mall",
        **changes,
    }
    return analyze.Config(input=str(reviews), bundle=bundle, **settings)


def rows(reviews: Path) -> list[dict[str, Any]]:
    table = pads.dataset(str(reviews.parent / "out" / "data"), partitioning="hive").to_table()
    return sorted(table.to_pylist(), key=lambda row: int(row["review_id"]))


def verified(reviews: Path) -> int:
    return verify.run(verify.Config(output=str(reviews.parent / "out")))
