"""What of Ray's own words reaches the user: the cause of a failure, and no log of its core."""

import os
from typing import Any

import pytest

from ray_app.cluster import CORE_LOG_LEVEL, cause

DATA = """[36mray::MapWorker(MapBatches(Worker)).submit()[39m (pid=1)
  File "ray_app/errors.py", line 40, in check
    raise UserError(message)
ray_app.errors.UserError: --max-new-tokens 1: too few

The above exception was the direct cause of the following exception:

ray.exceptions.UserCodeException: UDF failed to process a data block.
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).
To change retry attempts, configure `DataContext` (`retried_io_errors`: for I/O).
"""


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (DATA, "ray_app.errors.UserError: --max-new-tokens 1: too few"),
        ("Traceback\n  File x\nValueError: no such layer\n", "ValueError: no such layer"),
        ("The actor died unexpectedly\nbefore finishing this task.", "before finishing this task."),
        ("", "RuntimeError"),
    ],
)
def test_the_cause_is_the_exception_that_ray_wrapped(message: str, words: str) -> None:
    assert cause(RuntimeError(message)) == words


@pytest.mark.ray
def test_only_the_driver_is_quiet(ray_cluster: Any) -> None:
    """The logs of Ray's other processes stay complete: they inherit no level that the user did not set."""
    level = ray_cluster.remote(lambda: os.environ.get(CORE_LOG_LEVEL))
    assert ray_cluster.get(level.remote()) == os.environ.get(CORE_LOG_LEVEL)
