"""The rows of a batch that can be run. In: a batch and what runs it. Out: the results, and which rows they are of."""

import logging
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa

from ray_app.arrays import Flags
from ray_app.errors import DeviceError

Run = Callable[[pa.Table], pa.Table]
log = logging.getLogger(__name__)


def survivors(run: Run, table: pa.Table) -> tuple[pa.Table | None, Flags]:
    """`run` over the rows that do not make it fail (None where all do), and [rows] which these are.

    Failing rows are found by halving, which also gets a batch through that is too large for the memory.
    """
    try:
        return run(table), np.ones(len(table), bool)
    except DeviceError:  # no review is to blame
        raise
    except BaseException as error:  # a Rust panic is not an Exception; no interrupt reaches this thread
        if len(table) == 1:
            log.error("a review could not be analyzed: %s", type(error).__name__)  # its text stays out of the log
            return None, np.zeros(1, bool)
    half = len(table) // 2
    halves = [survivors(run, rows) for rows in (table.slice(0, half), table.slice(half))]
    return _concatenated(result for result, _ in halves), np.concatenate([good for _, good in halves])


def _concatenated(tables: Iterable[pa.Table | None]) -> pa.Table | None:
    present = [table for table in tables if table is not None]
    return pa.concat_tables(present) if present else None
