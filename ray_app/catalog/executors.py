"""Where a catalog's units go through the pipeline: in Ray Data's actor pools, or one after the other in this process.

In: units. Out: the ledger's record of every unit that was committed. Called by the analysis step alone.
"""

import json
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from ray_app.catalog.pipeline import Commit, Read, StageWorker
from ray_app.data.columns import Columns
from ray_app.data.reviews import Unit

EMPTY_WORKERS, EMPTY_CPUS = 4, 4.0  # asked for where a cluster has no CPUs yet and no flag says otherwise
WAVE = 4_000  # units one pipeline takes: Ray Data's driver holds some objects for each of them


class Actor(StageWorker):
    """A Worker in a process of Ray's. It ends with the raylet that started it: where a driver was killed, some are
    left behind that compute for nobody."""

    def __init__(self, *arguments: Any) -> None:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        super().__init__(*arguments)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(2.0)
    os._exit(1)


def run_on_ray(config: Any, out: str, todo: Sequence[Unit], columns: Columns) -> Iterator[dict[str, Any]]:
    """Runs the pipeline on Ray, a wave of units after the other."""
    import ray.data

    from ray_app import cluster

    cluster.start()
    ray.data.DataContext.get_current().target_max_block_size = None  # a block is a unit, however large its rows
    pool = _pool(config)
    for first in range(0, len(todo), WAVE):
        wave = todo[first : first + WAVE]
        rows = cluster.stream(
            _pipeline(config, out, wave, columns, pool).iter_rows(), "analysis", "; the same command goes on"
        )  # nobody else holds the pipeline: it can go where it fails
        for row in rows:
            if row["record"]:
                yield json.loads(row["record"])


def run_here(config: Any, out: str, todo: Sequence[Unit], columns: Columns) -> Iterator[dict[str, Any]]:
    """The same steps in this process."""
    names = _names(config)
    worker = StageWorker(config, out, names, last=True, threads=0)
    steps = (Read(columns, out), worker, Commit(out, config.partition_by))
    for unit in todo:
        batch: dict[str, Any] = {"unit": [asdict(unit)]}
        for step in steps:
            batch = step({name: pa.array(column) for name, column in batch.items()})
        if batch["record"][0]:
            yield json.loads(batch["record"][0])


def _pipeline(config: Any, out: str, todo: Sequence[Unit], columns: Columns, pool: dict[str, Any]) -> Any:
    import ray.data

    threads = math.ceil(pool["num_cpus"])
    batches: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
    dataset = ray.data.from_items([{"unit": asdict(unit)} for unit in todo], override_num_blocks=len(todo))
    dataset = dataset.map_batches(Read(columns, out), num_cpus=0.1, **batches)
    names = _names(config)
    for group in [names] if config.placement == "fused" else [[name] for name in names]:
        arguments = (config, out, group, group[-1] == names[-1], threads)
        dataset = dataset.map_batches(Actor, fn_constructor_args=arguments, **batches, **pool)
    return dataset.map_batches(Commit(out, config.partition_by), num_cpus=0.1, **batches)


def _names(config: Any) -> list[str]:
    from ray_app.inference.stages import build_stages

    return [name for name, _ in build_stages(config.highlights, config.words)]


def _pool(config: Any) -> dict[str, Any]:
    """An actor pool's size and each actor's share. Reading and writing need a share of a CPU beside the pools: a pool
    that takes every CPU would wait for itself. A joined cluster may grow: it is asked for what the flags say."""
    from ray.data import ActorPoolStrategy

    from ray_app import cluster

    gpu = cluster.wants_gpu(config.device)
    pools = 1 if config.placement == "fused" else 3
    now = cluster.cpus()
    empty = cluster.joined() and not now  # a head that does no work, and workers that come when they are asked for
    workers = config.workers or (EMPTY_WORKERS if empty else max(1, int(cluster.gpus() if gpu else now // 4)))
    share = EMPTY_CPUS if empty else cluster.cpus_for(workers * pools, least=0.1)
    cpus = config.cpus_per_worker or (1.0 if gpu else share)
    if not cluster.joined():
        cluster.check_fits(
            workers * pools, cpus, f"{workers} workers x {pools} pools", "--workers or --cpus-per-worker"
        )
    on = f"{1 / pools:.2g} GPU and " if gpu else ""
    print(
        f"up to {workers} x {pools} workers with {on}{cpus:.2g} CPUs each{'' if gpu else ', no GPU'}; the cluster has "
        f"{now:g} CPUs and {cluster.gpus():g} GPUs now",
        flush=True,
    )
    shape: dict[str, Any] = {
        "compute": ActorPoolStrategy(min_size=1, max_size=workers, max_tasks_in_flight_per_actor=4)
    }
    return {**shape, "num_cpus": cpus, **({"num_gpus": 1.0 / pools} if gpu else {})}
