"""Trains a causal language model on a task, data-parallel on Ray Train: to analyze reviews, to answer interviewers.

In: rows, a template that turns them into prompts and completions, a base model. Out: a plain Hugging Face folder with
`nunchi_lm.json` beside the weights; beside it the training folder, from which `--resume` continues after a kill.
"""

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from ray_app.errors import check
from ray_app.lm import adapters
from ray_app.lm.options import Config
from ray_app.options import as_dict

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
    from ray_app.lm.virtual_tokens import Prefixed
    from ray_app.training.checkpoints import Checkpoints
    from ray_app.training.settings import Settings

__all__ = ["Config", "run"]
log = logging.getLogger(__name__)


def run(config: Config) -> "LMMetrics":
    """Trains, writes the model folder and returns its metrics. Raises UserError for a mistake or a run that goes on."""
    from ray_app import storage
    from ray_app.storage.lease import Lease
    from ray_app.training.tracking import follower

    follower.check_tracker(config.track)
    config = config.resolved()
    check(storage.is_empty(config.output), f"--output {config.output}: already there; remove it or name another")
    with Lease(config.storage):
        return _run(config)


def _run(config: Config) -> "LMMetrics":
    from ray_app import storage
    from ray_app.lm import causal_lm, dataset, templates
    from ray_app.training import checkpoints, workers
    from ray_app.training.tracking import follower

    based_on = None if "://" in config.base_model else causal_lm.read_meta(config.base_model)
    virtual = based_on.virtual_tokens if based_on else 0
    check(
        not virtual,
        f"--base-model {config.base_model}: it has {virtual} virtual tokens, which belong to its task; give the model "
        "that it was tuned from",
    )
    template = templates.load(config.task, config.templates or templates.DEFAULT)
    data = dataset.read(config.labels, template, config.taxonomy, config.columns, config.on_bad_row)
    for line in data.dropped:
        log.info("dropped: %s", line)
    train, validation = split_rows(data, config)
    counts = f"{len(train):,} training and {len(validation):,} validation rows, {len(data.dropped)} dropped"
    log.info("%s: %s, base model %s", config.task, counts, config.base_model)
    config = replace(config, epochs=config.epochs or _epochs(config, len(train)))
    meta = causal_lm.to_dict(_meta(config, template, data.taxonomy, train))
    tables = {"train": _text_table(template, train), "validation": _text_table(template, validation)}
    checkpoints.claim_folder(config, ("metrics.jsonl", "tensorboard", "base"), inputs=_inputs(config, meta, tables))
    if config.base_model == "scratch":
        _make_base(config, tables["train"])
    began = time.monotonic()
    with follower.tracked(config.track, config.output, config.storage, as_dict(config)) as tracked:
        workers.launch(work, {"config": as_dict(config), "meta": meta}, tables, config)
        metrics: LMMetrics = storage.read_json(storage.join(config.output, causal_lm.META))["metrics"]
        tracked.note("", {config.task: metrics}, time.monotonic() - began)
    checkpoints.clear_parts(config.storage, (*checkpoints.PARTS, "base"))
    print(_summary(config, metrics, time.monotonic() - began))
    return metrics


def _inputs(config: Config, meta: dict[str, object], tables: dict[str, "pa.Table"]) -> dict[str, str]:
    """What tells apart what the options name: a run that is resumed must find it as it was."""
    from ray_app.training.provenance import hash_of, model_behind, told_apart

    return {
        "--labels": hash_of(*tables.values()),
        "--templates": told_apart(meta["template"]),
        "--taxonomy": told_apart(meta["taxonomy"]),
        "--base-model": model_behind(config.base_model),
    }


