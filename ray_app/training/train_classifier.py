"""Trains one classifier, keywords or scores, as the options say. Runs on every worker.

In: options, taxonomy, labeled tables. Out: the trained model with all that is saved of it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from ray_app.data.taxonomy import Taxonomy
    from ray_app.engine.encoder import EncoderClassifier
    from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.training.checkpoints import Checkpoints
    from ray_app.training.classifier_options import Config
    from ray_app.training.classifier_task import ClassifierTask
    from ray_app.training.loop import EpochRow
    from ray_app.training.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model and all that is saved of it; `thresholds` per keyword, none of scores."""

    name: str
    model: "EncoderClassifier | KeywordScorer"
    tokenizer: "PreTrainedTokenizerFast"
    history: "list[EpochRow]"
    thresholds: list[float]


def train_classifier(
    name: str, config: "Config", taxonomy: "Taxonomy", tables: dict[str, "pa.Table"], checkpoints: "Checkpoints"
) -> Trained:
    """Trains the model called `name`, keywords, scores or joint, from its base model or its last checkpoint."""
    import numpy as np

    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import EncoderClassifier
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.training import calibration
    from ray_app.training.base_checks import open_base, prepare
    from ray_app.training.classifier_task import keyword_thresholds
    from ray_app.training.linear_probe import initialize_head
    from ray_app.training.loop import train_model

    if config.starts_from_bundle:
        return _train_further(name, config, taxonomy, tables, checkpoints)
    encoder, tokenizer = open_base(config, taxonomy, tables["train"]["text"].to_pylist())
    if name == "joint" or (name == "scores" and config.score_form == "attention"):
        return _train_scorer(name, config, taxonomy, tables, encoder, tokenizer, checkpoints)
    resume, own = checkpoints.resume(name), Tokenizer(tokenizer)
    task = _task(name, config, taxonomy, own, tables)
    model = EncoderClassifier(encoder, task.outputs, config.dropout, config.pooling)
    prepare(model, own, config)
    if config.probe and name == "keywords" and resume is None:
        initialize_head(model, task.train, choose_device(config.device), task.pad_id, config.seed)
    report = checkpoints.reporter(name)
    history = train_model(model, task, _settings(config, name), report, resume, config.device, checkpoints.say)
    thresholds: list[float] = []
    logits, targets = task.validation_logits(model, choose_device(config.device)), task.validation.targets
    if name == "keywords":
        thresholds = keyword_thresholds(targets.astype(bool), logits)
    else:
        calibration.apply(model.head, *calibration.fit(logits, targets.astype(np.int64)))
    return Trained(name=name, model=model, tokenizer=tokenizer, history=history, thresholds=thresholds)


def _train_further(
    name: str, config: "Config", taxonomy: "Taxonomy", tables: dict[str, "pa.Table"], checkpoints: "Checkpoints"
) -> Trained:
    """A bundle's joint model, trained further. With its own keywords and scores it goes on as it is; with others its
    encoder does, under a head that its reader makes from their texts, or, where it has none, under a new one."""
    from ray_app.engine import keyword_reader
    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import load_keyword_scorer
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.inference import bundle as bundles

    base = bundles.load(config.base_model)
    bundles.check_joint(base, "--base-model")
    model = load_keyword_scorer(base.path / "joint", config.encoder_dropout)
    tokenizer = Tokenizer.load(base.path / "tokenizer")
    known, head, thresholds = base.meta.taxonomy, None, None
    if (known.names, known.scores) == (taxonomy.names, taxonomy.scores):
        head, thresholds = model.head, base.meta.thresholds
    elif (base.path / bundles.READER).is_file() and keyword_reader.outputs_of(taxonomy.scores):
        reader = keyword_reader.load(base.path / bundles.READER)
        vectors = keyword_reader.phrase_vectors(
            model.encoder, model.head, tokenizer, taxonomy, choose_device(config.device), base.meta.batching
        )
        head = reader.head(vectors, taxonomy.scores)
    if head is not None:
        head.dropout.p = config.dropout
    return _train_scorer(name, config, taxonomy, tables, model.encoder, tokenizer.hf, checkpoints, head, thresholds)


def _train_scorer(
    name: str,
    config: "Config",
    taxonomy: "Taxonomy",
    tables: dict[str, "pa.Table"],
    encoder: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    checkpoints: "Checkpoints",
    trained_head: "KeywordAttention | None" = None,
    thresholds: "Sequence[float] | None" = None,
) -> Trained:
    """A model whose keywords attend. `thresholds`: those of a bundle that is trained further on its own keywords."""
    from ray_app.engine.device import choose_device
    from ray_app.engine.keyword_attention import KeywordScorer
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.training import calibration
    from ray_app.training.base_checks import prepare
    from ray_app.training.keyword_queries import initialize_queries
    from ray_app.training.keyword_scores import HEAD_RATE, KNOWN_HEAD, keyword_score_task
    from ray_app.training.loop import train_model

    own, train = Tokenizer(tokenizer), tables["train"]
    task = keyword_score_task(
        *(train, tables["validation"], taxonomy, own, config.max_length),
        balance=config.balance,
        evidence=config.evidence,
        join=config.join,
        seed=config.seed,
        finds=name == "joint",
        head_rate=KNOWN_HEAD if trained_head else HEAD_RATE,
    )
    head = trained_head or _new_head(encoder, taxonomy, task.finds, config.dropout)
    model, resume, device = KeywordScorer(encoder, head), checkpoints.resume(name), choose_device(config.device)
    prepare(model, own, config)
    if resume is None and trained_head is None:
        initialize_queries(model, train["text"].to_pylist(), taxonomy, own, config.max_length, device)
    told = (_settings(config, name), checkpoints.reporter(name), resume, config.device, checkpoints.say)
    history, tuned = train_model(model, task, *told), task.thresholds(model, device, thresholds)
    calibration.apply(model.head.out, *calibration.fit(*task.validation_scores(model, device)))
    return Trained(name=name, model=model, tokenizer=tokenizer, history=history, thresholds=tuned)


def _new_head(encoder: "PreTrainedModel", taxonomy: "Taxonomy", finds: bool, dropout: float) -> "KeywordAttention":
    """A head that has learned nothing yet, with one output more where it also finds keywords."""
    from ray_app.engine.keyword_attention import KeywordAttention

    outputs = len(taxonomy.scores) + finds
    return KeywordAttention(len(taxonomy.names), int(encoder.config.hidden_size), outputs, dropout)


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

    train, validation = fully_labeled(tables["train"]), tables["validation"]
    if name == "keywords":
        return keyword_task(
            train, validation, taxonomy, tokenizer, config.max_length, join=config.join_keywords, seed=config.seed
        )
    prompt = ScorePrompt(tokenizer, taxonomy.names, SCORE_PROMPT)
    return score_task(
        train,
        validation,
        taxonomy,
        prompt,
        config.max_length,
        balance=config.balance,
        join=config.join,
        seed=config.seed,
    )


def _settings(config: "Config", name: str) -> "Settings":
    from ray_app.training.settings import settings_of

    epochs = config.score_epochs if name == "scores" else 0
    return settings_of(config, epochs=epochs or config.epochs)
