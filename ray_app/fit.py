"""The training loop of a classifier, data-parallel where a process group is open. No Ray in here.

In: token sequences, targets, a model. Out: the model with its best epoch's weights, and the history of epochs.
Every worker holds the whole (small) labelled table as token ids and takes its own rows of each global batch, drawn by a
seed that does not depend on the number of workers: one worker with a batch of 2B and two with B see the same losses.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.classifier import Classifier, Placement, padded, place
from ray_app.model import EncoderClassifier
from ray_app.sequences import Floats, Sequences

LOG_SECONDS = 10.0
GROUP = 32  # batches whose rows are sorted together by length: less padding, still random


@dataclass(frozen=True)
class Settings:
    """How one classifier is trained. `batch_size` counts rows an optimizer step over all workers together."""

    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    accumulate: int = 1
    clip: float = 1.0
    patience: int = 2
    head_start: float = 1.0  # learning rate of the head over the encoder's
    seed: int = 0


@dataclass(frozen=True)
class Data:
    """Sequences with targets: [n, outputs] floats for `multilabel`, [n] class numbers for `classes`."""

    sequences: Sequences
    targets: Any

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True)
class Objective:
    """What is learnt: `multilabel` (sigmoid, BCE) or `classes` (softmax, cross-entropy, optionally weighted)."""

    name: str
    kind: str
    class_weights: Floats | None = None

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """[n] one loss a row."""
        if self.kind == "multilabel":
            return F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none").sum(1)
        weights = None if self.class_weights is None else torch.as_tensor(self.class_weights, device=logits.device)
        return F.cross_entropy(logits, targets.long(), weight=weights, reduction="none")


class Reporter(Protocol):
    """Where an epoch's metrics and checkpoint go: Ray Train, or a local folder."""

    def __call__(self, metrics: dict[str, Any], write: Callable[[Path], None]) -> None: ...


@dataclass(frozen=True)
class World:
    """This worker's place among the workers."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "World":
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()


def fit(
    model: EncoderClassifier,
    train: Data,
    validation: Data,
    objective: Objective,
    settings: Settings,
    score: Callable[[Floats], dict[str, float]],
    pad_id: int,
    report: Reporter,
    resume: Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Trains in place; at the end `model` carries the weights of its best epoch.

    Args:
        score: validation logits [n, outputs] -> metrics; its `select` decides which epoch is best (higher is better).
        report: called by every worker each epoch; only rank 0's writer writes.
        resume: a checkpoint folder that `report`'s writer wrote.
        say: takes a line of progress now and then, on rank 0.
    Returns: one row of metrics an epoch.
    """
    world, placement = World.current(), place(device)
    model.to(placement.device)
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(model) if world.size > 1 else model
    optimizer = torch.optim.AdamW(_groups(model, settings), settings.learning_rate, fused=True)
    steps = math.ceil(len(train) / settings.batch_size) * settings.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings.warmup))
    history: list[dict[str, Any]] = []
    best: dict[str, Tensor] = {}
    if resume:
        history, best = _load(resume, model, optimizer, schedule)
    torch.manual_seed(settings.seed + 1000 * world.rank + len(history))
    for epoch in range(len(history) + 1, settings.epochs + 1):
        if history and len(history) - _best_epoch(history) >= settings.patience > 0:
            break
        progress = _Progress(objective.name, epoch, settings, world, say)
        loss, speed = _epoch(
            wrapped, train, objective, settings, epoch, optimizer, schedule, placement, pad_id, progress
        )
        metrics = score(evaluate(model, validation, placement, pad_id))
        improved = not history or metrics["select"] > max(row["select"] for row in history)
        if improved:
            best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        history.append(
            {
                "model": objective.name,
                "epoch": epoch,
                "epochs": settings.epochs,
                "loss": loss,
                "rows_per_second": speed,
                **metrics,
            }
        )
        report(history[-1], partial(_save, model, optimizer, schedule, history, best))
    model.load_state_dict(best)
    return history


