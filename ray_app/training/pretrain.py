"""Makes a small encoder from unlabeled reviews: the `starter` that is shipped, or one for your own language and shop.

In: reviews (Parquet, ratings used where they exist) and, preferably, a teacher encoder to imitate.
Out: a folder that `--base-model` takes: config, fp16 safetensors, tokenizer, and `provenance.json`. What is learned is
described in `distillation.py`.
"""

import logging
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_app.errors import check
from ray_app.options import FORMER, SEEDS, Options, as_dict, option

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from ray_app.arrays import Floats
    from ray_app.training.distillation import Teacher

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.pretrain`."""

    input: tuple[str, ...] = option(
        ("sample",),
        "reviews to learn from: Parquet files, folders or globs; sample = shipped texts",
        "Data",
        common=True,
        formerly=("reviews",),
    )
    output: str = option("runs/encoder", "folder to write", "Data", common=True)
    columns: str = option(
        "", "text=NAME and rating=NAME, where the columns have other names; a rating is used if it exists", "Data"
    )
    limit: int = option(0, "reviews to draw at random from each source, 0 for all", "Data", least=0, common=True)
    teacher: str = option("", "encoder to imitate: a Hugging Face name or folder", "Model", common=True)
    teacher_layers: int = option(0, "imitate the teacher after this many layers, 0 for all of them", "Model", least=0)
    vocabulary: int = option(8_000, "pieces of the tokenizer at most", "Model", least=1)
    layers: int = option(3, "encoder layers", "Model", least=1, common=True)
    hidden: int = option(256, "width", "Model", least=32, common=True)
    intermediate: int = option(768, "width of the feed-forward layers", "Model", least=1)
    epochs: int = option(3, "passes over the reviews", "Training", least=1, common=True)
    batch_tokens: int = option(16_384, "tokens per batch, padding counted", "Training", least=1)
    learning_rate: float = option(1e-3, "peak learning rate, linear after 5% warm-up", "Training", above=0)
    mask_share: float = option(0.2, "share of tokens that are masked", "Training", above=0, below=1)
    max_length: int = option(128, "tokens of a review that are read", "Training", least=3)
    device: str = option("auto", "where to train", "Training", ("auto", "cpu", "cuda"), common=True)
    threads: int = option(0, "CPU threads, 0 for all", "Training", least=0)
    seed: int = option(0, "seed of everything random", "Training", least=0, below=SEEDS)

    text_column: str = option("", "now written --columns text=NAME", FORMER)
    rating_column: str = option("", "now written --columns rating=NAME", FORMER)

    def __post_init__(self) -> None:
        super().__post_init__()
        former = {"text": self.text_column, "rating": self.rating_column}
        named = [f"{role}={name}" for role, name in former.items() if name]
        object.__setattr__(self, "columns", ",".join(filter(None, (self.columns, *named))))
        check(self.hidden % 32 == 0, f"--hidden {self.hidden}: write a multiple of 32")


def run(config: Config) -> None:
    """Pre-trains in this process, saves the encoder and prints where it is.

    Raises UserError where the output exists, or another run trains there; a killed one is no obstacle.
    """
    from ray_app import storage
    from ray_app.storage.lease import sole_trainer

    check(storage.is_empty(config.output), f"--output {config.output}: already exists; remove it or name another")
    with sole_trainer(config.output):
        _run(config)


def _run(config: Config) -> None:
    import torch

    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import load_encoder
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.engine.tokenizer_training import shrink_tokenizer, train_tokenizer
    from ray_app.training.distillation import DistillationSettings, Distiller, Teacher

    torch.manual_seed(config.seed)
    texts, ratings = _corpus(config)
    teacher = None
    if config.teacher:
        model, full_tokenizer = load_encoder(config.teacher, config.teacher_layers)
        tokenizer, teacher_ids = shrink_tokenizer(full_tokenizer, texts, config.vocabulary)
        teacher = Teacher(model=model, ids=teacher_ids)
    else:
        tokenizer = train_tokenizer(texts, config.vocabulary)
    wrapper = Tokenizer(tokenizer)
    sequences = wrapper.with_special_tokens(wrapper(texts).sequences, config.max_length)
    student = _student(config, tokenizer, teacher)
    counts = (len(texts), len(sequences.ids), len(tokenizer), sum(p.numel() for p in student.parameters()))
    log.info("%s reviews, %s tokens, %s pieces, %s parameters", *(f"{count:,}" for count in counts))
    settings = DistillationSettings(
        epochs=config.epochs,
        batch_tokens=config.batch_tokens,
        learning_rate=config.learning_rate,
        mask_share=config.mask_share,
        seed=config.seed,
    )
    device = choose_device(config.device, config.threads).torch_device
    history = Distiller(student, tokenizer, teacher, settings, device).train(sequences, ratings)
    _save(config, student, tokenizer, history[-1], len(texts))
    print(_summary(config, history[-1]))


def _corpus(config: Config) -> "tuple[list[str], Floats]":
    """Distinct texts and their ratings scaled to 0..1, NaN where unknown."""
    import numpy as np

    rating_of: dict[str, float] = {}
    rng = np.random.default_rng(config.seed)
    for uri in config.input:
        rows = _source(uri, config)
        order = rng.permutation(len(rows))[: config.limit or None]
        rating_of.update(rows[i] for i in order)
    check(rating_of, f"{','.join(config.input)}: no texts there")
    ratings = np.fromiter(rating_of.values(), np.float32, len(rating_of))
    if np.isfinite(ratings).any():
        low, high = float(np.nanmin(ratings)), float(np.nanmax(ratings))
        ratings = (ratings - low) / max(high - low, 1e-6)
    return list(rating_of), ratings


def _source(uri: str, config: Config) -> list[tuple[str, float]]:
    """(text, rating or NaN) of one `--input` entry."""
    from ray_app import storage
    from ray_app.data.columns import parse_columns
    from ray_app.data.text import is_blank

    if uri == "sample":
        from ray_app.sample import unlabeled_texts

        return [(text, float("nan")) for text in unlabeled_texts()]
    table = storage.read_parquet(uri)
    named = {"text": "text", "rating": "rating"} | parse_columns(config.columns, ("text", "rating"))
    check(named["text"] in table.column_names, f"{uri}: no column {named['text']!r}; name it with --columns text=NAME")
    rated = named["rating"] in table.column_names
    ratings = table[named["rating"]].to_pylist() if rated else [None] * len(table)
    return [
        (text, float("nan") if rating is None else float(rating))
        for text, rating in zip(table[named["text"]].to_pylist(), ratings, strict=True)
        if text and not is_blank(text)
    ]


def _student(config: Config, tokenizer: "PreTrainedTokenizerFast", teacher: "Teacher | None") -> "PreTrainedModel":
    """A small BERT; token embeddings start as the teacher's, rotated to their leading principal directions."""
    import torch

    from ray_app.engine.encoder import small_encoder

    student = small_encoder(tokenizer, config.layers, config.hidden, config.intermediate)
    if teacher is not None:
        weights = teacher.model.get_input_embeddings().weight.detach()
        ids = torch.from_numpy(teacher.ids)
        rows = weights[ids.clamp_min(0)] - weights.mean(0)
        _, _, directions = torch.linalg.svd(rows, full_matrices=False)
        reduced = rows @ directions[: config.hidden].T
        reduced[ids < 0] = 0.0
        target = student.get_input_embeddings().weight
        width = min(config.hidden, reduced.shape[1])
        target.data[:, :width] = reduced[:, :width] * (0.02 / reduced.std())
    return student


def _save(
    config: Config,
    student: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    losses: dict[str, float],
    reviews: int,
) -> None:
    """Writes the folder that `--base-model` takes, the weights last: without them it counts as nothing. `losses`: the
    last epoch's."""
    import torch

    from ray_app import storage

    provenance = {
        "command": "python -m jobs.pretrain",
        "config": as_dict(config),
        "reviews": reviews,
        "last_epoch": losses,
    }
    with tempfile.TemporaryDirectory() as scratch:
        student.to("cpu", torch.float16).save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        storage.write_json(f"{scratch}/provenance.json", provenance)
        storage.upload(scratch, config.output, last="model.safetensors")


def _summary(config: Config, losses: dict[str, float]) -> str:
    """Where the encoder is, the losses of its last epoch, and what a user does next."""
    from ray_app.cli import next_command
    from ray_app.training.distillation import as_line

    command = next_command("train", labels="YOUR_LABELS.csv", base_model=config.output, output="runs/bundle")
    return f"encoder in {config.output}; losses of the last epoch: {as_line(losses)}\nNext: {command}"
