"""Trains a causal language model on a task, data-parallel on Ray Train: to analyze reviews, to answer interviewers.

In: rows, a template that turns them into prompts and completions, a base model. Out: a plain Hugging Face folder with
`nunchi_lm.json` beside the weights; beside it the training folder, from which `--resume` continues after a kill.
"""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_app.errors import check
from ray_app.lm import adapters
from ray_app.options import REQUIRED, as_dict, option
from ray_app.training.options import TrainingOptions

if TYPE_CHECKING:
    import pyarrow as pa
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from ray_app.data.taxonomy import Taxonomy
    from ray_app.labels.rows import Row
    from ray_app.lm.causal_lm import TaskMeta
    from ray_app.lm.dataset import PromptRows
    from ray_app.lm.encoding import Encoded
    from ray_app.lm.next_token import LMMetrics
    from ray_app.lm.templates import Template
    from ray_app.training.checkpoints import Checkpoints
    from ray_app.training.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Options of `jobs.train_lm`."""

    base_model: str = option(REQUIRED, "causal LM: a Hugging Face name, a folder, or scratch", "Model")
    task: str = option(
        "review", "entry of the templates: review, interview, review_evidence, or one of your own", "Data", common=True
    )
    labels: str = option(
        "sample",
        "labeled reviews, or rows of another task: Parquet, JSONL, CSV/TSV, a folder of them, or sample",
        "Data",
        common=True,
        formerly=("data",),
    )
    output: str = option("runs/lm", "model folder to write; must not exist", "Data", common=True)
    templates: str = option("", "YAML file of templates; default: the shipped ones", "Data")
    columns: str = option("", "FIELD=COLUMN,… where columns have other names than the template's fields", "Data")
    taxonomy: str = option("default", "of labeled reviews: default, labels (what they name) or a YAML file", "Data")
    on_bad_row: str = option("fail", "stop at a bad row, or drop it and report it", "Data", ("fail", "drop"))
    layers: int = option(3, "layers, with scratch", "Model", least=1)
    hidden: int = option(128, "width, with scratch", "Model", least=64)
    vocabulary: int = option(
        0, "vocabulary size, with scratch; 0 for one per 50 characters, 600 to 2,000", "Model", least=0
    )
    tune: str = option("", "what trains; adapters are merged at the end; default: full", "Model", ("", *adapters.KINDS))
    lora: int = option(0, "rank of LoRA and DoRA adapters, 0 for 8; alone it means --tune lora", "Model", least=0)
    loss_on: str = option("answer", "what the loss covers: answer, or all (prompt too)", "Training", ("answer", "all"))
    epochs: int = option(
        0,
        "passes over the rows; 0 for 5, with scratch for 25,000 rows in total if that is more",
        "Training",
        least=0,
        common=True,
    )
    learning_rate: float = option(
        0.0, "peak rate; 0: 1e-3 with scratch, 5e-5 for all weights, 2e-4, ia3 5e-3", "Training", least=0, common=True
    )
    weight_decay: float = option(0.0, "weight decay of matrices", "Training", least=0)
    warmup: float = option(0.0, "share of steps with a rising learning rate", "Training", least=0, most=1)
    checkpointing: bool = option(False, "recompute activations in the backward pass, to save memory", "Training")
    pack: bool = option(False, "pack short rows end to end instead of padding them; no row sees another", "Training")
    keep: str = option(
        "best", "epoch to keep: best by validation loss, or last, which never stops early", "Training", ("best", "last")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hidden % 64 == 0, f"--hidden {self.hidden}: write a multiple of 64")
        adapters.check_options(self.kind, self.lora, self.weight_decay)
        check(self.vocabulary == 0 or self.vocabulary >= 300, f"--vocabulary {self.vocabulary}: 300 or more, or 0")

    @property
    def kind(self) -> str:
        """What trains."""
        return self.tune or ("lora" if self.lora else "full")

    def resolved(self) -> "Config":
        """With every automatic value decided and every path absolute, so that workers in other folders find it."""
        from ray_app.storage import absolute

        scratch = self.base_model == "scratch"
        check(
            self.base_model not in ("ready", "starter") or Path(self.base_model).is_dir(),
            f"--base-model {self.base_model}: reads both ways, so it cannot write; give a causal language model",
        )
        rate = 1e-3 if scratch else adapters.RATES[self.kind]
        return replace(
            self,
            learning_rate=self.learning_rate or rate,
            base_model=absolute(self.base_model) if Path(self.base_model).is_dir() else self.base_model,
            output=absolute(self.output),
            storage_path=absolute(self.storage),
        )


def run(config: Config) -> "LMMetrics":
    """Trains, writes the model folder and returns its metrics. Raises UserError for a mistake or a run that goes on."""
    from ray_app import storage
    from ray_app.storage.lease import Lease

    config = config.resolved()
    check(storage.is_empty(config.output), f"--output {config.output}: already there; remove it or name another")
    with Lease(config.storage):
        return _run(config)


def _run(config: Config) -> "LMMetrics":
    from ray_app import storage
    from ray_app.lm import causal_lm, dataset, templates
    from ray_app.training import checkpoints, workers

    template = templates.load(config.task, config.templates or templates.DEFAULT)
    data = dataset.read(config.labels, template, config.taxonomy, config.columns, config.on_bad_row)
    for line in data.dropped:
        log.info("dropped: %s", line)
    train, validation = split_rows(data, config)
    counts = f"{len(train):,} training and {len(validation):,} validation rows, {len(data.dropped)} dropped"
    log.info("%s: %s, base model %s", config.task, counts, config.base_model)
    config = replace(config, epochs=config.epochs or _epochs(config, len(train)))
    checkpoints.claim_folder(config, ("metrics.jsonl", "tensorboard", "base"))
    tables = {"train": _text_table(template, train), "validation": _text_table(template, validation)}
    if config.base_model == "scratch":
        _make_base(config, tables["train"])
    began = time.monotonic()
    meta = causal_lm.to_dict(_meta(config, template, data.taxonomy, train))
    workers.launch(work, {"config": as_dict(config), "meta": meta}, tables, config)
    metrics: LMMetrics = storage.read_json(storage.join(config.output, causal_lm.META))["metrics"]
    checkpoints.clear_parts(config.storage, (*checkpoints.PARTS, "base"))
    print(_summary(config, metrics, time.monotonic() - began))
    return metrics


def work(loop: dict[str, Any], tables: dict[str, "pa.Table"], checkpoints: "Checkpoints") -> None:
    """Trains, on every worker, and on rank 0 writes the model folder.

    `loop`: the config and the model's meta as plain values. `tables`: prompt and completion, in pieces.
    """
    from ray_app.lm import causal_lm
    from ray_app.lm.next_token import NextTokenTask, unigram
    from ray_app.lm.prompt_tokens import PromptTokenizer
    from ray_app.training.loop import Rank, train_model

    config, meta = Config(**loop["config"]), causal_lm.from_dict(loop["meta"], "meta")
    model, tokenizer = _open_base(config)
    train, validation = (_encode(config, meta, tokenizer, tables[name]) for name in ("train", "validation"))
    first = Rank.current().rank == 0
    if (odd := PromptTokenizer(tokenizer).check(meta.template)) and first:
        checkpoints.say(odd)
    for name, rows in (("training", train), ("validation", validation)):
        if first and rows.cut:
            checkpoints.say(f"{rows.cut:,} of {len(rows):,} {name} rows were cut to --max-length {config.max_length}")
    model = _prepare(config, model, train, tokenizer.pad_token_id)
    pad_id, width = tokenizer.pad_token_id, config.max_length * config.pack
    task = NextTokenTask(name=config.task, train=train, validation=validation, pad_id=pad_id, pack=width)
    report, resume = checkpoints.reporter(config.task), checkpoints.resume(config.task)
    history = train_model(model, task, _settings(config), report, resume, config.device, checkpoints.say)
    if first:
        epoch = history[-1] if config.keep == "last" else max(history, key=lambda row: row["select"])
        by_training, own = unigram(train, validation, len(tokenizer))
        metrics: LMMetrics = {**epoch, "unigram_loss": by_training, "unigram_entropy": own}
        merged = model if config.kind == "full" else model.merge_and_unload()
        causal_lm.upload(merged, tokenizer, config.output, replace(meta, metrics=metrics))


def split_rows(data: "PromptRows", config: Config) -> tuple[list["Row"], list["Row"]]:
    """Training and validation rows; test rows take no part. Without validation rows a seeded share is held out.

    Raises UserError where there are fewer than two training rows.
    """
    from ray_app.labels.hold_out import draw, hold_out

    train, validation = data.split("train", None), data.split("validation")
    check(len(train) > 1, f"{config.labels}: {len(train)} training rows (the rest are validation or test); at least 2")
    if not validation:
        remaining, held_out = hold_out(len(train), config.validation, config.seed)
        train, validation = [train[i] for i in remaining], [train[i] for i in held_out]
    return [train[i] for i in draw(len(train), config.limit, config.seed)], validation


def _epochs(config: Config, rows: int) -> int:
    """Five, as usual for a pretrained model; one from scratch must see more rows before it can write at all."""
    return 5 if config.base_model != "scratch" else max(5, round(25_000 / rows))


def _text_table(template: "Template", rows: list["Row"]) -> "pa.Table":
    import pyarrow as pa

    parts = {"prompt": list(map(template.prompt_parts, rows)), "completion": list(map(template.completion_parts, rows))}
    return pa.table(parts)


def _meta(config: Config, template: "Template", taxonomy: "Taxonomy | None", train: list["Row"]) -> "TaskMeta":
    """What the model folder says about its training, without the metrics."""
    import pyarrow as pa

    from ray_app.data.schema import LABELED
    from ray_app.engine.encoder import base_name
    from ray_app.labels.matrices import keyword_support
    from ray_app.lm.causal_lm import TaskMeta

    return TaskMeta(
        template=template,
        taxonomy=taxonomy,
        max_length=config.max_length,
        loss_on=config.loss_on,
        support=keyword_support(pa.Table.from_pylist(train, schema=LABELED)) if taxonomy else {},
        provenance={
            "base_model": base_name(config.base_model),
            "data": config.labels,
            "rows": len(train),
            "config": as_dict(config),
            "trained": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )


def _make_base(config: Config, train: "pa.Table") -> None:
    from ray_app import storage
    from ray_app.lm import causal_lm

    texts = ["".join(p + c) for p, c in zip(train["prompt"].to_pylist(), train["completion"].to_pylist(), strict=True)]
    size = (config.layers, config.hidden, config.vocabulary)
    causal_lm.make_base(storage.join(config.storage, "base"), texts, *size, config.seed)


def _open_base(config: Config) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """The base model on its device, and its tokenizer."""
    import torch

    from ray_app import storage
    from ray_app.engine.device import choose_device
    from ray_app.lm import causal_lm

    scratch = config.base_model == "scratch"
    source = causal_lm.local_folder(storage.join(config.storage, "base")) if scratch else config.base_model
    model, tokenizer = causal_lm.open_model(source, "--base-model")
    torch.manual_seed(config.seed)
    return model.to(choose_device(config.device).torch_device), tokenizer


def _encode(config: Config, meta: "TaskMeta", tokenizer: "PreTrainedTokenizerFast", table: "pa.Table") -> "Encoded":
    from ray_app.lm.encoding import encode

    prompts, completions = table["prompt"].to_pylist(), table["completion"].to_pylist()
    return encode(tokenizer, prompts, completions, config.max_length, meta.template.tail, config.loss_on)


def _prepare(config: Config, model: "PreTrainedModel", train: "Encoded", pad_id: int) -> "PreTrainedModel | PeftModel":
    """The model with the options applied. Raises UserError for an option that it does not support."""
    from ray_app.lm.next_token import keeps_rows_apart

    kind = model.config.model_type
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None) or config.max_length
    check(config.max_length <= most, f"--max-length {config.max_length}: {config.base_model} reads {most}")
    if config.pack:
        check(
            keeps_rows_apart(model, train, pad_id),
            f"--pack: {kind} models let packed rows see one another; leave it out",
        )
    if config.checkpointing:
        supported = model.supports_gradient_checkpointing
        check(supported, f"--checkpointing: {kind} models do not support it; leave it out")
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model if config.kind == "full" else adapters.wrapped(model, config.kind, config.lora)


def _settings(config: Config) -> "Settings":
    from ray_app.training.settings import settings_of

    last = config.keep == "last"
    return settings_of(config, patience=0 if last else config.patience, keep_last=last)


def _summary(config: Config, metrics: "LMMetrics", seconds: float) -> str:
    """The model's loss beside those from token frequencies alone, where it lies, and what a user would do next."""
    from ray_app.cli import next_command

    command = next_command("evaluate_lm", model=config.output, labels=config.labels, columns=config.columns)
    unigram, entropy = metrics["unigram_loss"], metrics["unigram_entropy"]
    return (
        f"validation loss {metrics['validation_loss']:.3f} (perplexity {metrics['perplexity']:.1f}); from token "
        f"frequencies alone: {unigram:.3f} by the training rows, {entropy:.3f} by the validation rows themselves\n"
        f"model in {config.output} after {seconds:.0f} s\nNext: {command}"
    )
