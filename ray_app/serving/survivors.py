"""The rows of a batch that can be run. In: a batch and what runs it. Out: the results, and which rows they are of."""

import logging

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags
from ray_app.data.halving import Run, isolate

log = logging.getLogger(__name__)


def survivors(run: Run, table: pa.Table) -> tuple[pa.Table | None, Flags]:
    """`run` over the rows that do not make it fail (None where all do), and [rows] which these are.

    Failing rows are found by halving, which also gets a batch through that is too large for the memory.
    """
    pieces, lost = isolate(run, table, _log_failure)
    good = np.ones(len(table), bool)
    good[list(lost)] = False
    return pa.concat_tables(pieces) if pieces else None, good


def _log_failure(_: pa.Table, error: BaseException) -> str:
    log.error("a review could not be analyzed: %s", type(error).__name__)  # its text stays out of the log
    return type(error).__name__
