"""Synthetic analyses to measure `jobs.acquire` with: any number of rows, in the memory of one file.

python -m tests.experiments.synthetic_analyses --rows 1000000 --output runs/synthetic
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.cli import main
from ray_app.data.schema import FINDING, HIGHLIGHT
from ray_app.data.taxonomy import load
from ray_app.options import Options, option
from ray_app.sample import unlabeled_texts

MALLS, CATEGORIES, SCORES = 4, 8, 5


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of this script."""

    rows: int = option(100_000, "analyses to write", least=0)
    output: str = option("/tmp/synthetic", "output folder")
    file_rows: int = option(10_000, "rows per file", least=1)
    dimensions: int = option(0, "width of the embedding column, 0 for none", least=0)
    seed: int = option(0, "seed of everything random")


def write(config: Config) -> None:
    """Writes OUTPUT/data/*.parquet: each text is two reviews, most keywords are certain, a few near their threshold."""
    phrases = np.array(unlabeled_texts(5_000), object)
    folder = Path(config.output) / "data"
    folder.mkdir(parents=True)
    for first in range(0, config.rows, config.file_rows):
        rng = np.random.default_rng([config.seed, first])
        rows = min(config.file_rows, config.rows - first)
        pq.write_table(table(rng, phrases, first, rows, config.dimensions), folder / f"{first:010d}.parquet")


def table(rng: np.random.Generator, phrases: np.ndarray, first: int, rows: int, dimensions: int) -> pa.Table:
    """[rows] analyses with ids from `first`."""
    names = load().names
    probabilities = rng.beta(0.1, 0.6, (rows, len(names))).round(4).astype(np.float32)
    row, keyword = np.nonzero(probabilities >= 0.5)
    scores = rng.dirichlet(np.full(SCORES, 0.2), len(row)).round(4).astype(np.float32)
    findings = pa.StructArray.from_arrays(
        [
            pa.array(np.array(names, object)[keyword]),
            pa.array(probabilities[row, keyword]),
            pa.array((scores.argmax(1) - 2).astype(np.int8)),
            _lists(scores),
            pa.nulls(len(row), HIGHLIGHT),
            pa.nulls(len(row), HIGHLIGHT),
        ],
        fields=list(FINDING),
    )
    offsets = pa.array(np.searchsorted(row, np.arange(rows + 1)).astype(np.int32))
    columns = {
        "review_id": [f"r{first + i:09d}" for i in range(rows)],
        "text": phrases[rng.integers(0, len(phrases), rows)] + " " + phrases[rng.integers(0, len(phrases), rows)],
        "mall": [f"mall-{i}" for i in rng.zipf(1.5, rows).clip(1, MALLS)],
        "category": [f"category-{i}" for i in rng.integers(0, CATEGORIES, rows)],
        "keyword_probabilities": _lists(probabilities),
        "findings": pa.ListArray.from_arrays(offsets, findings),
    }
    if dimensions:
        vectors = rng.standard_normal((rows, dimensions)).astype(np.float16)
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimensions)
    return pa.table(columns)


def _lists(values: np.ndarray) -> pa.Array:
    """[rows, length] as one list per row."""
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return fixed.cast(pa.list_(pa.float32()))


if __name__ == "__main__":
    main(Config, write, __doc__ or "")
