"""Runs a training function in this process or on Ray Train workers, with checkpoints, metrics and resuming either way.

In: a function `work(loop, tables, checkpoints)` and Arrow tables that every worker gets whole. Out: what it writes
under the training folder: `metrics.jsonl`, `tensorboard/`, checkpoints. Called by steps alone.
"""

import importlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from ray_app import cluster, storage
from ray_app.config import UserError, check
from ray_app.loop import Reporter

PROGRESS = "progress.log"


class Checkpoints(Protocol):
    """Where a model's checkpoints go, and the last one of an interrupted run."""

    def resume(self, name: str) -> Path | None: ...

    def reporter(self, name: str) -> Reporter: ...

    def say(self, line: str) -> None: ...


class LocalCheckpoints:
    """Checkpoints of a run without Ray: one folder a classifier, replaced whole after each epoch."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def say(self, line: str) -> None:
        print(line, flush=True)

    def resume(self, name: str) -> Path | None:
        path = Path(self.folder) / "checkpoints" / name
        return path if path.is_dir() else None

    def reporter(self, name: str) -> Reporter:
        board = _Board(self.folder, name, self.say)

        def report(metrics: dict[str, Any], write: Callable[[Path], None]) -> None:
            target = Path(self.folder) / "checkpoints" / name
            fresh, old = target.with_suffix(".new"), target.with_suffix(".old")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            write(fresh)
            if target.is_dir():
                target.rename(old)
            fresh.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            board(metrics)

        return report


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
        board = _Board(self.folder, name, self.say) if rank == 0 else lambda metrics: None

        def report(metrics: dict[str, Any], write: Callable[[Path], None]) -> None:
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = None
                if rank == 0:
                    write(Path(folder))
                    checkpoint = ray.train.Checkpoint.from_directory(folder)
                    board(metrics)
                ray.train.report(metrics, checkpoint=checkpoint)

        return report


class _Board:
    """An epoch's metrics to the user, `metrics.jsonl` and TensorBoard, all under the training folder."""

    def __init__(self, folder: str, name: str, say: Callable[[str], None]) -> None:
        from tensorboardX import SummaryWriter

        self.folder, self.name, self.say = folder, name, say
        self.local = tempfile.mkdtemp(prefix="nunchi-board-")
        self.writer = SummaryWriter(self.local)

    def __call__(self, metrics: dict[str, Any]) -> None:
        shown = " ".join(f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, float))
        self.say(f"{self.name} epoch {metrics['epoch']}/{metrics['epochs']}: {shown}")
        log = storage.join(self.folder, "metrics.jsonl")
        before = storage.read_bytes(log) if storage.exists(log) else b""
        storage.write_bytes(log, before + (json.dumps(metrics, ensure_ascii=False) + "\n").encode())
        for key, value in metrics.items():
            if isinstance(value, float):
                self.writer.add_scalar(key, value, metrics["epoch"])
        self.writer.flush()
        storage.upload(self.local, storage.join(self.folder, "tensorboard", self.name))


def claim(folder: str, config: dict[str, Any], resume: bool, leftovers: Sequence[str]) -> None:
    """A training folder that belongs to this run: new, without an earlier run's `leftovers`, or with `resume` one of
    the same config. Raises UserError naming what differs."""
    saved = storage.join(folder, "config.json")
    same = {k: v for k, v in config.items() if k not in ("resume", "workers", "max_failures", "device")}
    if resume and storage.exists(saved):
        before = storage.read_json(saved)
        changed = [key for key, value in same.items() if before.get(key) != value]
        check(not changed, f"--resume: {', '.join(changed)} differ from the interrupted run in {folder}")
        return
    check(not storage.exists(saved), f"{folder}: an interrupted run is there; go on with --resume or remove it")
    clear(folder, leftovers)
    storage.write_json(saved, same)


def clear(folder: str, parts: Sequence[str]) -> None:
    """Removes parts of the training folder: what a finished run needs no more, or what an earlier one left."""
    for part in parts:
        storage.remove(storage.join(folder, part))


def launch(
    work: str,
    loop: dict[str, Any],
    tables: dict[str, pa.Table],
    folder: str,
    workers: int,
    device: str = "auto",
    cpus_per_worker: float = 0.0,
    max_failures: int = 0,
) -> None:
    """Runs the function named by `work` (`module:name`) on so many Ray Train workers; 0 for this process."""
    if workers:
        run_on_ray(work, loop, tables, folder, workers, device, cpus_per_worker, max_failures)
    else:
        _function(work)(loop, tables, LocalCheckpoints(folder))


def run_on_ray(
    work: str,
    loop: dict[str, Any],
    tables: dict[str, pa.Table],
    folder: str,
    workers: int,
    device: str = "auto",
    cpus_per_worker: float = 0.0,
    max_failures: int = 0,
) -> None:
    """Runs the function named by `work` in `workers` processes that form one torch process group.

    Every worker gets every row and takes its share of each batch by index: Ray's equal split would drop rows, and
    shares that depend on the number of workers would change the losses. A killed worker starts again from the last
    checkpoint, up to `max_failures` times; after that, or when the driver dies, the same call resumes.
    """
    import ray.data
    import ray.train
    from ray.train.torch import TorchTrainer

    cluster.start()
    gpu = cluster.wants_gpu(device)
    cpus = cpus_per_worker or cluster.cpus_for(workers)
    resources = {"CPU": cpus, **({"GPU": 1.0} if gpu else {})}
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"work": work, "loop": loop, "folder": folder, "threads": max(1, round(cpus))},
        datasets={name: ray.data.from_arrow(_numbered(table)) for name, table in tables.items()},
        dataset_config=ray.train.DataConfig(datasets_to_split=[]),
        scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker=resources),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=storage.absolute(folder),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
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


def _function(name: str) -> Callable[[dict[str, Any], dict[str, pa.Table], Checkpoints], None]:
    module, _, function = name.partition(":")
    found: Callable[..., None] = getattr(importlib.import_module(module), function)
    return found


def _numbered(table: pa.Table) -> pa.Table:
    return table.append_column("row", pa.array(range(len(table)), pa.int64()))
