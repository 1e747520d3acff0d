"""Trains one classifier, keywords or scores, as the options say. Runs on every worker.

In: options, taxonomy, labeled tables. Out: the trained model with all that is saved of it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from ray_app.data.taxonomy import Taxonomy
    from ray_app.engine.device import Device
    from ray_app.engine.encoder import EncoderClassifier
    from ray_app.engine.keyword_attention import KeywordScorer
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.training.checkpoints import Checkpoints
    from ray_app.training.classifier_options import Config
    from ray_app.training.classifier_task import ClassifierTask
    from ray_app.training.keyword_scores import KeywordScoreTask
    from ray_app.training.loop import EpochRow, TrainingTask
    from ray_app.training.settings import Settings
    from ray_app.training.tuning.kept import Opened

M = TypeVar("M", "EncoderClassifier", "KeywordScorer")
DRAWS = 4  # epochs with joined reviews of their own under a frozen encoder: from the fifth on every text is known


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model and all that is saved of it; `thresholds` per keyword, none of scores; `base` tells apart what it
    started from, and `added` is what trained in its encoder, None where all of it did."""

    name: str
    model: "EncoderClassifier | KeywordScorer"
    tokenizer: "PreTrainedTokenizerFast"
    history: "list[EpochRow]"
    thresholds: list[float]
    base: str
    added: "dict[str, Tensor] | None"


def train_classifier(
    name: str, config: "Config", taxonomy: "Taxonomy", tables: dict[str, "pa.Table"], checkpoints: "Checkpoints"
) -> Trained:
    """Trains the model called `name`, keywords, scores or joint, from its base model or its last checkpoint."""
    from ray_app.training.base_checks import start

    opened = start(name, config, taxonomy, tables["train"]["text"].to_pylist(), config.device)
    attends = name == "joint" or (name == "scores" and config.score_form == "attention")
    train = _train_scorer if attends else _train_pooled
    return train(name, config, taxonomy, tables, opened, checkpoints)


def _train_pooled(
    name: str,
    config: "Config",
    taxonomy: "Taxonomy",
    tables: dict[str, "pa.Table"],
    opened: "Opened",
    checkpoints: "Checkpoints",
) -> Trained:
    """A model that reads one vector per text: the keyword classifier, or the score classifier of the prompt form."""
    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import EncoderClassifier
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.training.base_checks import prepare, tokenizer_of, way_of
    from ray_app.training.linear_probe import initialize_head

    hf, base = tokenizer_of(opened, way_of(config, name), config.base_model), Tokenizer(opened.tokenizer)
    resume, device = checkpoints.resume(name), choose_device(config.device)
    task = _task(name, config, taxonomy, Tokenizer(hf), tables)
    model = EncoderClassifier(opened.encoder, task.outputs, config.dropout, config.pooling)
    prepare(model, base, config)
    if opened.head is not None:
        model.head.load_state_dict(opened.head)
    elif config.probe and name == "keywords" and (resume is None or config.tune == "embeddings"):
        plain = task if hf is opened.tokenizer else _task(name, config, taxonomy, base, tables)  # no virtual tokens yet
        initialize_head(model, plain.train, device, plain.pad_id, config.seed)
    history, added = _learn(model, task, name, config, base, taxonomy, checkpoints, resume)
    thresholds = _finished(model, task, name, device, opened.thresholds)
    return Trained(
        name=name,
        model=model,
        tokenizer=hf,
        history=history,
        thresholds=thresholds,
        base=opened.identity,
        added=added,
    )


def _finished(
    model: "EncoderClassifier", task: "ClassifierTask", name: str, device: "Device", known: "Sequence[float] | None"
) -> list[float]:
    """Thresholds of the keyword classifier; none of the score classifier, whose scores are calibrated instead.
    `known`: what they were before it was trained further."""
    import numpy as np

    from ray_app.training import calibration
    from ray_app.training.classifier_task import keyword_thresholds

    logits, targets = task.validation_logits(model, device), task.validation.targets
    if name == "keywords":
        return keyword_thresholds(targets.astype(bool), logits, known)
    calibration.apply(model.head, *calibration.fit(logits, targets.astype(np.int64)))
    return []


