"""Runs a training function in this process or on Ray Train workers, with checkpoints, metrics and resuming either way.

In: a function `work(loop, tables, checkpoints)` and Arrow tables that every worker gets whole. Out: what it writes
under the training folder: `metrics.jsonl`, `tensorboard/`, checkpoints. Called by steps alone.
"""

import importlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_app import cluster, storage
from ray_app.errors import UserError
from ray_app.training.checkpoints import PROGRESS, Checkpoints, LocalCheckpoints, MetricsLog
from ray_app.training.loop import Reporter
from ray_app.training.options import TrainingOptions

Work = Callable[[dict[str, Any], dict[str, pa.Table], Checkpoints], None]


class RayCheckpoints:
    """Checkpoints through Ray Train: rank 0 writes, every worker reports. Lines reach the driver through a file."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)
        storage.write_bytes(storage.join(self.folder, PROGRESS), "\n".join(self.lines).encode())

    def resume(self, name: str) -> Path | None:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        folder = Path(tempfile.mkdtemp(prefix="nunchi-resume-"))
        checkpoint.to_directory(str(folder))
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        return folder if history[0]["model"] == name else None

    def reporter(self, name: str) -> Reporter:
        import ray.train

        rank = ray.train.get_context().get_world_rank()
        board = MetricsLog(self.folder, name, self.say) if rank == 0 else lambda metrics: None

        def report(metrics: dict[str, Any], write: Callable[[Path], None]) -> None:
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = None
                if rank == 0:
                    write(Path(folder))
                    checkpoint = ray.train.Checkpoint.from_directory(folder)
                    board(metrics)
                ray.train.report(metrics, checkpoint=checkpoint)

        return report


def launch(work: Work, loop: dict[str, Any], tables: dict[str, pa.Table], config: TrainingOptions) -> None:
    """Runs `work(loop, tables, checkpoints)` on `config.workers` Ray Train workers; 0 for this process.

    Args:
        work: a function of a module, so that a worker can import it.
        loop: what it is told, as plain values.
    """
    if config.workers:
        run_on_ray(work, loop, tables, config)
    else:
        work(loop, tables, LocalCheckpoints(config.storage))


def run_on_ray(work: Work, loop: dict[str, Any], tables: dict[str, pa.Table], config: TrainingOptions) -> None:
    """Runs `work` in `config.workers` processes that form one torch process group.

    Every worker gets every row and takes its share of each batch by index: Ray's equal split would drop rows, and
    shares that depend on the number of workers would change the losses. A killed worker starts again from the last
    checkpoint, up to `max_failures` times; after that, or when the driver dies, the same call resumes.
    """
    import ray.data
    import ray.train
    from ray.train.torch import TorchTrainer

    cluster.start()
    folder, gpu = config.storage, cluster.wants_gpu(config.device)
    cpus = config.cpus_per_worker or cluster.cpus_for(config.workers)
    resources = {"CPU": cpus, **({"GPU": 1.0} if gpu else {})}
    name = f"{work.__module__}:{work.__qualname__}"
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"work": name, "loop": loop, "folder": folder, "threads": max(1, round(cpus))},
        datasets={name: ray.data.from_arrow(_numbered(table)) for name, table in tables.items()},
        dataset_config=ray.train.DataConfig(datasets_to_split=[]),
        scaling_config=ray.train.ScalingConfig(num_workers=config.workers, use_gpu=gpu, resources_per_worker=resources),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=storage.absolute(folder),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
        ),
    )
    try:
        with _echo(storage.join(folder, PROGRESS)):
            trainer.fit()
    except Exception as error:  # Ray wraps whatever a worker raised; the innermost line names it
        raise UserError(f"training failed: {cluster.cause(error)}; mend it and go on with --resume") from error


@contextmanager
def _echo(uri: str) -> Iterator[None]:
    """Prints the lines that rank 0 leaves in a file, for as long as the block runs."""
    if storage.exists(uri):
        storage.write_bytes(uri, b"")
    over = threading.Event()

    def follow() -> None:
        shown = 0
        while True:
            last = over.wait(1.0)
            lines = storage.read_bytes(uri).decode().splitlines() if storage.exists(uri) else []
            for line in lines[shown:] if len(lines) >= shown else lines:  # a worker that started again starts anew
                print(line, flush=True)
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


def _worker(settings: dict[str, Any]) -> None:
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
    _function(settings["work"])(settings["loop"], tables, RayCheckpoints(settings["folder"]))


def _function(name: str) -> Work:
    module, _, function = name.partition(":")
    found: Work = getattr(importlib.import_module(module), function)
    return found


def _numbered(table: pa.Table) -> pa.Table:
    return table.append_column("row", pa.array(range(len(table)), pa.int64()))