@torch.no_grad()
def evaluate(model: EncoderClassifier, data: Data, placement: Placement, pad_id: int) -> Floats:
    """Validation logits, in fp32 weights whatever the device."""
    was_training = model.training
    logits = Classifier(model, Placement(placement.device, "fp32", placement.token_budget), pad_id)(data.sequences)
    model.train(was_training)
    return logits


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

    def __init__(self, name: str, epoch: int, settings: Settings, world: World, say: Callable[[str], None]) -> None:
        self.title, self.batch_size = f"{name} epoch {epoch}/{settings.epochs}", settings.batch_size
        self.world, self.say = world, say
        self.began = self.told = time.monotonic()

    def __call__(self, done: int, batches: int, total: float) -> None:
        now = time.monotonic()
        if self.world.rank or now - self.told < LOG_SECONDS:
            return
        self.told = now
        rows = done * self.batch_size
        speed = rows / (now - self.began)
        self.say(
            f"{self.title} {done / batches:.0%} loss {total * self.world.size / rows:.3f} {speed:.0f} rows/s, "
            f"{(batches - done) * self.batch_size / speed:.0f} s left in the epoch"
        )


def _epoch(
    model: nn.Module,
    train: Data,
    objective: Objective,
    settings: Settings,
    epoch: int,
    optimizer: Any,
    schedule: Any,
    placement: Placement,
    pad_id: int,
    progress: _Progress,
) -> tuple[float, float]:
    """One pass; returns the mean loss a row over all workers, and rows a second."""
    model.train()
    world, total = progress.world, 0.0
    batches = list(global_batches(train.sequences.lengths, settings.batch_size, epoch, settings.seed))
    for done, rows in enumerate(batches, 1):
        own = rows[world.rank :: world.size]
        total += _step(model, train, objective, own, len(rows), settings, placement, pad_id, world)
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        progress(done, len(batches), total)
    if world.size > 1:
        shared = torch.tensor(total, device=placement.device)
        dist.all_reduce(shared)
        total = float(shared)
    return total / len(train), len(train) / (time.monotonic() - progress.began)


def _step(
    model: nn.Module,
    train: Data,
    objective: Objective,
    rows: Any,
    global_rows: int,
    settings: Settings,
    placement: Placement,
    pad_id: int,
    world: World,
) -> float:
    """Gradients of one global batch's share; returns the sum of its losses.

    DDP averages gradients over workers, so each one scales its sum by size / global rows: the mean over the global
    batch is exact however unevenly its rows fall. A worker left without a row still joins in, with a weight of zero.
    """
    parts = np.array_split(rows, settings.accumulate) if len(rows) else [np.zeros(1, np.int64)]
    summed = 0.0
    for i, part in enumerate(p for p in parts if len(p)):
        last = i == sum(bool(len(p)) for p in parts) - 1
        ids, mask = (t.to(placement.device) for t in padded(train.sequences.take(part), pad_id))
        targets = torch.as_tensor(train.targets[part]).to(placement.device)
        hold = model.no_sync() if world.size > 1 and not last else torch.enable_grad()  # type: ignore[operator]
        with hold, torch.autocast(placement.device.type, torch.bfloat16, enabled=placement.dtype == torch.bfloat16):
            loss = objective.losses(model(ids, mask).float(), targets).sum() * (1.0 if len(rows) else 0.0)
            scaled: Any = loss * world.size / global_rows
            scaled.backward()
        summed += float(loss.detach())
    return summed


def _groups(model: EncoderClassifier, settings: Settings) -> list[dict[str, Any]]:
    """Weight decay on matrices alone, as is usual for encoders; the new linear layer may learn faster than they."""
    groups = []
    for part, rate in (
        (model.encoder, settings.learning_rate),
        (model.head, settings.learning_rate * settings.head_start),
    ):
        for matrices in (True, False):
            parameters = [p for p in part.parameters() if (p.ndim > 1) == matrices]
            groups.append(
                {"params": parameters, "lr": rate, "weight_decay": settings.weight_decay if matrices else 0.0}
            )
    return groups


def _rate(step: int, steps: int, warmup: float) -> float:
    """Linear up over the first share of steps, then linear down to zero."""
    rise = max(1, int(steps * warmup))
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))


def _best_epoch(history: list[dict[str, Any]]) -> int:
    return 1 + int(np.argmax([row["select"] for row in history]))


def _save(model: nn.Module, optimizer: Any, schedule: Any, history: Any, best: dict[str, Tensor], folder: Path) -> None:
    state = {
        "model": model.state_dict(),
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
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return json.loads((folder / "history.json").read_text(encoding="utf-8")), state["best"]
