"""One run per output, for what trains without a training folder of its own.

In: an output folder or URI. Out: a block within which no other run may write there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ray_app import storage
from ray_app.storage.lease import Lease


@contextmanager
def sole_trainer(output: str) -> Iterator[Lease]:
    """Holds the lease of `OUTPUT.training` and removes it when the run is over; a killed run's gives way to the next.

    Raises UserError where another run holds it, or took the output over before the block ended.
    """
    folder = output.rstrip("/") + ".training"
    with Lease(folder) as lease:
        yield lease
        lease.check()
    storage.remove(lease.folder)
