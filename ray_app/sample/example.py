"""Writes `analyses/`: the shipped catalog analyzed by the shipped bundle, which the page shows on a first visit.

example: python -m jobs.analyze --placement here --keep product,category,mall,rating,created_at --output runs/example
         python -m ray_app.sample.example runs/example

In: those analyses. Out: the same in one small file, without the probabilities that the page does not show.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.sample import ANALYSES

LEFT_OUT = ("keyword_probabilities", "score_probabilities")


def write(folder: Path, target: Path = ANALYSES) -> int:
    """Writes the example and returns its size in bytes."""
    table = pq.read_table(folder / "data").sort_by("review_id")
    at = table.schema.get_field_index("findings")
    lists = table["findings"].combine_chunks()
    flat = lists.flatten()
    kept = [field for field in flat.type if field.name not in LEFT_OUT]
    structs = pa.StructArray.from_arrays([flat.field(field.name) for field in kept], fields=kept)
    table = table.set_column(at, "findings", pa.ListArray.from_arrays(lists.offsets, structs))
    (target / "data").mkdir(parents=True, exist_ok=True)
    file = target / "data" / "example.parquet"
    pq.write_table(table.drop_columns([LEFT_OUT[0]]), file, compression="zstd", compression_level=19)
    run = json.loads((folder / "_run.json").read_text(encoding="utf-8"))
    facts = {name: run[name] for name in ("rows_in", "analysed", "rejected", "findings", "bundle")}
    content = {**facts, "config": {"input": "sample", "bundle": "ready"}}
    (target / "_run.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return file.stat().st_size


if __name__ == "__main__":
    print(f"{ANALYSES}: {write(Path(sys.argv[1])):,} bytes")
