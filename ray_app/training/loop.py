"""The training loop of every model here, data-parallel in an open process group. Knows no Ray.

In: a model and a TrainingTask (what it learns and how it is validated). Out: the model with its best epoch's weights,
and the history of epochs. Every worker holds all rows and takes its share of each global batch, drawn by a seed that
does not depend on the number of workers: one worker with batch size 2B and two with B each see the same losses.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NotRequired, Protocol, TypedDict, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ray_app.arrays import Ints
from ray_app.engine.batching import global_batches
from ray_app.engine.device import Device, choose_device, trains_in_bf16
from ray_app.errors import UserError, check, first_line
from ray_app.progress import Pace
from ray_app.training.optimizer import learning_rate_factor, parameter_groups
from ray_app.training.settings import Settings

LOG_SECONDS = 10.0
LOOK = {"cpu": 1, "cuda": 20}  # steps between two looks at whether losses are finite: each waits for a GPU

M = TypeVar("M", bound=nn.Module, contravariant=True)
log = logging.getLogger(__name__)


class EpochRow(TypedDict):
    """One epoch of one model, a line of `metrics.jsonl`."""

    model: str
    epoch: int
    epochs: int
    loss: float  # mean over the terms of all training rows
    rows_per_second: float
    select: float  # decides which epoch is best: higher is better
    accuracy: NotRequired[float]  # of a score classifier
    keywords_f1: NotRequired[float]  # of a joint model
    macro_f1: NotRequired[float]
    mae: NotRequired[float]
    validation_loss: NotRequired[float]  # of a language model, as perplexity
    perplexity: NotRequired[float]


class TrainingTask(Protocol[M]):
    """What a model learns and how it is validated."""

    @property
    def name(self) -> str:
        """Names the model in metrics and checkpoints."""

    @property
    def lengths(self) -> Ints:
        """[n] tokens of every training row: rows of similar length are batched together."""

    @property
    def terms(self) -> Ints:
        """[n] how many terms every row adds to the loss: 1, or its tokens that count. Losses are means over terms."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before each pass: rows may change from epoch to epoch, by the seed; their number may not."""

    def parts(self, model: M, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """Parts of the model, each with its factor on the learning rate."""

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The sum of these rows' terms; `model` may be wrapped for data-parallel training."""

    def validate(self, model: M, device: Device) -> dict[str, float]:
        """Metrics on validation rows; `select` decides which epoch is best (higher is better)."""


class Reporter(Protocol):
    """Takes an epoch's metrics and checkpoint: to Ray Train, or to a local folder."""

    def __call__(self, metrics: EpochRow, write: Callable[[Path], None]) -> None:
        """`write` writes the checkpoint into a folder."""


@dataclass(frozen=True)
class Rank:
    """This worker's number and how many there are."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "Rank":
        """Of the open process group; without one, a single worker."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def total(self, value: float, device: torch.device) -> float:
        """The sum of every worker's value."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, device=device, dtype=torch.float64)
        dist.all_reduce(shared)
        return float(shared)


def train_model(
    model: M,
    task: TrainingTask[M],
    settings: Settings,
    report: Reporter,
    resume: Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = log.info,
) -> list[EpochRow]:
    """Trains in place; at the end `model` has the weights of its best epoch, or of the last. Returns a row per epoch.

    Args:
        report: called by every worker after each epoch; only rank 0's writer writes.
        resume: a checkpoint folder that `report`'s writer wrote; its epochs are among the rows.
        say: takes lines of progress, on rank 0.
    """
    training = _Training(model, task, settings, choose_device(device), say)
    if resume:
        training.load(resume)
    for epoch in range(len(training.history) + 1, settings.epochs + 1):
        if training.has_stalled():
            break
        torch.manual_seed(settings.seed + 1000 * training.world.rank + epoch - 1)  # a resumed run drops out the same
        training.run_epoch(epoch)
        report(training.history[-1], training.save)
    _load_weights(model, training.best)
    return training.history


class _Training(Generic[M]):
    """A model in training: what its steps change and its checkpoints hold."""

    def __init__(
        self, model: M, task: TrainingTask[M], settings: Settings, device: Device, say: Callable[[str], None]
    ) -> None:
        self.model, self.task, self.settings, self.device, self.say = model, task, settings, device, say
        self.world = Rank.current()
        model.to(device.torch_device)
        self.wrapped: nn.Module = DistributedDataParallel(model) if self.world.size > 1 else model
        groups = parameter_groups(task.parts(model, settings), settings.learning_rate, settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, settings.learning_rate, fused=True)
        steps = math.ceil(len(task.lengths) / settings.batch_size) * settings.epochs
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, steps, settings.warmup)
        )
        self.look = LOOK[device.torch_device.type]
        self.in_bf16 = trains_in_bf16(settings.precision, device)  # products of a step; losses and validation are not
        self.history: list[EpochRow] = []
        self.best: dict[str, Tensor] = {}

    def has_stalled(self) -> bool:
        """Whether the last `patience` epochs brought no gain."""
        if not self.history or not self.settings.patience:
            return False
        return len(self.history) - 1 - int(np.argmax([row["select"] for row in self.history])) >= self.settings.patience

    def run_epoch(self, epoch: int) -> None:
        """One pass over the training rows, then validation: adds a row to the history, keeps the best weights."""
        loss, speed = self._train_pass(epoch)
        check(all(bool(torch.isfinite(p).all()) for p in self.model.parameters()), self._diverged())
        metrics = self.task.validate(self.model, self.device)
        check(math.isfinite(loss) and math.isfinite(metrics["select"]), self._diverged())
        if self.settings.keep_last or metrics["select"] > max(
            (row["select"] for row in self.history), default=-math.inf
        ):
            self.best = {name: value.detach().cpu().clone() for name, value in _trained_weights(self.model).items()}
        row = {
            "model": self.task.name,
            "epoch": epoch,
            "epochs": self.settings.epochs,
            "loss": loss,
            "rows_per_second": speed,
            **metrics,
        }
        self.history.append(cast(EpochRow, row))  # what else is in it is the task's own

    def _train_pass(self, epoch: int) -> tuple[float, float]:
        """Returns the mean loss per term over all workers, and rows per second."""
        pace = Pace(LOG_SECONDS)
        self.wrapped.train()
        self.task.begin_epoch(epoch)
        terms, batch_size = self.task.terms, self.settings.batch_size
        batches = list(global_batches(self.task.lengths, batch_size, epoch, self.settings.seed))
        total, counted = torch.zeros((), device=self.device.torch_device, dtype=torch.float64), 0
        for done, rows in enumerate(batches, 1):
            batch_terms = int(terms[rows].sum())
            loss, norm = self._step(rows[self.world.rank :: self.world.size], batch_terms)
            total += loss
            counted += batch_terms
            if done % self.look == 0 or done == len(batches):  # the same steps on all workers: all stop or none
                check(bool(torch.isfinite(norm) & torch.isfinite(total)), self._diverged())
            if self.world.rank == 0 and pace.due():
                speed = done * batch_size / pace.seconds
                self.say(
                    f"{self.task.name} epoch {epoch}/{self.settings.epochs} {done / len(batches):.0%} "
                    f"loss {float(total) * self.world.size / counted:.3f} {speed:.0f} rows/s, "
                    f"{(len(batches) - done) * batch_size / speed:.0f} s left in the epoch"
                )
        return self.world.total(float(total), self.device.torch_device) / counted, len(terms) / pace.seconds

    def _step(self, rows: Ints, batch_terms: int) -> tuple[Tensor, Tensor]:
        """One optimizer step; returns the sum of the losses of this worker's `rows` of a global batch, and the norm of
        the gradient, both on the device: reading a number waits for all that is under way there.

        DDP averages gradients over workers, so each one scales its sum by size / terms of the global batch: the mean
        over that batch is exact however unevenly its terms fall. A worker left without a row still takes part, with a
        weight of zero.
        """
        split = [piece for piece in np.array_split(rows, self.settings.accumulate) if len(piece)]
        pieces = split or [np.zeros(1, np.int64)]
        weight = 1.0 if len(rows) else 0.0
        torch_device, half = self.device.torch_device, self.in_bf16
        summed = torch.zeros((), device=torch_device)
        for i, piece in enumerate(pieces):
            ddp = self.wrapped if isinstance(self.wrapped, DistributedDataParallel) else None
            synchronized = ddp.no_sync() if ddp and i < len(pieces) - 1 else torch.enable_grad()
            with synchronized, torch.autocast(torch_device.type, torch.bfloat16, enabled=half):
                loss = self.task.loss(self.wrapped, piece, torch_device) * weight
                torch.autograd.backward(loss * self.world.size / batch_terms)
            summed += loss.detach()
        norm = nn.utils.clip_grad_norm_(self.wrapped.parameters(), self.settings.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return summed, norm

    def _diverged(self) -> str:
        """Why training stops. Gradients are summed over workers: all see a norm that is not finite. The weights are
        lost by then, those of the last checkpoint are not."""
        epoch, kept = len(self.history) + 1, len(self.history)
        last = f"; the checkpoint of epoch {kept} is kept" if kept else ""
        return (
            f"{self.task.name}: the loss or its gradients are not finite in epoch {epoch}, with --learning-rate "
            f"{self.settings.learning_rate:g}: lower it{last}"
        )

    def save(self, folder: Path) -> None:
        """Writes a checkpoint."""
        state = {
            "model": _trained_weights(self.model),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        with (folder / "state.pt").open("wb") as file:  # by a path, torch hides that the disk is full
            torch.save(state, file)
        (folder / "history.json").write_text(json.dumps(self.history), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Continues from a checkpoint."""
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        try:
            _load_weights(self.model, state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"--resume: the checkpoint of {self.task.name} is of another model or an earlier release "
                f"({first_line(error)}); remove the training folder and train anew"
            ) from None
        self.schedule.load_state_dict(state["schedule"])
        self.history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        self.best = state["best"]


def _trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state without frozen weights, which a checkpoint need not repeat."""
    frozen = {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def _load_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    model.load_state_dict(state, strict=all(p.requires_grad for p in model.parameters()))