def work(loop: dict[str, Any], tables: dict[str, "pa.Table"], checkpoints: "Checkpoints") -> None:
    """Trains, on every worker, and on rank 0 writes the model folder.

    `loop`: the config and the model's meta as plain values. `tables`: prompt and completion, in pieces.
    """
    from ray_app.lm import causal_lm
    from ray_app.lm.next_token import NextTokenTask, unigram
    from ray_app.lm.prompt_tokens import PromptTokenizer
    from ray_app.lm.virtual_tokens import ids_of
    from ray_app.training.loop import Rank, train_model

    config, meta = Config(**loop["config"]), causal_lm.from_dict(loop["meta"], "meta")
    base, tokenizer = _open_base(config)
    model = _tuned(config, base, tokenizer, meta)
    virtual = ids_of(model)
    train, validation = (_encode(config, meta, tokenizer, tables[name], virtual) for name in ("train", "validation"))
    first = Rank.current().rank == 0
    if (odd := PromptTokenizer(tokenizer).check(meta.template)) and first:
        checkpoints.say(odd)
    for name, rows in (("training", train), ("validation", validation)):
        if first and rows.cut:
            checkpoints.say(f"{rows.cut:,} of {len(rows):,} {name} rows were cut to --max-length {config.max_length}")
    _check_fit(config, model, train, tokenizer.pad_token_id)
    pad_id, width = tokenizer.pad_token_id, config.max_length * config.pack
    task = NextTokenTask(name=config.task, train=train, validation=validation, pad_id=pad_id, pack=width)
    report, resume = checkpoints.reporter(config.task), checkpoints.resume(config.task)
    history = train_model(model, task, _settings(config), report, resume, config.device, checkpoints.say)
    if first:
        epoch = history[-1] if config.keep == "last" else max(history, key=lambda row: row["select"])
        by_training, own = unigram(train, validation, len(tokenizer))
        metrics: LMMetrics = {**epoch, "unigram_loss": by_training, "unigram_entropy": own}
        merges = config.kind in adapters.KINDS[1:]
        plain = cast("PeftModel", model).merge_and_unload() if merges else model
        causal_lm.upload(plain, tokenizer, config.output, replace(meta, metrics=metrics, virtual_tokens=len(virtual)))


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


def _tuned(
    config: Config, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", meta: "TaskMeta"
) -> "PreTrainedModel | PeftModel | Prefixed":
    """The model, of which only what the kind names trains. Virtual tokens begin as what the template itself says."""
    from ray_app.lm import virtual_tokens
    from ray_app.lm.prompt_tokens import PromptTokenizer

    if config.checkpointing:
        supported = model.supports_gradient_checkpointing
        check(supported, f"--checkpointing: {model.config.model_type} models do not support it; leave it out")
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if config.kind in adapters.VIRTUAL:
        wrapper = PromptTokenizer(tokenizer)
        front, start = wrapper.tokenizer.prefix, wrapper.own("".join(meta.template.own_pieces))
        count = config.virtual_tokens or adapters.TOKENS
        return virtual_tokens.added(model, config.kind, count, front, start or [tokenizer.eos_token_id])
    return model if config.kind == "full" else adapters.wrapped(model, config.kind, config.lora)


def _encode(
    config: Config, meta: "TaskMeta", tokenizer: "PreTrainedTokenizerFast", table: "pa.Table", virtual: list[int]
) -> "Encoded":
    from ray_app.lm.encoding import encode

    prompts, completions = table["prompt"].to_pylist(), table["completion"].to_pylist()
    return encode(tokenizer, prompts, completions, config.max_length, meta.template.tail, config.loss_on, virtual)


def _check_fit(config: Config, model: Any, train: "Encoded", pad_id: int) -> None:
    """Raises UserError for an option that the model does not support."""
    from ray_app.lm.next_token import keeps_rows_apart

    most = getattr(model.config.get_text_config(), "max_position_embeddings", None) or config.max_length
    check(config.max_length <= most, f"--max-length {config.max_length}: {config.base_model} reads {most}")
    check(
        not config.pack or keeps_rows_apart(model, train, pad_id),
        f"--pack: {model.config.model_type} models let packed rows see one another; leave it out",
    )


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
