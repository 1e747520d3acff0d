"""The training loop of every model here, data-parallel where a process group is open. No Ray in here.

In: a model and a lesson (what it learns and is judged by). Out: the model with its best epoch's weights, and the
history of epochs. Every worker holds all rows and takes its own of each global batch, drawn by a seed that does not
depend on the number of workers: one worker with a batch of 2B and two with B see the same losses.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ray_app.arrays import Ints
from ray_app.engine.device import Device, choose_device

LOG_SECONDS = 10.0
GROUP = 32  # batches whose rows are sorted together by length: less padding, still random


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is trained. `batch_size` counts rows an optimizer step over all workers together."""

    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    accumulate: int = 1
    clip: float = 1.0
    patience: int = 2
    head_start: float = 1.0  # learning rate of a new head over the rest's
    seed: int = 0
    keep_last: bool = False  # in place of the best epoch's weights; with patience 0


class TrainingTask(Protocol):
    """What a model learns and what it is judged by."""

    @property
    def name(self) -> str:
        """Names the model in metrics and checkpoints."""

    @property
    def lengths(self) -> Ints:
        """[n] tokens of every training row: rows of similar length are batched together."""

    @property
    def terms(self) -> Ints:
        """[n] how many terms every row adds to the loss: 1, or its tokens that count. Losses are means over terms."""

    def parts(self, model: Any, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """Parts of the model, with their share of the learning rate."""

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The sum of the rows' terms; `model` may be wrapped for data-parallel training."""

    def validate(self, model: Any, placement: Device) -> dict[str, float]:
        """Metrics; `select` decides which epoch is best (higher is better)."""


class Reporter(Protocol):
    """Where an epoch's metrics and checkpoint go: Ray Train, or a local folder."""

    def __call__(self, metrics: dict[str, Any], write: Callable[[Path], None]) -> None: ...


@dataclass(frozen=True)
class Rank:
    """This worker's place among the workers."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "Rank":
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def total(self, value: float, device: torch.device) -> float:
        """The sum of every worker's value."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, device=device, dtype=torch.float64)
        dist.all_reduce(shared)
        return float(shared)


def train_model(
    model: nn.Module,
    lesson: TrainingTask,
    settings: Settings,
    report: Reporter,
    resume: Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Trains in place; at the end `model` carries the weights of its best epoch, or of the last.

    Args:
        report: called by every worker each epoch; only rank 0's writer writes.
        resume: a checkpoint folder that `report`'s writer wrote.
        say: takes a line of progress now and then, on rank 0.
    Returns: one row of metrics an epoch.
    """
    world, placement = Rank.current(), choose_device(device)
    model.to(placement.device)
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(model) if world.size > 1 else model
    optimizer = torch.optim.AdamW(_groups(lesson.parts(model, settings), settings), settings.learning_rate, fused=True)
    steps = math.ceil(len(lesson.lengths) / settings.batch_size) * settings.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings.warmup))
    history: list[dict[str, Any]] = []
    best: dict[str, Tensor] = {}
    if resume:
        history, best = _load(resume, model, optimizer, schedule)
    torch.manual_seed(settings.seed + 1000 * world.rank + len(history))
    for epoch in range(len(history) + 1, settings.epochs + 1):
        if history and len(history) - _best_epoch(history) >= settings.patience > 0:
            break
        progress = _Progress(lesson.name, epoch, settings, world, say)
        loss, speed = _epoch(wrapped, lesson, settings, epoch, optimizer, schedule, placement, progress)
        metrics = lesson.validate(model, placement)
        improved = settings.keep_last or not history or metrics["select"] > max(row["select"] for row in history)
        if improved:
            best = {name: value.detach().cpu().clone() for name, value in _trained(model).items()}
        history.append(
            {
                "model": lesson.name,
                "epoch": epoch,
                "epochs": settings.epochs,
                "loss": loss,
                "rows_per_second": speed,
                **metrics,
            }
        )
        report(history[-1], partial(_save, model, optimizer, schedule, history, best))
    _restore(model, best)
    return history


def global_batches(lengths: Any, batch_size: int, epoch: int, seed: int) -> Iterator[Any]:
    """Row numbers of every global batch of an epoch: random, similar lengths together, the same on every worker."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    found = []
    for start in range(0, len(order), batch_size * GROUP):
        chunk = order[start : start + batch_size * GROUP]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        found += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    for i in rng.permutation(len(found)):
        yield found[i]


class _Progress:
    """Says on rank 0 how an epoch gets on, every LOG_SECONDS."""

    def __init__(self, name: str, epoch: int, settings: Settings, world: Rank, say: Callable[[str], None]) -> None:
        self.title, self.batch_size = f"{name} epoch {epoch}/{settings.epochs}", settings.batch_size
        self.world, self.say = world, say
        self.began = self.told = time.monotonic()

    def __call__(self, done: int, batches: int, loss: float) -> None:
        """`loss`: the mean so far, by this worker's own share of it."""
        now = time.monotonic()
        if self.world.rank or now - self.told < LOG_SECONDS:
            return
        self.told = now
        speed = done * self.batch_size / (now - self.began)
        self.say(
            f"{self.title} {done / batches:.0%} loss {loss:.3f} {speed:.0f} rows/s, "
            f"{(batches - done) * self.batch_size / speed:.0f} s left in the epoch"
        )


def _epoch(
    model: nn.Module,
    lesson: TrainingTask,
    settings: Settings,
    epoch: int,
    optimizer: Any,
    schedule: Any,
    placement: Device,
    progress: _Progress,
) -> tuple[float, float]:
    """One pass; returns the mean loss a term over all workers, and rows a second."""
    model.train()
    world, terms, total, seen = progress.world, lesson.terms, 0.0, 0
    batches = list(global_batches(lesson.lengths, settings.batch_size, epoch, settings.seed))
    for done, rows in enumerate(batches, 1):
        own, weight = rows[world.rank :: world.size], int(terms[rows].sum())
        total += _step(model, lesson, own, weight, settings, placement, world)
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        seen += weight
        progress(done, len(batches), total * world.size / seen)
    return world.total(total, placement.device) / seen, len(terms) / (time.monotonic() - progress.began)


def _step(
    model: nn.Module,
    lesson: TrainingTask,
    rows: Ints,
    weight: int,
    settings: Settings,
    placement: Device,
    world: Rank,
) -> float:
    """Gradients of one global batch's share; returns the sum of its losses.

    DDP averages gradients over workers, so each one scales its sum by size / terms of the global batch: the mean over
    that batch is exact however unevenly its terms fall. A worker left without a row still joins in, with a weight of
    zero.
    """
    parts = [part for part in np.array_split(rows, settings.accumulate) if len(part)] or [np.zeros(1, np.int64)]
    summed = 0.0
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        hold = model.no_sync() if world.size > 1 and not last else torch.enable_grad()  # type: ignore[operator]
        with hold, torch.autocast(placement.device.type, torch.bfloat16, enabled=placement.dtype == torch.bfloat16):
            loss = lesson.loss(model, part, placement.device) * (1.0 if len(rows) else 0.0)
            scaled: Any = loss * world.size / weight
            scaled.backward()
        summed += float(loss.detach())
    return summed


def _groups(parts: Sequence[tuple[nn.Module, float]], settings: Settings) -> list[dict[str, Any]]:
    """Weight decay on matrices alone, as is usual for transformers; what is frozen is left out."""
    groups = []
    for part, share in parts:
        for matrices in (True, False):
            groups.append(
                {
                    "params": [p for p in part.parameters() if p.requires_grad and (p.ndim > 1) == matrices],
                    "lr": settings.learning_rate * share,
                    "weight_decay": settings.weight_decay if matrices else 0.0,
                }
            )
    return groups


def _rate(step: int, steps: int, warmup: float) -> float:
    """Linear up over the first share of steps, then linear down to zero."""
    rise = int(steps * warmup)
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))


def _best_epoch(history: list[dict[str, Any]]) -> int:
    return 1 + int(np.argmax([row["select"] for row in history]))


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """The state without frozen weights, which a checkpoint need not repeat."""
    frozen = {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def _restore(model: nn.Module, state: dict[str, Tensor]) -> None:
    model.load_state_dict(state, strict=all(p.requires_grad for p in model.parameters()))


def _save(model: nn.Module, optimizer: Any, schedule: Any, history: Any, best: dict[str, Tensor], folder: Path) -> None:
    state = {
        "model": _trained(model),
        "best": best,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    torch.save(state, folder / "state.pt")
    (folder / "history.json").write_text(json.dumps(history), encoding="utf-8")


def _load(
    folder: Path, model: nn.Module, optimizer: Any, schedule: Any
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    _restore(model, state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return json.loads((folder / "history.json").read_text(encoding="utf-8")), state["best"]
