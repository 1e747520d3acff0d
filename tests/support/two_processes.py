"""Two processes of one torch process group that do the same work, as two training workers do."""

from collections.abc import Callable
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

# One server per process of tests has torch imported and forks the second worker of every test.
SERVER = ForkServerContext()
SERVER.set_forkserver_preload(["ray_app.training.loop", "ray_app.engine.encoder", "ray_app.lm.train_lm"])


def results_of_two(folder: Path, work: Callable[[], Any]) -> list[Any]:
    """What `work`, a function of a module, returns in each of the two; this process is one of them."""
    other = SERVER.Process(target=_run, args=(1, str(folder), work))
    other.start()
    _run(0, str(folder), work)
    other.join(60)
    assert other.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def _run(rank: int, folder: str, work: Callable[[], Any]) -> None:
    wait = timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=wait)
    torch.save(work(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
