"""How many ids an output has on more than one row. In: its files. Out: a count, exact up to MOST rows."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog.compaction import published

MOST = 20_000_000  # ids whose hashes are held, 8 bytes each; of more rows a share of the ids is counted


def count(out: str) -> int:
    """Ids that occur more than once."""
    files = [done for _, done in published(out) if done and done["file"].startswith("data/")]
    share = -(-sum(done["rows"] for done in files) // MOST) or 1
    hashes: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = [np.zeros(0, np.uint64)]
    for done in files:
        with storage.open_input(storage.join(out, done["file"])) as source:
            for batch in pq.ParquetFile(source, pre_buffer=True).iter_batches(columns=["review_id"]):
                some = pd.util.hash_array(np.asarray(batch.column(0).to_pylist(), object))
                hashes.append(some[some % share == 0] if share > 1 else some)
    _, counts = np.unique(np.concatenate(hashes), return_counts=True)
    return int((counts > 1).sum()) * share
