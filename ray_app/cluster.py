"""Joining a Ray cluster, or starting one on this machine, and what it has to offer. Called by steps alone."""

import gc
import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from ray_app.errors import UserError, check

T = TypeVar("T")
RESERVED = 0.5  # CPUs left for reading and writing
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception): ")


def start(**settings: Any) -> None:
    """Joins the cluster that RAY_ADDRESS names (as `ray job submit` sets it), else starts one in this process."""
    import ray
    import ray.data  # it sets its loggers' levels when it is imported

    if ray.is_initialized():
        return
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # What workers print is Ray's own chatter for the most part: it stays in Ray's logs, and steps say how they get on.
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if joined():
        ray.init(**quiet)
        return
    # On few CPUs Ray would end a worker that reads or commits between two units, and start another for the next one.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # no dashboard, loopback: nothing but this process reaches it
    ray.init("local", include_dashboard=False, **{**quiet, **settings})


def cpus() -> float:
    import ray

    return float(ray.cluster_resources().get("CPU", 0))


def gpus() -> float:
    import ray

    return float(ray.cluster_resources().get("GPU", 0))


def joined() -> bool:
    """True where the cluster is not this process's own: it may grow."""
    return bool(os.environ.get("RAY_ADDRESS"))


def address() -> str:
    """HOST:PORT of the cluster's own store, which lives as long as the cluster."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def listens(address: str) -> bool:
    """Whether anything answers at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 5).close()
    except OSError:
        return False
    return True


def wants_gpu(device: str) -> bool:
    """`auto` takes GPUs where the cluster has them now; `cuda` insists, and waits for a cluster that may grow."""
    check(device != "cuda" or gpus() or joined(), "--device cuda: there is no GPU here; write --device cpu")
    return device == "cuda" or (device == "auto" and gpus() > 0)


def cpus_for(processes: int, least: float = 0.5) -> float:
    """An equal share of the cluster's CPUs for each of `processes`, leaving RESERVED for reading and writing."""
    return max(least, (cpus() - RESERVED) / processes)


def check_fits(processes: int, each: float, what: str, flags: str) -> None:
    """Raises UserError where `processes` of `each` CPUs are more than there are: what waits for a CPU waits forever."""
    spare = cpus() - RESERVED
    check(
        processes * each <= spare + 1e-6,
        f"{what} x {each:g} CPUs are more than the {spare:g} there are to share; lower {flags}",
    )


def stream(rows: Iterable[T], step: str, remedy: str = "") -> Iterator[T]:
    """What a pipeline of Ray Data yields; where it fails, a UserError of one line.

    A pipeline that failed lives as long as its exception, and its parts refer to each other in circles: until they are
    collected its actors keep their CPUs, and whatever runs next in this process waits for ever.
    """
    from ray.exceptions import RayError

    reason = ""
    try:
        yield from rows
    except RayError as error:
        reason = cause(error)
    if reason:
        del rows
        gc.collect()
        raise UserError(f"{step} failed: {reason}{remedy}")


def cause(error: BaseException) -> str:
    """The words of whatever Ray wrapped: the last exception in its message that is not Ray's own, else the last line.

    Ray Data ends its messages with advice, and names the exception above it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if _EXCEPTION.match(line) and not line.startswith("ray.")]
    return (named or lines or [type(error).__name__])[-1][:300]
