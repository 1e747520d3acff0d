"""Joining a Ray cluster, or starting one on this machine, and what it has to offer. Called by steps alone."""

import logging
import os
from typing import Any

from ray_app.config import check


def start(**settings: Any) -> None:
    """Joins the cluster that RAY_ADDRESS names (as `ray job submit` sets it), else starts one in this process."""
    import ray
    import ray.data  # it sets its loggers' levels when it is imported

    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"logging_level": "WARNING", "log_to_driver": True}
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    os.environ.setdefault(
        "RAY_AUTH_MODE", "disabled"
    )  # nothing but this process tree reaches it: no dashboard, loopback
    ray.init("local", include_dashboard=False, **{**quiet, **settings})


def cpus() -> float:
    import ray

    return float(ray.cluster_resources().get("CPU", 0))


def gpus() -> float:
    import ray

    return float(ray.cluster_resources().get("GPU", 0))


def wants_gpu(device: str) -> bool:
    """`auto` takes GPUs where the cluster has them now; `cuda` insists."""
    check(
        device != "cuda" or gpus(), "--device cuda: the cluster has no GPU now; write --device cpu or add GPU workers"
    )
    return device != "cpu" and gpus() > 0


def cpus_for(workers: int) -> float:
    """CPUs each of so many workers can reserve, leaving half a CPU for reading and writing."""
    return max(0.5, (cpus() - 0.5) / workers)


def cause(error: BaseException) -> str:
    """The words of whatever Ray wrapped: the last line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
