"""Teaches a causal language model a task, data-parallel on Ray Train: to analyse reviews, to answer interviewers.

In: rows, a template that makes prompts and completions of them, a base model. Out: a plain Hugging Face folder with
`nunchi_lm.json` beside the weights. Checkpoints and metrics lie in the training folder beside it, so that `--resume`
goes on where a killed driver stopped.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray_app.errors import UserError, check
from ray_app.options import REQUIRED, as_dict, option
from ray_app.training.options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Options of `jobs.train_lm`."""

    base_model: str = option(REQUIRED, "causal LM: a Hugging Face name, a folder, or scratch", "Model")
    task: str = option(
        "review", "entry of the templates: review, interview, review_evidence, or one of yours", "Data", common=True
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
    columns: str = option("", "FIELD=COLUMN,… where rows name their columns otherwise than the template", "Data")
    taxonomy: str = option("default", "of labeled reviews: default, labels (what they span) or a YAML file", "Data")
    on_bad_row: str = option("fail", "stop at a bad row, or drop it and say so", "Data", ("fail", "drop"))
    layers: int = option(3, "layers, with scratch", "Model", least=1)
    hidden: int = option(128, "width, with scratch", "Model", least=64)
    vocabulary: int = option(
        0, "tokens at most, with scratch; 0 for one in 50 characters, 2,000 at most", "Model", least=0
    )
    lora: int = option(
        0, "rank of LoRA adapters, merged into the model at the end; 0 trains all weights", "Model", least=0
    )
    loss_on: str = option("answer", "what counts: the answer, or prompt and answer", "Training", ("answer", "all"))
    epochs: int = option(
        0,
        "passes over the rows; 0 for 5, with scratch for 25,000 rows if that is more",
        "Training",
        least=0,
        common=True,
    )
    learning_rate: float = option(
        0.0, "peak learning rate, 0 for 1e-3 with scratch, 2e-4 with LoRA, else 5e-5", "Training", least=0, common=True
    )
    weight_decay: float = option(0.0, "weight decay of matrices", "Training", least=0)
    warmup: float = option(0.0, "share of steps with a rising learning rate", "Training", least=0, most=1)
    checkpointing: bool = option(False, "compute activations twice, to save memory", "Training")
    pack: bool = option(False, "lay short rows end to end instead of padding them; no row sees another", "Training")
    keep: str = option(
        "best",
        "the epoch whose weights are kept: best by validation loss, or last, which ends only after all epochs",
        "Training",
        ("best", "last"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hidden % 64 == 0, f"--hidden {self.hidden}: write a multiple of 64")
        check(self.vocabulary == 0 or self.vocabulary >= 300, f"--vocabulary {self.vocabulary}: 300 or more, or 0")

    def resolved(self) -> "Config":
        """With every automatic value decided and every path as a worker elsewhere on this machine would write it."""
        from ray_app.storage import absolute

        scratch = self.base_model == "scratch"
        rate = 1e-3 if scratch else 2e-4 if self.lora else 5e-5
        return replace(
            self,
            learning_rate=self.learning_rate or rate,
            base_model=absolute(self.base_model) if Path(self.base_model).is_dir() else self.base_model,
            output=absolute(self.output),
            storage_path=absolute(self.storage),
        )


def run(config: Config) -> dict[str, Any]:
    """Trains, writes the model folder and returns what it was judged by."""
    from ray_app import storage
    from ray_app.lm import causal_lm, dataset, templates
    from ray_app.training import checkpoints, workers

    config = config.resolved()
    check(storage.is_empty(config.output), f"--output {config.output}: already there; remove it or name another")
    template = templates.load(config.task, config.templates or templates.DEFAULT)
    found = dataset.read(config.labels, template, config.taxonomy, config.columns, config.on_bad_row)
    for line in found.dropped:
        print(f"dropped: {line}")
    train, validation = _split(found, config)
    print(
        f"{config.task}: {len(train):,} training and {len(validation):,} validation rows, "
        f"{len(found.dropped)} dropped, base model {config.base_model}",
        flush=True,
    )
    config = replace(config, epochs=config.epochs or _epochs(config, len(train)))
    checkpoints.claim_folder(config, ("metrics.jsonl", "tensorboard", "base"))
    tables = {"train": _texts(template, train), "validation": _texts(template, validation)}
    _start(config, tables["train"])
    began = time.monotonic()
    meta = causal_lm.TaskMeta(
        template=template,
        taxonomy=found.taxonomy,
        max_length=config.max_length,
        loss_on=config.loss_on,
        support=_support(train),
        metrics={},
        provenance=_provenance(config, train),
    )
    loop = {"config": as_dict(config), "meta": causal_lm.to_dict(meta)}
    workers.launch(work, loop, tables, config)
    metrics: dict[str, Any] = storage.read_json(storage.join(config.output, causal_lm.META))["metrics"]
    checkpoints.clear_parts(config.storage, ("config.json", "ray", "checkpoints", "base", checkpoints.PROGRESS))
    print(
        f"validation loss {metrics['validation_loss']:.3f} (perplexity {metrics['perplexity']:.1f}); knowing only how "
        f"often a token occurs: {metrics['unigram_loss']:.3f} by the training rows, {metrics['unigram_entropy']:.3f} "
        f"by the validation rows themselves\n{config.output} after {time.monotonic() - began:.0f} s"
    )
    return metrics


def work(loop: dict[str, Any], tables: dict[str, Any], checkpoints: Any) -> None:
    """What every worker does: trains, and on rank 0 writes the model folder."""
    import torch

    from ray_app import storage
    from ray_app.engine.device import choose_device
    from ray_app.lm import causal_lm
    from ray_app.lm.next_token import NextTokenTask, unigram
    from ray_app.training.loop import Rank, train_model

    config, meta = Config(**loop["config"]), causal_lm.from_dict(loop["meta"], "meta")
    made = config.base_model == "scratch"
    source = causal_lm.local_folder(storage.join(config.storage, "base")) if made else config.base_model
    model, tokenizer = causal_lm.open_model(source, "--base-model")
    torch.manual_seed(config.seed)
    model.to(choose_device(config.device).device)
    train, validation = (_encoded(config, meta, tokenizer, tables[name]) for name in ("train", "validation"))
    if Rank.current().rank == 0:
        _say_cut(checkpoints, {"training": train, "validation": validation}, config.max_length)
    model = _prepared(config, model, train, tokenizer.pad_token_id)
    lesson = NextTokenTask(
        name=config.task,
        train=train,
        validation=validation,
        pad_id=tokenizer.pad_token_id,
        pack=config.max_length * config.pack,
    )
    history = train_model(
        model,
        lesson,
        _settings(config),
        checkpoints.reporter(config.task),
        checkpoints.resume(config.task),
        config.device,
        checkpoints.say,
    )
    if Rank.current().rank == 0:
        best = history[-1] if config.keep == "last" else max(history, key=lambda row: row["select"])
        baselines = zip(("unigram_loss", "unigram_entropy"), unigram(train, validation, len(tokenizer)), strict=True)
        _keep(config, model, tokenizer, replace(meta, metrics={**best, **dict(baselines)}))


def _split(found: Any, config: Config) -> tuple[list[Any], list[Any]]:
    """Training and validation rows; test rows take no part. Without validation rows a seeded share is held out."""
    from ray_app.labels.hold_out import draw, hold_out

    train, validation = found.split("train", None), found.split("validation")
    check(len(train) > 1, f"{config.labels}: {len(train)} training rows (the rest are validation or test); at least 2")
    if not validation:
        kept, held = hold_out(len(train), config.validation, config.seed)
        train, validation = [train[i] for i in kept], [train[i] for i in held]
    return [train[i] for i in draw(len(train), config.limit, config.seed)], validation


def _epochs(config: Config, rows: int) -> int:
    """Five, as is usual for a pretrained model; one from scratch needs to see some rows before it can write at all."""
    return 5 if config.base_model != "scratch" else max(5, round(25_000 / rows))


def _texts(template: Any, rows: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.table({name: [getattr(template, name)(row) for row in rows] for name in ("prompt", "completion")})


def _support(rows: Sequence[Any]) -> dict[str, int]:
    """Rows per keyword, of labelled reviews."""
    return dict(Counter(label["keyword"] for row in rows for label in row.get("labels", ())))


def _provenance(config: Config, train: Sequence[Any]) -> dict[str, Any]:
    from ray_app.engine.encoder import base_name

    return {
        "base_model": base_name(config.base_model),
        "data": config.labels,
        "rows": len(train),
        "config": as_dict(config),
        "trained": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _start(config: Config, train: Any) -> None:
    """With scratch: a tokenizer and a model made from the training texts, once, where every worker finds them."""
    from ray_app import storage
    from ray_app.lm import causal_lm

    base = storage.join(config.storage, "base")
    if config.base_model != "scratch" or storage.exists(storage.join(base, "config.json")):
        return
    texts = [p + c for p, c in zip(train["prompt"].to_pylist(), train["completion"].to_pylist(), strict=True)]
    size = config.vocabulary or min(2_000, max(600, sum(map(len, texts)) // 50))  # a rare token is hardly learnt
    model, tokenizer = causal_lm.make_small_llama(texts, config.layers, config.hidden, size, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        causal_lm.save(model, tokenizer, Path(folder))
        storage.upload(folder, base, last="config.json")


def _encoded(config: Config, meta: Any, tokenizer: Any, table: Any) -> Any:
    from ray_app.lm.encoding import encode

    prompts, completions = table["prompt"].to_pylist(), table["completion"].to_pylist()
    return encode(tokenizer, prompts, completions, config.max_length, meta.template.tail, config.loss_on)


def _say_cut(checkpoints: Any, parts: dict[str, Any], max_length: int) -> None:
    for name, rows in parts.items():
        if rows.cut:
            checkpoints.say(f"{rows.cut:,} of {len(rows):,} {name} rows were cut to --max-length {max_length}")


def _prepared(config: Config, model: Any, train: Any, pad_id: int) -> Any:
    """The model with what the options ask for; refuses what it cannot do."""
    from ray_app.lm.next_token import keeps_rows_apart

    kind = model.config.model_type
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or config.max_length
    check(config.max_length <= positions, f"--max-length {config.max_length}: {config.base_model} reads {positions}")
    if config.pack:
        check(
            keeps_rows_apart(model, train, pad_id), f"--pack: {kind} models let packed rows see one another; leave it"
        )
    if config.checkpointing:
        check(model.supports_gradient_checkpointing, f"--checkpointing: {kind} models cannot do that; leave it out")
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return _with_adapters(model, config.lora) if config.lora else model


def _with_adapters(model: Any, rank: int) -> Any:
    """LoRA (Hu et al. 2021, arXiv:2106.09685) on every linear layer but the last, scaled by 2."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UserError("--lora needs peft: pip install -e '.[lm]'") from None
    from transformers.pytorch_utils import Conv1D

    transposed = any(isinstance(module, Conv1D) for module in model.modules())  # GPT-2's linear layers
    settings = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, settings)


def _settings(config: Config) -> Any:
    from ray_app.training.loop import Settings

    return Settings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        accumulate=config.accumulate,
        clip=config.clip,
        patience=0 if config.keep == "last" else config.patience,
        seed=config.seed,
        keep_last=config.keep == "last",
    )


def _keep(config: Config, model: Any, tokenizer: Any, meta: Any) -> None:
    """Writes the model folder; `nunchi_lm.json` comes last and makes it count."""
    from ray_app import storage
    from ray_app.lm import causal_lm

    whole = model.merge_and_unload() if config.lora else model
    with tempfile.TemporaryDirectory() as folder:
        causal_lm.save(whole, tokenizer, Path(folder), meta)
        storage.upload(folder, config.output, last=causal_lm.META)
