"""Trains both classifiers on labelled reviews, data-parallel on Ray Train, and seals them into a bundle.

In: labels (see `labels.py`) and a base model. Out: a bundle. Checkpoints and metrics lie in the training folder beside
it, so that `--resume` goes on where a killed driver stopped.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray_app.cli import as_dict, option
from ray_app.errors import check


@dataclass(frozen=True)
class Config:
    """Options of `jobs.train`."""

    labels: str = option("sample", "labelled reviews: Parquet, JSONL, CSV/TSV, a folder of them, or sample", "Data")
    output: str = option("runs/bundle", "bundle folder to write; must not exist", "Data")
    taxonomy: str = option("default", "default, labels (what the labels span) or a YAML file", "Data")
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and say so", "Data", ("fail", "drop"))
    validation: float = option(0.1, "share of rows held out where the labels name no validation rows", "Data")
    limit: int = option(0, "train on so many rows only, 0 for all", "Data")
    base_model: str = option(
        "klue/roberta-base", "Hugging Face encoder, folder, starter (shipped), or scratch", "Model"
    )
    layers: int = option(0, "keep only the encoder's first layers, 0 for all", "Model")
    pooling: str = option(
        "auto",
        "which vector the classifiers read; auto is mean for starter and scratch, else first",
        "Model",
        ("auto", "first", "mean"),
    )
    dropout: float = option(0.2, "dropout before the linear layer", "Model")
    encoder_dropout: float = option(0.1, "dropout inside the encoder", "Model")
    max_length: int = option(256, "tokens a classifier reads; longer reviews are cut and marked truncated", "Model")
    epochs: int = option(5, "passes of the keyword classifier", "Training")
    score_epochs: int = option(0, "passes of the score classifier, 0 for the same", "Training")
    batch_size: int = option(32, "rows an optimizer step, over all workers together", "Training")
    learning_rate: float = option(0.0, "peak learning rate, 0 for 1e-3 with starter and scratch, else 5e-5", "Training")
    head_start: float = option(5.0, "learning rate of the linear layer over the encoder's", "Training")
    probe: bool = option(
        True, "start the keywords' linear layer from a logistic regression on the untouched encoder", "Training"
    )
    weight_decay: float = option(0.01, "weight decay of matrices", "Training")
    warmup: float = option(0.1, "share of steps with a rising learning rate", "Training")
    accumulate: int = option(1, "pieces a worker's batch is computed in, to save memory", "Training")
    clip: float = option(1.0, "largest gradient norm", "Training")
    patience: int = option(2, "stop after so many epochs without gain, 0 never", "Training")
    balance: float = option(0.5, "score class weights: frequency to the power of minus this; 0 for none", "Training")
    seed: int = option(0, "seed of everything random", "Training")
    workers: int = option(1, "training processes; 0 trains in this process, without Ray", "Cluster")
    device: str = option("auto", "where to train", "Cluster", ("auto", "cpu", "cuda"))
    cpus_per_worker: float = option(0.0, "CPUs a worker reserves", "Cluster")
    storage_path: str = option("", "folder or s3:// for checkpoints, seen by all workers; OUTPUT.training", "Cluster")
    max_failures: int = option(2, "how often killed workers are started again", "Cluster")
    resume: bool = option(False, "go on with an interrupted run of the same output", "Cluster")

    def __post_init__(self) -> None:
        check(0 < self.validation < 1, f"--validation {self.validation}: write a share between 0 and 1")
        for name in ("epochs", "batch_size", "accumulate"):
            check(getattr(self, name) >= 1, f"--{name.replace('_', '-')} {getattr(self, name)}: at least 1")
        check(0 <= self.dropout < 1, f"--dropout {self.dropout}: write a number from 0 to below 1")
        check(self.max_length >= 16, f"--max-length {self.max_length}: at least 16")
        check(self.learning_rate >= 0, f"--learning-rate {self.learning_rate}: must not be below 0")
        check(self.workers >= 0, f"--workers {self.workers}: 0 or more")

    @property
    def storage(self) -> str:
        """Where checkpoints, metrics and finished classifiers are kept while training."""
        return self.storage_path or self.output.rstrip("/") + ".training"

    def resolved(self) -> "Config":
        """With every `auto` decided and every path as a worker elsewhere on this machine would write it."""
        from ray_app.storage import absolute

        small = self.base_model in ("starter", "scratch")
        return replace(
            self,
            pooling=("mean" if small else "first") if self.pooling == "auto" else self.pooling,
            learning_rate=self.learning_rate or (1e-3 if small else 5e-5),
            base_model=absolute(self.base_model) if Path(self.base_model).is_dir() and not small else self.base_model,
            storage_path=absolute(self.storage),
        )


def run(config: Config) -> str:
    """Trains, seals the bundle and returns its id."""
    from ray_app import storage
    from ray_app.labels import reader
    from ray_app.training import checkpoints, workers

    config = config.resolved()
    check(storage.is_empty(config.output), f"--output {config.output}: already there; remove it or name another")
    found = reader.read_labels(config.labels, config.taxonomy, config.on_bad_label)
    for line in found.dropped:
        print(f"dropped: {line}")
    train, validation = _split(found, config)
    print(
        f"{len(train):,} training and {len(validation):,} validation reviews, {len(found.taxonomy.names)} keywords, "
        f"{len(found.dropped)} dropped, base model {config.base_model}",
        flush=True,
    )
    checkpoints.claim_folder(config.storage, as_dict(config), config.resume, ("metrics.jsonl", "tensorboard"))
    began = time.monotonic()
    loop = {"config": as_dict(config), "taxonomy": found.taxonomy.to_dict()}
    tables = {"train": train, "validation": validation}
    workers.launch(
        "ray_app.training.train:work",
        loop,
        tables,
        config.storage,
        config.workers,
        config.device,
        config.cpus_per_worker,
        config.max_failures,
    )
    identity = _seal(config, found, train)
    checkpoints.clear_parts(
        config.storage, ("config.json", "ray", "checkpoints", "keywords", "scores", "tokenizer", checkpoints.PROGRESS)
    )
    print(f"bundle {identity} in {config.output} after {time.monotonic() - began:.0f} s")
    return identity


def _split(found: Any, config: Config) -> tuple[Any, Any]:
    """Training and validation tables; test rows take no part. Without validation rows a seeded share is held out."""
    import numpy as np
    import pyarrow as pa

    train, validation = found.split("train", None), found.split("validation")
    check(len(train) > 1, f"{config.labels}: no training rows (only test or validation)")
    order = np.random.default_rng(config.seed).permutation(len(train))
    if not len(validation):
        held = max(1, round(len(train) * config.validation))
        validation, train = train.take(pa.array(order[:held])), train.take(pa.array(np.sort(order[held:])))
    if config.limit:
        train = train.slice(0, config.limit)
    return train, validation


def work(loop: dict[str, Any], tables: dict[str, Any], checkpoints: Any) -> None:
    """What every worker does: both classifiers, one after the other. A finished one is kept and not trained again."""
    import torch

    from ray_app import storage
    from ray_app.data.taxonomy import from_dict
    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import EncoderClassifier, load_base_model
    from ray_app.inference.bundle import SCORE_PROMPT
    from ray_app.training.classifier_task import fit
    from ray_app.training.linear_probe import initialize_head
    from ray_app.training.loop import Rank

    config, known = Config(**loop["config"]), from_dict(loop["taxonomy"], "taxonomy")
    train, validation = tables["train"], tables["validation"]
    torch.manual_seed(config.seed)
    prompts = [SCORE_PROMPT.format(review="", keyword=name) for name in known.names]
    texts = [*train["text"].to_pylist(), *prompts]  # what a tokenizer of our own must be able to write
    for name in ("keywords", "scores"):
        if storage.exists(storage.join(config.storage, name, "done.json")):
            continue
        encoder, hf_tokenizer = load_base_model(config.base_model, config.layers, texts, config.encoder_dropout)
        task = _task(name, config, known, hf_tokenizer, train, validation)
        model = EncoderClassifier(encoder, task.outputs, config.dropout, config.pooling)
        resume = checkpoints.resume(name)
        if config.probe and name == "keywords" and resume is None:
            initialize_head(model, task.train, choose_device(config.device), task.pad_id, config.seed)
        history = fit(
            model,
            task.train,
            task.validation,
            task.objective,
            _settings(config, name),
            task.score,
            task.pad_id,
            checkpoints.reporter(name),
            resume,
            config.device,
            checkpoints.say,
        )
        if Rank.current().rank == 0:
            _keep(config, name, model, hf_tokenizer, history, task)


def _settings(config: Config, name: str) -> Any:
    from ray_app.training.loop import Settings

    epochs = config.score_epochs if name == "scores" and config.score_epochs else config.epochs
    return Settings(
        epochs,
        config.batch_size,
        config.learning_rate,
        config.weight_decay,
        config.warmup,
        config.accumulate,
        config.clip,
        config.patience,
        config.head_start,
        config.seed,
    )


@dataclass(frozen=True)
class _Task:
    """One classifier's data and what it is judged by."""

    outputs: int
    train: Any
    validation: Any
    objective: Any
    score: Callable[[Any], dict[str, float]]
    thresholds: Callable[[Any], Any]
    pad_id: int


