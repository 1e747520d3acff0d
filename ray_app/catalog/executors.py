"""Where a catalog's units go through the pipeline: Ray Data's actor pools, or one after the other in this process.

In: units. Out: the record of every unit that was committed.
"""

import json
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from ray_app.catalog.commit import CommitRecord
from ray_app.catalog.pipeline import LANES, Commit, Read, StageWorker, UnitRow
from ray_app.data.columns import Columns
from ray_app.data.reviews import Unit, readings, row_of

if TYPE_CHECKING:
    from ray.data import Dataset

    from ray_app.catalog.options import Config

log = logging.getLogger(__name__)
EMPTY_WORKERS, EMPTY_CPUS = 4, 4.0  # requested where a cluster has no CPUs yet and no flag says otherwise
READ_MEMORY, READ_SHARE = 512 << 20, 0.1  # a million rows of one row group take 390 MB to read
HERE_ROWS, HERE_CPUS = 4_000, 8  # up to which this process alone is done before Ray's actors would be
WAVE = 4_000  # units per pipeline: Ray Data's driver holds some objects for each of them
WORKER_UNITS = 40  # per worker and pipeline at least: each one begins with workers that load the models


class Actor(StageWorker):
    """A StageWorker in a process of Ray's.

    It ends with the raylet that started it: where a driver is killed, some actors would stay and compute for nobody.
    """

    def __init__(self, config: "Config", out: str, names: list[str], last: bool, threads: int) -> None:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        super().__init__(config, out, names, last, threads)

    def __call__(self, table: pa.Table) -> dict[str, pa.Array]:
        """A unit's rows; ends the process where its GPU is lost, so that Ray starts another, maybe elsewhere."""
        from ray_app.engine.device_faults import DeviceLostError

        try:
            return super().__call__(table)
        except DeviceLostError as error:
            if not error.suspect:
                self.blame_none()
            log.error("%s", error)
            os._exit(1)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(2.0)
    os._exit(1)


@dataclass(frozen=True, kw_only=True)
class PoolShape:
    """Most actors of a pool, and the CPUs and GPUs of each actor."""

    workers: int
    cpus: float
    gpus: float


def placed(config: "Config", rows: int) -> "Config":
    """The options with `--placement auto` decided for so many rows: in this process where Ray would first have to be
    started on a machine that has work for one or two of its workers."""
    from ray_app import cluster

    if config.placement != "auto":
        return config
    starts = not cluster.joined() and not cluster.connected() and not config.workers
    small = starts and rows <= HERE_ROWS and (os.cpu_count() or 1) <= HERE_CPUS
    if small:
        log.info(
            "%s rows are analyzed in this process, sooner than Ray would have started; --placement fused", f"{rows:,}"
        )
    return replace(config, placement="here" if small else "fused")


def run_on_ray(config: "Config", out: str, units: Sequence[Unit], columns: Columns) -> Iterator[CommitRecord]:
    """Runs the pipeline on Ray, one wave of units after the other. Raises UserError where it fails or cannot fit."""
    import ray.data

    from ray_app import cluster

    cluster.start()
    # A block is a unit, however large: each is passed on as soon as it is read, and none is cut.
    ray.data.DataContext.get_current().target_max_block_size = 1
    shape = _pool_shape(config)
    remedy = "; run the same command again to resume"
    size = max(WAVE, WORKER_UNITS * shape.workers)
    for first in range(0, len(units), size):
        wave = units[first : first + size]
        rows = cluster.stream(_pipeline(config, out, wave, columns, shape).iter_rows(), "analysis", remedy)
        for row in rows:
            if row["record"]:
                yield json.loads(row["record"])


def run_here(config: "Config", out: str, units: Sequence[Unit], columns: Columns) -> Iterator[CommitRecord]:
    """Runs the same steps in this process."""
    worker = StageWorker(config, out, _stage_names(config), last=True, threads=0)
    read, commit = Read(columns=columns, out=out), _commit(config, out)

    def analyzed(row: UnitRow) -> str:
        return str(pa.table(commit(pa.table(worker(pa.table(row)))))["record"][0].as_py())

    rows = (row for reading in readings(units) for row in read(pa.table({"units": [[row_of(one) for one in reading]]})))
    for record in filter(None, _ahead(analyzed, rows, len(worker.lanes))):
        yield json.loads(record)


