"""Rows that make a function fail are found by halving; the others get through, in pieces that fit the memory.

In: a function of a table, and a table. Out: its results, and the rows it fails on even alone.
"""

from collections.abc import Callable

import pyarrow as pa

from ray_app.errors import DeviceError

Run = Callable[[pa.Table], pa.Table]
Failed = Callable[[pa.Table, BaseException], str]  # a table of one row, what it raised -> the reason to give for it
Reasons = dict[int, str]  # row of the table -> why it has no result


def isolate(run: Run, table: pa.Table, failed: Failed) -> tuple[list[pa.Table], Reasons]:
    """What `run` returned, in pieces and in order, and per row without a result what `failed` says of it.

    A panic in a tokenizer's Rust is no Exception, and is a row's failure too; an interrupt is none.
    """
    try:
        return [run(table)], {}
    except (KeyboardInterrupt, SystemExit, GeneratorExit, DeviceError):  # no row is to blame
        raise
    except BaseException as error:
        if not len(table):
            raise
        if len(table) == 1:
            return [], {0: failed(table, error)}
    half = len(table) // 2
    first, bad = isolate(run, table.slice(0, half), failed)
    second, more = isolate(run, table.slice(half), failed)
    return first + second, {**bad, **{half + row: reason for row, reason in more.items()}}