def _task(name: str, config: Config, taxonomy: Any, hf_tokenizer: Any, train: Any, validation: Any) -> _Task:
    from ray_app.engine.tokenizer import ScorePrompt, Tokenizer
    from ray_app.inference.bundle import SCORE_PROMPT
    from ray_app.training import classifier_task
    from ray_app.training.classifier_task import Objective

    tokenizer = Tokenizer(hf_tokenizer)
    if name == "keywords":
        learn, held = (
            classifier_task.keyword_data(t, taxonomy, tokenizer, config.max_length) for t in (train, validation)
        )
        return _Task(
            len(taxonomy.names),
            learn,
            held,
            Objective(name, "multilabel"),
            classifier_task.keyword_judge(held),
            classifier_task.keyword_thresholds(held),
            tokenizer.pad_id,
        )
    prompt = ScorePrompt(tokenizer, taxonomy.names, SCORE_PROMPT)
    learn, held = (
        classifier_task.score_data(t, taxonomy, tokenizer, prompt, config.max_length) for t in (train, validation)
    )
    weights = classifier_task.class_weights(learn.targets, len(taxonomy.scores), config.balance)
    return _Task(
        len(taxonomy.scores),
        learn,
        held,
        Objective(name, "classes", weights),
        classifier_task.score_judge(held, taxonomy),
        lambda _: [],
        tokenizer.pad_id,
    )