def _ahead(work: Callable[[UnitRow], str], rows: Iterable[UnitRow], at_once: int) -> Iterator[str]:
    """The results of `work` in order, `at_once` of them being worked on at the same time."""
    if at_once == 1:
        yield from map(work, rows)
        return
    begun: deque[Future[str]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for row in rows:
                begun.append(pool.submit(work, row))
                if len(begun) > at_once:  # one more, so that none waits for the reader
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        except BaseException:  # an interrupt too: what has not begun is left for the next run
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _reading_memory() -> int:
    """Bytes that each reader reserves, so that no more of them run at once than memory allows; on a small machine a
    share of what there is, for a task that asks for more would wait forever."""
    from ray_app import cluster

    now = cluster.memory()
    return min(READ_MEMORY, int(now * READ_SHARE)) if now else READ_MEMORY


def _commit(config: "Config", out: str) -> Commit:
    return Commit(
        out=out, partition_by=config.partition_by, source=config.source, findings=config.findings_table != "off"
    )


def _pipeline(config: "Config", out: str, units: Sequence[Unit], columns: Columns, shape: PoolShape) -> "Dataset":
    """units -> records: one block per unit, one actor pool per group of stages."""
    import ray.data
    from ray.data import ActorPoolStrategy

    def mapped(dataset: "Dataset", step: object, **options: object) -> "Dataset":
        return dataset.map_batches(step, batch_size=1, batch_format="pyarrow", **options)

    rows = [{"units": [row_of(unit) for unit in reading]} for reading in readings(units)]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset = mapped(dataset, Read(columns=columns, out=out), num_cpus=0.1, memory=_reading_memory())
    groups = _stage_groups(config)
    lanes = LANES if shape.gpus else 1
    for group in groups:
        dataset = mapped(
            dataset,
            Actor,
            fn_constructor_args=(config, out, group, group is groups[-1], math.ceil(shape.cpus)),
            compute=ActorPoolStrategy(
                min_size=1,
                max_size=shape.workers,
                max_tasks_in_flight_per_actor=4,
                max_concurrent_calls_per_actor=lanes,
                enable_true_multi_threading=lanes > 1,
            ),
            num_cpus=shape.cpus,
            **({"num_gpus": shape.gpus} if shape.gpus else {}),
        )
    return mapped(dataset, _commit(config, out), num_cpus=0.1)


def _stage_names(config: "Config") -> list[str]:
    from ray_app.inference.stages import build_stages

    return [name for name, _ in build_stages(config.highlights, config.words)]


def _stage_groups(config: "Config") -> list[list[str]]:
    """The stages of each pool: all in one, or apart where this bundle has work for them."""
    from ray_app.inference.bundle import read_summary
    from ray_app.inference.stages import stage_groups

    if config.placement == "fused":
        return [_stage_names(config)]
    summary = read_summary(config.bundle)
    return [list(group) for group in stage_groups(config.highlights, config.words, summary, config.embeddings)]


def _pool_shape(config: "Config") -> PoolShape:
    """Divides the cluster among the pools; a joined cluster may grow, so it is asked for what the flags say.

    Reading and writing need a share of a CPU beside the pools: pools that take every CPU would wait for them forever.
    Raises UserError where this process's own cluster is too small.
    """
    from ray_app import cluster

    gpu = cluster.wants_gpu(config.device)
    pools = len(_stage_groups(config))
    now = cluster.cpus()
    empty = cluster.joined() and not now  # a head that does no work, whose workers come when they are requested
    gpus = (config.gpus_per_worker or 1.0 / pools) if gpu else 0.0
    room = (cluster.gpus() / (gpus * pools) + 1e-6) if gpu else now / 4
    workers = config.workers or (EMPTY_WORKERS if empty else max(1, int(room)))
    share = EMPTY_CPUS if empty else cluster.cpus_for(workers * pools, least=0.1)
    cpus = config.cpus_per_worker or (1.0 if gpu else share)
    if not cluster.joined():
        cluster.check_fits(
            workers * pools, cpus, f"{workers} workers x {pools} pools", "--workers or --cpus-per-worker"
        )
    if gpu:  # each pool has an actor from the start; others come as they fit
        cluster.check_gpus(pools, gpus, f"{pools} pools", "--gpus-per-worker")
    log.info(
        "up to %d x %d workers with %s%.2g CPUs each%s; the cluster has %g CPUs and %g GPUs now",
        workers,
        pools,
        f"{gpus:.2g} GPU and " if gpu else "",
        cpus,
        "" if gpu else ", no GPU",
        now,
        cluster.gpus(),
    )
    return PoolShape(workers=workers, cpus=cpus, gpus=gpus)
