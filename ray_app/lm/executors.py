"""Where an evaluation runs: in this process, or in a Ray Data actor pool.

In: a plan and tables of `evaluator.INPUT_COLUMNS`, one per unit of work. Out: tables of `evaluator.RESULT_COLUMNS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ray_app.inference.own_thread import OwnThread

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.lm.evaluator import EvaluationPlan, LMEvaluator


def run_in_process(plan: EvaluationPlan, units: Sequence[pa.Table], threads: int = 0) -> Iterator[pa.Table]:
    """Results of all units, one after the other, in this process; `threads` 0 leaves torch's own choice."""
    yield from map(build_evaluator(plan, threads), units)


def run_on_ray(
    plan: EvaluationPlan, units: Sequence[pa.Table], workers: int, cpus_per_worker: float = 0.0
) -> Iterator[pa.Table]:
    """Results of all units from a pool of `workers` actors, in the order they finish.

    `cpus_per_worker` 0 shares the cluster's CPUs equally, or takes one beside a GPU. Raises UserError where the cluster
    is too small, or a worker fails.
    """
    import ray.data

    from ray_app import cluster

    cluster.start()
    ray.data.DataContext.get_current().target_max_block_size = None  # a block is a unit
    resources = worker_resources(plan.device, workers, cpus_per_worker)
    dataset = ray.data.from_arrow([unit.combine_chunks() for unit in units]).map_batches(
        Worker,
        fn_constructor_args=(plan, math.ceil(resources["num_cpus"])),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        **resources,
    )
    batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    del dataset  # `stream` must hold the only reference
    yield from cluster.stream(batches, "evaluation")


def worker_resources(device: str, workers: int, cpus_per_worker: float) -> dict[str, float]:
    """What each actor reserves: with `device` cuda a whole GPU, also where none is there yet but may come.

    Raises UserError where this process's own cluster is too small: they would wait forever.
    """
    from ray_app import cluster

    gpu = cluster.wants_gpu(device)
    cpus = cpus_per_worker or (1.0 if gpu else cluster.cpus_for(workers))
    if not cluster.joined():  # one that was joined may grow
        cluster.check_fits(workers, cpus, f"{workers} workers", "--workers or --cpus-per-worker")
    if not gpu:
        return {"num_cpus": cpus}
    cluster.check_gpus(workers, 1.0, f"{workers} workers", "--workers")
    return {"num_cpus": cpus, "num_gpus": 1.0}


class Worker:
    """An actor that holds the model and runs it in one thread of its own."""

    def __init__(self, plan: EvaluationPlan, threads: int) -> None:
        self.thread = OwnThread()
        self.evaluator = self.thread.run(build_evaluator, plan, threads)

    def __call__(self, inputs: pa.Table) -> pa.Table:
        return self.thread.run(self.evaluator, inputs)


def build_evaluator(plan: EvaluationPlan, threads: int) -> LMEvaluator:
    """The evaluator, imported where it is needed: it brings torch."""
    from ray_app.lm.evaluator import LMEvaluator

    return LMEvaluator(plan, threads)