def _keep(config: Config, name: str, model: Any, hf_tokenizer: Any, history: list[dict[str, Any]], task: _Task) -> None:
    """Writes a finished classifier into the training folder; `done.json` comes last and makes it count."""
    from ray_app import storage
    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import save_model
    from ray_app.training.classifier_task import evaluate

    thresholds = [
        float(t) for t in task.thresholds(evaluate(model, task.validation, choose_device(config.device), task.pad_id))
    ]
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / name)
        hf_tokenizer.save_pretrained(Path(folder) / "tokenizer")
        for part in (name, "tokenizer"):
            storage.upload(str(Path(folder) / part), storage.join(config.storage, part))
    best = max(history, key=lambda row: row["select"])
    storage.write_json(storage.join(config.storage, name, "done.json"), {"best": best, "thresholds": thresholds})


def _seal(config: Config, found: Any, train: Any) -> str:
    """Training folder -> bundle. The bundle appears under its name only when it is whole."""
    from ray_app import __version__, storage
    from ray_app.engine.encoder import base_name
    from ray_app.inference import bundle
    from ray_app.labels.matrices import keyword_support

    done = {name: storage.read_json(storage.join(config.storage, name, "done.json")) for name in bundle.MODELS}
    meta = bundle.BundleMeta(
        found.taxonomy,
        tuple(done["keywords"]["thresholds"]),
        config.max_length,
        pooling=config.pooling,
        metrics={name: done[name]["best"] for name in done},
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
        for part in (*bundle.MODELS, "tokenizer"):
            storage.download(storage.join(config.storage, part), folder / part, leave=("done.json",))
        identity = bundle.seal(folder, meta)
        storage.upload(str(folder), config.output, last="bundle.json")
    return identity
