"""Trains both classifiers on labeled reviews, data-parallel on Ray Train, and seals them into a bundle.

In: labels (see `labels/reader.py`) and a base model. Out: a bundle. Checkpoints and metrics are in the training folder
beside it, from which `--resume` continues after a killed driver.
"""

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ray_app.errors import check
from ray_app.options import as_dict, option
from ray_app.training.options import TrainingOptions

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerFast

    from ray_app.data.taxonomy import Taxonomy
    from ray_app.engine.encoder import EncoderClassifier
    from ray_app.training.checkpoints import Checkpoints
    from ray_app.training.classifier_task import ClassifierTask
    from ray_app.training.loop import EpochRow, Settings

DONE = "done.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Options of `jobs.train`."""

    labels: str = option(
        "sample", "labeled reviews: Parquet, JSONL, CSV/TSV, a folder of them, or sample", "Data", common=True
    )
    output: str = option("runs/bundle", "bundle folder to write; must not exist", "Data", common=True)
    taxonomy: str = option("default", "default, labels (the keywords they name) or a YAML file", "Data", common=True)
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and report it", "Data", ("fail", "drop"))
    base_model: str = option(
        "klue/roberta-base", "Hugging Face encoder, folder, starter (shipped), or scratch", "Model", common=True
    )
    layers: int = option(0, "keep only this many first layers of the encoder, 0 for all", "Model", least=0)
    pooling: str = option(
        "auto",
        "which vector the classifiers read; auto is mean for starter and scratch, else first",
        "Model",
        ("auto", "first", "mean"),
    )
    dropout: float = option(0.2, "dropout before the linear layer", "Model", least=0, below=1)
    encoder_dropout: float = option(0.1, "dropout inside the encoder", "Model", least=0, below=1)
    epochs: int = option(5, "passes of the keyword classifier", "Training", least=1, common=True)
    score_epochs: int = option(0, "passes of the score classifier, 0 for as many", "Training", least=0)
    learning_rate: float = option(
        0.0, "peak learning rate, 0 for 1e-3 with starter and scratch, else 5e-5", "Training", least=0, common=True
    )
    head_start: float = option(5.0, "learning rate of the linear layer relative to the encoder's", "Training", above=0)
    probe: bool = option(
        True, "start the keywords' linear layer from a logistic regression on the untouched encoder", "Training"
    )
    weight_decay: float = option(0.01, "weight decay of matrices", "Training", least=0)
    warmup: float = option(0.1, "share of steps with a rising learning rate", "Training", least=0, most=1)
    balance: float = option(
        0.5, "score class weights: frequency to the power of minus this; 0 for none", "Training", least=0
    )

    def resolved(self) -> "Config":
        """With every `auto` decided and every path absolute, so that it holds in a worker's own working folder."""
        from ray_app.storage import absolute

        small = self.base_model in ("starter", "scratch")
        return replace(
            self,
            pooling=("mean" if small else "first") if self.pooling == "auto" else self.pooling,
            learning_rate=self.learning_rate or (1e-3 if small else 5e-5),
            base_model=absolute(self.base_model) if Path(self.base_model).is_dir() and not small else self.base_model,
            storage_path=absolute(self.storage),
        )


class _Finished(TypedDict):
    """`done.json` of a trained classifier: its best epoch, and per keyword the tuned threshold (none of scores)."""

    best: "EpochRow"
    thresholds: list[float]


def run(config: Config) -> str:
    """Trains, seals the bundle, prints where it is and returns its id. Raises UserError where the output exists."""
    from ray_app import storage
    from ray_app.inference.bundle import MODELS
    from ray_app.labels import reader
    from ray_app.labels.hold_out import training_split
    from ray_app.training import checkpoints, workers

    config = config.resolved()
    check(storage.is_empty(config.output), f"--output {config.output}: already exists; remove it or name another")
    labels = reader.read_labels(config.labels, config.taxonomy, config.on_bad_label)
    for line in labels.dropped:
        log.info("dropped: %s", line)
    train, validation = training_split(labels, config.labels, config.validation, config.seed, config.limit)
    log.info(
        "%s training and %s validation reviews, %d keywords, %d dropped, base model %s",
        f"{len(train):,}",
        f"{len(validation):,}",
        len(labels.taxonomy.names),
        len(labels.dropped),
        config.base_model,
    )
    checkpoints.claim_folder(config, ("metrics.jsonl", "tensorboard"))
    began = time.monotonic()
    loop: dict[str, object] = {"config": as_dict(config), "taxonomy": labels.taxonomy.to_dict()}
    workers.launch(work, loop, {"train": train, "validation": validation}, config)
    finished = {name: storage.read_json(_done(config, name)) for name in MODELS}
    identity = _seal(config, labels.taxonomy, train, finished)
    checkpoints.clear_parts(
        config.storage, ("config.json", "ray", "checkpoints", *MODELS, "tokenizer", checkpoints.PROGRESS)
    )
    print(_summary(config, identity, finished, time.monotonic() - began))
    return identity


def work(loop: dict[str, Any], tables: dict[str, "pa.Table"], checkpoints: "Checkpoints") -> None:
    """Trains both classifiers, one after the other, on every worker. A finished one is not trained again.

    `loop`: the config and the taxonomy as plain values. `tables`: `train` and `validation`.
    """
    import torch

    from ray_app import storage
    from ray_app.data.taxonomy import from_dict
    from ray_app.inference.bundle import MODELS
    from ray_app.training.loop import Rank

    config, taxonomy = Config(**loop["config"]), from_dict(loop["taxonomy"], "taxonomy")
    torch.manual_seed(config.seed)
    for name in MODELS:
        if storage.exists(_done(config, name)):
            continue
        trained = _train(name, config, taxonomy, tables, checkpoints)
        if Rank.current().rank == 0:
            _save(config, trained)


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """A trained classifier and all that is saved of it."""

    task: "ClassifierTask"
    model: "EncoderClassifier"
    tokenizer: "PreTrainedTokenizerFast"
    history: "list[EpochRow]"


