"""Where an evaluation runs: in this process, or in a Ray Data actor pool."""

import math
from collections.abc import Iterator
from typing import Any

from ray_app.engine.own_thread import OwnThread


def _units(config: Any, papers: Any) -> list[Any]:
    return [papers.slice(start, config.unit_rows) for start in range(0, len(papers), config.unit_rows)]


def run_here(config: Any, exam: Any, papers: Any) -> Iterator[Any]:
    """Marks of all units, one after the other, in this process."""
    from ray_app.lm.evaluator import LMEvaluator

    yield from map(LMEvaluator(exam, math.ceil(config.cpus_per_worker)), _units(config, papers))


def run_on_ray(config: Any, exam: Any, papers: Any) -> Iterator[Any]:
    """Marks of all units out of a pool of actors, as they come."""
    import ray.data

    from ray_app import cluster

    cluster.start()
    ray.data.DataContext.get_current().target_max_block_size = None  # a block is a unit
    gpu = cluster.wants_gpu(config.device)
    cpus = config.cpus_per_worker or (1.0 if gpu else cluster.cpus_for(config.workers))
    cluster.check_fits(config.workers, cpus, f"{config.workers} workers", "--workers or --cpus-per-worker")
    dataset = ray.data.from_arrow([unit.combine_chunks() for unit in _units(config, papers)]).map_batches(
        Worker,
        fn_constructor_args=(exam, math.ceil(cpus)),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=config.workers),
        num_cpus=cpus,
        **({"num_gpus": 1.0} if gpu else {}),
    )
    batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    del dataset  # `stream` must be the only one that holds it
    yield from cluster.stream(batches, "evaluation")


class Worker:
    """An actor that holds the model and runs it in one thread of its own."""

    def __init__(self, exam: Any, threads: int) -> None:
        self.thread = OwnThread()
        self.examinee = self.thread.run(build_evaluator, exam, threads)

    def __call__(self, table: Any) -> Any:
        return self.thread.run(self.examinee, table)


def build_evaluator(exam: Any, threads: int) -> Any:
    from ray_app.lm.evaluator import LMEvaluator

    return LMEvaluator(exam, threads)
