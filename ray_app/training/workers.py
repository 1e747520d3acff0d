"""Runs a training function in this process or on Ray Train workers, with checkpoints, metrics and resuming either way.

In: a function `work(loop, tables, checkpoints)` and Arrow tables that every worker gets whole. Out: what it writes
under the training folder: `metrics.jsonl`, `tensorboard/`, checkpoints. Only jobs call this.
"""

import importlib
import json
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import pyarrow as pa

from ray_app import cluster, storage
from ray_app.errors import UserError
from ray_app.training.checkpoints import PROGRESS, Checkpoints, LocalCheckpoints, MetricsLog
from ray_app.training.loop import EpochRow, Reporter
from ray_app.training.options import TrainingOptions

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

REFUSED = "refused.txt"  # in the training folder: a worker's UserError
Work = Callable[[dict[str, object], dict[str, pa.Table], Checkpoints], None]
log = logging.getLogger(__name__)


class RayCheckpoints:
    """Checkpoints through Ray Train: rank 0 writes, every worker reports. Lines reach the driver through a file."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """See `Checkpoints`."""
        self.lines.append(line)
        storage.write_bytes(storage.join(self.folder, PROGRESS), "\n".join(self.lines).encode())

    def resume(self, name: str) -> Path | None:
        """See `Checkpoints`."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        folder = Path(tempfile.mkdtemp(prefix="nunchi-resume-"))
        checkpoint.to_directory(str(folder))
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        return folder if history[0]["model"] == name else None

    def reporter(self, name: str) -> Reporter:
        """See `Checkpoints`."""
        import ray.train

        metrics_log: MetricsLog | None = None
        if ray.train.get_context().get_world_rank() == 0:
            metrics_log = MetricsLog(self.folder, name, self.say)

        def report(metrics: EpochRow, write: Callable[[Path], None]) -> None:
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = None
                if metrics_log:
                    write(Path(folder))
                    checkpoint = ray.train.Checkpoint.from_directory(folder)
                    metrics_log(metrics)
                ray.train.report(metrics, checkpoint=checkpoint)

        return report


def launch(work: Work, loop: dict[str, object], tables: dict[str, pa.Table], config: TrainingOptions) -> None:
    """Runs `work(loop, tables, checkpoints)` on `config.workers` Ray Train workers, or with 0 in this process.

    Args:
        work: a function of a module, so that a worker can import it.
        loop: its settings, as plain values.
        tables: `train` and `validation`.
    """
    if config.workers:
        run_on_ray(work, loop, tables, config)
    else:
        work(loop, tables, LocalCheckpoints(config.storage))


def run_on_ray(work: Work, loop: dict[str, object], tables: dict[str, pa.Table], config: TrainingOptions) -> None:
    """Runs `work` in `config.workers` processes that form one torch process group.

    Every worker gets every row and takes its share of each batch by index: Ray's equal split would drop rows, and
    shares that depend on the number of workers would change the losses. A killed worker starts again from the last
    checkpoint, up to `max_failures` times; after that, or when the driver dies, the same call resumes.

    Raises UserError with the innermost line of what a worker raised.
    """
    cluster.start()
    refused = storage.join(config.storage, REFUSED)
    storage.remove(refused)
    trainer = _trainer(work, loop, tables, config)
    try:
        with _log_progress(storage.join(config.storage, PROGRESS)):
            trainer.fit()
    except Exception as error:  # Ray wraps what a worker raised in exceptions of its own
        if storage.exists(refused):
            raise UserError(storage.read_bytes(refused).decode()) from error
        raise UserError(f"training failed: {_reason(cluster.cause(error))}; then run again with --resume") from error


def _reason(cause: str) -> str:
    """What a worker raised, and a remedy: a connection that breaks is another worker's death."""
    if any(sign in cause for sign in ("Connection closed by peer", "Connection reset by peer", "Timed out waiting")):
        return (
            f"a worker lost another one, which died or hangs ({cause}); see that one's own error above; where it ran "
            "out of memory, lower --batch-size or --workers, or raise --accumulate"
        )
    return f"{cause}; fix it"


def _trainer(
    work: Work, loop: dict[str, object], tables: dict[str, pa.Table], config: TrainingOptions
) -> "TorchTrainer":
    import ray.data
    import ray.train
    from ray.train.torch import TorchTrainer

    resources = worker_resources(config)
    threads = max(1, round(resources["CPU"]))
    settings = _WorkerSettings(
        work=f"{work.__module__}:{work.__qualname__}", loop=loop, folder=config.storage, threads=threads
    )
    return TorchTrainer(
        _worker,
        train_loop_config=settings,
        datasets={name: ray.data.from_arrow(_numbered(table)) for name, table in tables.items()},
        dataset_config=ray.train.DataConfig(datasets_to_split=[]),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers, use_gpu="GPU" in resources, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=storage.absolute(config.storage),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
        ),
    )


def worker_resources(config: TrainingOptions) -> dict[str, float]:
    """What each worker reserves: a whole GPU where it trains on one, also where none is there yet but may come.

    Raises UserError where this process's own cluster has fewer GPUs than workers: they would wait forever.
    """
    cpus = config.cpus_per_worker or cluster.cpus_for(config.workers)
    if not cluster.wants_gpu(config.device):
        return {"CPU": cpus}
    cluster.check_gpus(config.workers, 1.0, f"{config.workers} workers", "--workers")
    return {"CPU": cpus, "GPU": 1.0}


@contextmanager
def _log_progress(uri: str) -> Iterator[None]:
    """Logs the lines that rank 0 leaves in a file, for as long as the block runs."""
    if storage.exists(uri):
        storage.write_bytes(uri, b"")
    over = threading.Event()

    def follow() -> None:
        shown = 0
        while True:
            last = over.wait(1.0)
            lines = storage.read_bytes(uri).decode().splitlines() if storage.exists(uri) else []
            for line in lines[shown:] if len(lines) >= shown else lines:  # fewer lines: a restarted worker's
                log.info(line)
            shown = len(lines)
            if last:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _WorkerSettings(TypedDict):
    """What a worker process gets: `work` as module:function, its settings, the training folder, torch's threads."""

    work: str
    loop: dict[str, object]
    folder: str
    threads: int


def _worker(settings: _WorkerSettings) -> None:
    """The process of one worker: its tables from the datasets, then the same work as without Ray."""
    import ray.data
    import ray.train
    import torch

    torch.set_num_threads(settings["threads"])
    ray.data.DataContext.get_current().enable_progress_bars = False
    if torch.cuda.is_available():
        torch.cuda.set_device(ray.train.torch.get_device())
    tables = {}
    for name in ("train", "validation"):
        shard = ray.train.get_dataset_shard(name)
        whole = pa.concat_tables(list(shard.iter_batches(batch_format="pyarrow", batch_size=None)))
        tables[name] = whole.sort_by("row").drop_columns(["row"])
    refused = storage.join(settings["folder"], REFUSED)
    if storage.exists(refused):  # Ray starts a failed worker again, but a mistake stays one
        raise UserError(storage.read_bytes(refused).decode())
    try:
        _import_function(settings["work"])(settings["loop"], tables, RayCheckpoints(settings["folder"]))
    except UserError as error:
        storage.write_bytes(refused, str(error).encode())
        raise


def _import_function(name: str) -> Work:
    """`module:function` -> the function."""
    module, _, function = name.partition(":")
    work: Work = getattr(importlib.import_module(module), function)
    return work


def _numbered(table: pa.Table) -> pa.Table:
    """With a column `row`: Ray Data keeps no order."""
    return table.append_column("row", pa.array(range(len(table)), pa.int64()))
