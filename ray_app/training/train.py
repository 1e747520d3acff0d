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

from ray_app.errors import check
from ray_app.options import as_dict, option
from ray_app.training.options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Options of `jobs.train`."""

    labels: str = option(
        "sample", "labeled reviews: Parquet, JSONL, CSV/TSV, a folder of them, or sample", "Data", common=True
    )
    output: str = option("runs/bundle", "bundle folder to write; must not exist", "Data", common=True)
    taxonomy: str = option("default", "default, labels (what the labels span) or a YAML file", "Data", common=True)
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and say so", "Data", ("fail", "drop"))
    base_model: str = option(
        "klue/roberta-base", "Hugging Face encoder, folder, starter (shipped), or scratch", "Model", common=True
    )
    layers: int = option(0, "keep only the encoder's first layers, 0 for all", "Model", least=0)
    pooling: str = option(
        "auto",
        "which vector the classifiers read; auto is mean for starter and scratch, else first",
        "Model",
        ("auto", "first", "mean"),
    )
    dropout: float = option(0.2, "dropout before the linear layer", "Model", least=0, below=1)
    encoder_dropout: float = option(0.1, "dropout inside the encoder", "Model", least=0, below=1)
    epochs: int = option(5, "passes of the keyword classifier", "Training", least=1, common=True)
    score_epochs: int = option(0, "passes of the score classifier, 0 for the same", "Training", least=0)
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
    from ray_app.labels.hold_out import training_split
    from ray_app.training import checkpoints, workers

    config = config.resolved()
    check(storage.is_empty(config.output), f"--output {config.output}: already there; remove it or name another")
    found = reader.read_labels(config.labels, config.taxonomy, config.on_bad_label)
    for line in found.dropped:
        print(f"dropped: {line}")
    train, validation = training_split(found, config.labels, config.validation, config.seed, config.limit)
    print(
        f"{len(train):,} training and {len(validation):,} validation reviews, {len(found.taxonomy.names)} keywords, "
        f"{len(found.dropped)} dropped, base model {config.base_model}",
        flush=True,
    )
    checkpoints.claim_folder(config, ("metrics.jsonl", "tensorboard"))
    began = time.monotonic()
    loop = {"config": as_dict(config), "taxonomy": found.taxonomy.to_dict()}
    tables = {"train": train, "validation": validation}
    workers.launch(work, loop, tables, config)
    identity = _seal(config, found, train)
    checkpoints.clear_parts(
        config.storage, ("config.json", "ray", "checkpoints", "keywords", "scores", "tokenizer", checkpoints.PROGRESS)
    )
    print(f"bundle {identity} in {config.output} after {time.monotonic() - began:.0f} s")
    return identity


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
        epochs=epochs,
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


@dataclass(frozen=True, kw_only=True)
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
            outputs=len(taxonomy.names),
            train=learn,
            validation=held,
            objective=Objective(name, "multilabel"),
            score=classifier_task.keyword_judge(held),
            thresholds=classifier_task.keyword_thresholds(held),
            pad_id=tokenizer.pad_id,
        )
    prompt = ScorePrompt(tokenizer, taxonomy.names, SCORE_PROMPT)
    learn, held = (
        classifier_task.score_data(t, taxonomy, tokenizer, prompt, config.max_length) for t in (train, validation)
    )
    weights = classifier_task.class_weights(learn.targets, len(taxonomy.scores), config.balance)
    return _Task(
        outputs=len(taxonomy.scores),
        train=learn,
        validation=held,
        objective=Objective(name, "classes", weights),
        score=classifier_task.score_judge(held, taxonomy),
        thresholds=lambda _: [],
        pad_id=tokenizer.pad_id,
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
        taxonomy=found.taxonomy,
        thresholds=tuple(done["keywords"]["thresholds"]),
        max_length=config.max_length,
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