def _train_scorer(
    name: str,
    config: "Config",
    taxonomy: "Taxonomy",
    tables: dict[str, "pa.Table"],
    opened: "Opened",
    checkpoints: "Checkpoints",
) -> Trained:
    """A model whose keywords attend: the score classifier, or the joint one."""
    from ray_app.engine.device import choose_device
    from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.training import calibration
    from ray_app.training.base_checks import prepare, tokenizer_of, way_of
    from ray_app.training.keyword_queries import initialize_queries

    hf, base = tokenizer_of(opened, way_of(config, name), config.base_model), Tokenizer(opened.tokenizer)
    task = _scorer_task(name, config, taxonomy, Tokenizer(hf), tables, known=opened.head is not None)
    width, outputs = int(opened.encoder.config.hidden_size), len(taxonomy.scores) + task.finds
    if opened.head is None:
        head = KeywordAttention(len(taxonomy.names), width, outputs, config.dropout)
    else:
        head = KeywordAttention.of(opened.head, config.dropout)
    model, resume, device = KeywordScorer(opened.encoder, head), checkpoints.resume(name), choose_device(config.device)
    prepare(model, base, config)
    if resume is None and opened.head is None:
        initialize_queries(model, tables["train"]["text"].to_pylist(), taxonomy, base, config.max_length, device)
    history, added = _learn(model, task, name, config, base, taxonomy, checkpoints, resume)
    found = task.thresholds(model, device, opened.thresholds)
    calibration.apply(model.head.out, *calibration.fit(*task.validation_scores(model, device)))
    return Trained(
        name=name,
        model=model,
        tokenizer=hf,
        history=history,
        thresholds=found,
        base=opened.identity,
        added=added,
    )


def _learn(
    model: M,
    task: "TrainingTask[M]",
    name: str,
    config: "Config",
    base: "Tokenizer",
    taxonomy: "Taxonomy",
    checkpoints: "Checkpoints",
    resume: "Path | None",
) -> "tuple[list[EpochRow], dict[str, Tensor] | None]":
    """Tunes the model, which is plain again afterwards. Returns the epochs, and what trained in its encoder."""
    from ray_app.training.base_checks import way_of
    from ray_app.training.loop import Rank, train_model
    from ray_app.training.tuning import kept
    from ray_app.training.tuning.tune import counted, make_plain, tune

    way = way_of(config, name)
    before = kept.words_before(model.encoder, way)
    tune(model, way, base, taxonomy.names)
    if Rank.current().rank == 0:
        checkpoints.say(counted(model, name, way.kind))
    told = (_settings(config, name), checkpoints.reporter(name), resume, config.device, checkpoints.say)
    history = train_model(model, task, *told)
    added = None if way.kind == "full" else kept.learned(model.encoder, before)
    make_plain(model)
    return history, added


def _scorer_task(
    name: str,
    config: "Config",
    taxonomy: "Taxonomy",
    tokenizer: "Tokenizer",
    tables: dict[str, "pa.Table"],
    known: bool,
) -> "KeywordScoreTask":
    """`known`: whether the head was trained, or made by a reader."""
    from ray_app.training.keyword_scores import HEAD_RATE, KNOWN_HEAD, keyword_score_task
    from ray_app.training.tuning.kinds import FAST

    kind = config.tuned(name)
    return keyword_score_task(
        *(tables["train"], tables["validation"], taxonomy, tokenizer, config.max_length),
        balance=config.balance,
        evidence=config.evidence,
        join=config.join,
        seed=config.seed,
        finds=name == "joint",
        head_rate=KNOWN_HEAD if known else HEAD_RATE,
        encoder_rate=FAST.get(kind, 1.0),
        draws=DRAWS if kind == "head" else 0,
    )


def _task(
    name: str,
    config: "Config",
    taxonomy: "Taxonomy",
    tokenizer: "Tokenizer",
    tables: dict[str, "pa.Table"],
) -> "ClassifierTask":
    from ray_app.engine.tokenizer import ScorePrompt
    from ray_app.inference.bundle import SCORE_PROMPT
    from ray_app.training.classifier_task import keyword_task, score_task
    from ray_app.training.partial_labels import fully_labeled
    from ray_app.training.tuning.kinds import FAST

    train, validation = fully_labeled(tables["train"]), tables["validation"]
    kind = config.tuned(name)
    seed, draws = config.seed, DRAWS if kind == "head" else 0
    if name == "keywords":
        told = (train, validation, taxonomy, tokenizer, config.max_length)
        task = keyword_task(*told, join=config.join_keywords, seed=seed, draws=draws)
    else:
        prompt = ScorePrompt(tokenizer, taxonomy.names, SCORE_PROMPT)
        read = (train, validation, taxonomy, prompt, config.max_length)
        task = score_task(*read, balance=config.balance, join=config.join, seed=seed, draws=draws)
    task.encoder_rate = FAST.get(kind, 1.0)
    return task


def _settings(config: "Config", name: str) -> "Settings":
    from ray_app.training.settings import settings_of

    epochs = config.score_epochs if name == "scores" else 0
    return settings_of(config, epochs=epochs or config.epochs)
