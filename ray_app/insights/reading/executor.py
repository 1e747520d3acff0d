"""Analyses read on a Ray cluster: a task per file turns it into Parts, which come back in the order of the files.

In: analyses, what is wanted of them. Out: the same Parts, in the same order, as reading them here would give.
"""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from ray_app import storage
from ray_app.data import analyses
from ray_app.data.analyses import FILE_SHIFT, Analyses
from ray_app.insights.reading.parts import Part, Wanted, part
from ray_app.insights.store import BATCH


@dataclass(frozen=True)
class _Reader:
    """Reads the files whose numbers it is given. It gives Parts as bytes, for their arrays differ in length."""

    source: Analyses
    wanted: Wanted

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for number in batch["file"].to_pylist():
            for one in self.parts(number):
                yield pa.table({"part": pa.array([pickle.dumps(one)], pa.large_binary())})

    def parts(self, number: int) -> Iterator[Part]:
        """The Parts of a file, with the positions that it has among all of them."""
        file = replace(self.source, files=(self.source.files[number],))
        for positions, table in analyses.stream(file, self.wanted.columns, BATCH):
            yield part(positions | (number << FILE_SHIFT), table, self.wanted)


def on_ray(source: Analyses, wanted: Wanted) -> Iterator[Part]:
    """The Parts, read by Ray Data. Raises UserError where that fails."""
    import ray.data

    from ray_app import cluster

    source = replace(source, files=tuple(map(storage.absolute, source.files)))  # workers have folders of their own
    cluster.start()
    ray.data.DataContext.get_current().execution_options.preserve_order = True  # numbers of names go by it
    files = [{"file": number} for number in range(len(source.files))]
    dataset = ray.data.from_items(files, override_num_blocks=len(files))
    read = dataset.map_batches(_Reader(source, wanted), batch_size=1, batch_format="pyarrow")
    remedy = "; try again, or read them here (--placement here)"
    for row in cluster.stream(read.iter_rows(), "reading", remedy):
        yield pickle.loads(row["part"])
