"""Teaches a bundle to read keywords that nobody labeled: from labels of several taxonomies at once.

In: a bundle of the joint form, whose encoder stays as it is, and label sets, each with keywords of its own. Out: the
same bundle with `reader.safetensors` beside its models, from which `first_guess.py` makes a head for any taxonomy.
A keyword is given as its texts, and not always all of them, so that it is read and not known by its number.
"""

import logging
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app.errors import check
from ray_app.options import SEEDS, Options, as_dict, option
from ray_app.training.options import track_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_app.engine.keyword_reader import KeywordReader
    from ray_app.inference.bundle import Bundle
    from ray_app.training.loop import EpochRow, Reporter
    from ray_app.training.settings import Settings
    from ray_app.training.unlabeled.aspect_task import AspectTask, LabelSet

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AspectsConfig(Options):
    """Options of `jobs.pretrain aspects`."""

    labels: tuple[str, ...] = option(
        ("sample",),
        "labels of several taxonomies, each FILE=TAXONOMY.yaml; FILE alone takes the names of its keywords, sample is "
        "the shipped set",
        "Data",
        common=True,
    )
    bundle: str = option("ready", "bundle of the joint form whose encoder reads", "Data", common=True)
    output: str = option("runs/reader", "bundle to write: the same, with the reader", "Data", common=True)
    max_length: int = option(128, "tokens of a review that are read", "Model", least=16)
    epochs: int = option(2, "passes over the labels", "Training", least=1, common=True)
    batch_size: int = option(32, "reviews per optimizer step", "Training", least=1)
    learning_rate: float = option(1e-3, "peak learning rate", "Training", above=0)
    evidence: float = option(0.3, "weight of drawing attention onto the words of labels", "Training", least=0)
    precision: str = option(
        "auto", "arithmetic of training steps; auto is bf16 on GPUs that have it", "Training", ("auto", "fp32", "bf16")
    )
    device: str = option("auto", "where to train", "Training", ("auto", "cpu", "cuda"), common=True)
    track: str = track_option()
    seed: int = option(0, "seed of everything random", "Training", least=0, below=SEEDS)

    @property
    def storage(self) -> str:
        """The training folder: with a tracker, metrics stay there."""
        return self.output.rstrip("/") + ".training"


def train_aspects(config: AspectsConfig) -> str:
    """Trains in this process, writes the bundle, prints where it is and returns its id."""
    from ray_app import storage
    from ray_app.cli import next_command
    from ray_app.inference import bundle as bundles
    from ray_app.storage.lease import sole_trainer
    from ray_app.training.tracking import follower

    follower.check_tracker(config.track)
    check(storage.is_empty(config.output), f"--output {config.output}: already exists; remove it or name another")
    bundle = bundles.load(config.bundle)
    bundles.check_joint(bundle, "--bundle")
    with sole_trainer(config.output), tempfile.TemporaryDirectory() as scratch:
        folder, began = Path(scratch) / "bundle", time.monotonic()
        with follower.tracked(config.track, config.output, config.storage, as_dict(config)) as tracked:
            history = _train(config, bundle, folder / bundles.READER)
            identity = _sealed(bundle, folder, config.output)
            tracked.note(identity, {"reader": history[-1]}, time.monotonic() - began)
    command = next_command("analyze", input="REVIEWS", bundle=config.output, taxonomy="YOUR_TAXONOMY.yaml")
    print(f"bundle {identity} in {config.output} reads keywords without labels\nNext: {command}")
    return identity


def _sealed(bundle: "Bundle", folder: Path, output: str) -> str:
    """Seals the folder, which holds the reader, with the rest of the bundle; returns its id."""
    from ray_app import storage
    from ray_app.inference import bundle as bundles
    from ray_app.inference import known_texts

    for part in ("joint", "tokenizer"):
        shutil.copytree(bundle.path / part, folder / part)
    if (known := bundle.path / known_texts.FILE).is_file():
        shutil.copy(known, folder)
    identity = bundles.seal(folder, bundle.meta)
    storage.upload(str(folder), output, last="bundle.json")
    return identity


def _train(config: AspectsConfig, bundle: "Bundle", file: Path) -> "list[EpochRow]":
    """Trains the reader and writes it; returns its epochs."""
    import torch

    from ray_app.engine import keyword_reader
    from ray_app.training.settings import Settings

    torch.manual_seed(config.seed)
    settings = Settings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        precision=config.precision,
        patience=0,
        seed=config.seed,
        keep_last=True,
    )
    history: list[EpochRow] = []
    show = _shown(config)

    def report(metrics: "EpochRow", write: object) -> None:
        history.append(metrics)
        show(metrics)

    keyword_reader.save(train_reader(_task(config, bundle), settings, config.device, report), file)
    return history


def _shown(config: AspectsConfig) -> "Callable[[EpochRow], None]":
    """Where epochs go: to the user and, where a tracker follows, into the training folder."""
    from ray_app.training.checkpoints import MetricsLog, clear_parts

    if config.track == "off":
        return lambda row: log.info("%s", row)
    clear_parts(config.storage, ("metrics.jsonl", "tensorboard"))
    return MetricsLog(config.storage, "reader", log.info)


def train_reader(
    task: "AspectTask", settings: "Settings", device: str = "auto", report: "Reporter | None" = None
) -> "KeywordReader":
    """A new reader, trained."""
    from ray_app.engine.keyword_reader import KeywordReader
    from ray_app.training.loop import train_model

    reader = KeywordReader(len(task.mean))
    reader.attention.mean.copy_(task.mean)
    reader.attention.spread.copy_(task.spread)
    train_model(reader, task, settings, report or (lambda row, _: log.info("%s", row)), None, device, log.info)
    return reader


def _task(config: AspectsConfig, bundle: "Bundle") -> "AspectTask":
    """What the reader learns: the states of every label set's reviews, and the vectors of its keywords."""
    from ray_app.engine.device import choose_device, trains_in_bf16
    from ray_app.engine.encoder import load_keyword_scorer
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.training.unlabeled.aspect_task import AspectTask, label_set

    device = choose_device(config.device)
    model = load_keyword_scorer(bundle.path / "joint", 0.0)
    model.batching = bundle.meta.batching
    tokenizer = Tokenizer.load(bundle.path / "tokenizer")
    sets: list[LabelSet] = []
    bf16 = trains_in_bf16(config.precision, device)
    for given in config.labels:
        one = label_set(given, model, tokenizer, device, config.max_length, config.evidence, bf16, config.seed)
        sets.append(one)
        log.info("%s: %d reviews, %d keywords", given, len(sets[-1].task.rows), len(sets[-1].vectors))
    return AspectTask(sets=sets, mean=model.head.mean, spread=model.head.spread, seed=config.seed)