def _train(
    name: str, config: Config, taxonomy: "Taxonomy", tables: dict[str, "pa.Table"], checkpoints: "Checkpoints"
) -> _Trained:
    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import EncoderClassifier, load_base_model
    from ray_app.inference.bundle import SCORE_PROMPT
    from ray_app.training.linear_probe import initialize_head
    from ray_app.training.loop import train_model

    prompts = [SCORE_PROMPT.format(review="", keyword=keyword) for keyword in taxonomy.names]
    texts = [*tables["train"]["text"].to_pylist(), *prompts]  # what a tokenizer of our own must be able to write
    encoder, tokenizer = load_base_model(config.base_model, config.layers, texts, config.encoder_dropout)
    task = _task(name, config, taxonomy, tokenizer, tables)
    model = EncoderClassifier(encoder, task.outputs, config.dropout, config.pooling)
    resume = checkpoints.resume(name)
    if config.probe and name == "keywords" and resume is None:
        initialize_head(model, task.train, choose_device(config.device), task.pad_id, config.seed)
    report = checkpoints.reporter(name)
    history = train_model(model, task, _settings(config, name), report, resume, config.device, checkpoints.say)
    return _Trained(task=task, model=model, tokenizer=tokenizer, history=history)


def _task(
    name: str,
    config: Config,
    taxonomy: "Taxonomy",
    hf_tokenizer: "PreTrainedTokenizerFast",
    tables: dict[str, "pa.Table"],
) -> "ClassifierTask":
    from ray_app.engine.tokenizer import ScorePrompt, Tokenizer
    from ray_app.inference.bundle import SCORE_PROMPT
    from ray_app.training.classifier_task import keyword_task, score_task

    tokenizer, (train, validation) = Tokenizer(hf_tokenizer), (tables["train"], tables["validation"])
    if name == "keywords":
        return keyword_task(train, validation, taxonomy, tokenizer, config.max_length)
    prompt = ScorePrompt(tokenizer, taxonomy.names, SCORE_PROMPT)
    return score_task(train, validation, taxonomy, prompt, config.max_length, config.balance)


def _settings(config: Config, name: str) -> "Settings":
    from ray_app.training.loop import Settings

    return Settings(
        epochs=config.score_epochs if name == "scores" and config.score_epochs else config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        accumulate=config.accumulate,
        clip=config.clip,
        patience=config.patience,
        head_start=config.head_start,
        seed=config.seed,
    )


def _done(config: Config, name: str) -> str:
    """The file that makes a trained classifier in the training folder count."""
    from ray_app import storage

    return storage.join(config.storage, name, DONE)


def _save(config: Config, trained: _Trained) -> None:
    """Writes a trained classifier into the training folder; `done.json` comes last and makes it count."""
    from ray_app import storage
    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import save_model
    from ray_app.training.classifier_task import keyword_thresholds

    task = trained.task
    thresholds: list[float] = []
    if task.name == "keywords":
        logits = task.validation_logits(trained.model, choose_device(config.device))
        thresholds = keyword_thresholds(task.validation, logits)
    with tempfile.TemporaryDirectory() as folder:
        save_model(trained.model, Path(folder) / task.name)
        trained.tokenizer.save_pretrained(Path(folder) / "tokenizer")
        for name in (task.name, "tokenizer"):
            storage.upload(str(Path(folder) / name), storage.join(config.storage, name))
    best = max(trained.history, key=lambda row: row["select"])
    storage.write_json(_done(config, task.name), _Finished(best=best, thresholds=thresholds))


def _seal(config: Config, taxonomy: "Taxonomy", train: "pa.Table", finished: dict[str, _Finished]) -> str:
    """Training folder -> bundle; returns its id. The bundle appears under its name only when it is whole."""
    from ray_app import __version__, storage
    from ray_app.engine.encoder import base_name
    from ray_app.inference import bundle
    from ray_app.labels.matrices import keyword_support

    meta = bundle.BundleMeta(
        taxonomy=taxonomy,
        thresholds=tuple(finished["keywords"]["thresholds"]),
        max_length=config.max_length,
        pooling=config.pooling,
        metrics={name: done["best"] for name, done in finished.items()},
        support=keyword_support(train),
        provenance={
            "base_model": base_name(config.base_model),
            "labels": config.labels,
            "rows": len(train),
            "nunchi": __version__,
            "config": as_dict(config),
            "trained": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        for name in (*finished, "tokenizer"):
            storage.download(storage.join(config.storage, name), folder / name, leave=(DONE,))
        identity = bundle.seal(folder, meta)
        storage.upload(str(folder), config.output, last="bundle.json")
    return identity


def _summary(config: Config, identity: str, finished: dict[str, _Finished], seconds: float) -> str:
    """Where the bundle is, how good its classifiers are on validation rows, and what a user does next."""
    from ray_app.cli import next_command

    f1, scores = finished["keywords"]["best"]["select"], finished["scores"]["best"]
    command = next_command("evaluate", bundle=config.output, labels=config.labels)
    return (
        f"bundle {identity} in {config.output} after {seconds:.0f} s; on validation rows: keywords micro F1 {f1:.3f}, "
        f"score accuracy {scores['accuracy']:.3f}\nNext: {command}"
    )
