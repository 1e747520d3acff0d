"""Makes a small encoder from unlabelled reviews: the `starter` that is shipped, or one for your own language and shop.

In: reviews (Parquet, ratings used where there are any) and, best, a teacher encoder whose hidden states are imitated.
Out: a folder that `--base-model` takes: config, fp16 safetensors, tokenizer, and `provenance.json`.

Per batch the student reads a masked copy and the teacher the clean text. The loss is the sum of: distance to the
teacher's standardised hidden states (every token, and their mean), masked-token prediction, and the review's rating
predicted from the mean. Without a teacher only the last two.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_app.errors import check
from ray_app.options import Options, as_dict, option


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
    seed: int = option(0, "seed of everything random", "Training")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hidden % 32 == 0, f"--hidden {self.hidden}: write a multiple of 32")


def run(config: Config) -> None:
    """Pre-trains in this process and saves the encoder."""
    import numpy as np
    import torch

    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import load_encoder
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.engine.tokenizer_training import shrink_tokenizer, train_tokenizer

    torch.manual_seed(config.seed)
    texts, ratings = _corpus(config)
    teacher, teacher_ids = None, np.zeros(0, np.int64)
    if config.teacher:
        teacher, full = load_encoder(config.teacher, config.teacher_layers)
        tokenizer, teacher_ids = shrink_tokenizer(full, texts, config.vocabulary)
    else:
        tokenizer = train_tokenizer(texts, config.vocabulary)
    wrapper = Tokenizer(tokenizer)
    sequences = wrapper.with_special_tokens(wrapper(texts).sequences, config.max_length)
    student = _student(config, tokenizer, teacher, teacher_ids)
    print(
        f"{len(texts):,} reviews, {len(sequences.ids):,} tokens, {len(tokenizer):,} pieces, "
        f"{sum(p.numel() for p in student.parameters()):,} parameters",
        flush=True,
    )
    history = _train(
        config,
        student,
        teacher,
        teacher_ids,
        sequences,
        ratings,
        tokenizer,
        choose_device(config.device, config.threads).device,
    )
    _save(config, student, tokenizer, history, len(texts))


def _corpus(config: Config) -> tuple[list[str], Any]:
    """Distinct texts and their ratings scaled to 0..1, NaN where unknown."""
    import numpy as np

    found: dict[str, float] = {}
    rng = np.random.default_rng(config.seed)
    for uri in config.input:
        rows = _source(uri, config)
        order = rng.permutation(len(rows))[: config.limit or None]
        found.update(rows[i] for i in order)
    check(found, f"{','.join(config.input)}: no texts there")
    ratings = np.fromiter(found.values(), np.float32, len(found))
    if np.isfinite(ratings).any():
        low, high = float(np.nanmin(ratings)), float(np.nanmax(ratings))
        ratings = (ratings - low) / max(high - low, 1e-6)
    return list(found), ratings


def _source(uri: str, config: Config) -> list[tuple[str, float]]:
    """(text, rating or NaN) of one `--input` entry."""
    from ray_app import storage
    from ray_app.data.columns import parse_columns
    from ray_app.data.text import is_blank

    if uri == "sample":
        from ray_app.sample import unlabeled

        return [(text, float("nan")) for text in unlabeled()]
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


def _student(config: Config, tokenizer: Any, teacher: Any, teacher_ids: Any) -> Any:
    """A small BERT; token embeddings start as the teacher's, rotated to their leading principal directions."""
    import torch

    from ray_app.engine.encoder import small_encoder

    student: Any = small_encoder(tokenizer, config.layers, config.hidden, config.intermediate)
    if teacher is not None:
        weights = teacher.get_input_embeddings().weight.detach()
        known = torch.from_numpy(teacher_ids)
        rows = weights[known.clamp_min(0)] - weights.mean(0)
        _, _, directions = torch.linalg.svd(rows, full_matrices=False)
        reduced = rows @ directions[: config.hidden].T
        reduced[known < 0] = 0.0
        target = student.get_input_embeddings().weight
        width = min(config.hidden, reduced.shape[1])
        target.data[:, :width] = reduced[:, :width] * (0.02 / reduced.std())
    return student


def _train(
    config: Config,
    student: Any,
    teacher: Any,
    teacher_ids: Any,
    sequences: Any,
    ratings: Any,
    tokenizer: Any,
    device: Any,
) -> list[dict[str, float]]:
    """The training loop; returns one row of mean losses an epoch."""
    import numpy as np
    import torch
    from torch import nn

    wide = teacher.config.hidden_size if teacher is not None else 1
    heads = nn.ModuleDict(
        {
            "token": nn.Linear(config.hidden, wide),
            "review": nn.Linear(config.hidden, wide),
            "transform": nn.Sequential(nn.Linear(config.hidden, config.hidden), nn.GELU(), nn.LayerNorm(config.hidden)),
            "rating": nn.Linear(config.hidden, 1),
        }
    ).to(device)
    student.to(device).train()
    if teacher is not None:
        teacher.to(device).eval()
    parameters = [*student.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    rng = np.random.default_rng(config.seed)
    plan = [list(_epoch(sequences, config.batch_tokens, rng)) for _ in range(config.epochs)]
    total = sum(map(len, plan))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.05 * total + 1), max(0.02, 1 - step / total))
    )
    lookup = torch.from_numpy(np.maximum(teacher_ids, 3)).to(device) if teacher is not None else None
    moments: list[Any] = []
    history, began = [], time.monotonic()
    for epoch, batches in enumerate(plan, 1):
        sums: dict[str, Any] = {}
        for done, rows in enumerate(batches, 1):
            losses = _losses(
                config,
                student,
                heads,
                teacher,
                lookup,
                moments,
                sequences.take(rows),
                torch.from_numpy(ratings[rows]).to(device),
                tokenizer,
                device,
            )
            sum(losses.values()).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss.detach()
            if done % 50 == 0:
                shown = {name: round(float(value) / done, 4) for name, value in sums.items()}
                print(f"epoch {epoch} {done}/{len(batches)} {shown} {time.monotonic() - began:.0f} s", flush=True)
        history.append({name: round(float(value) / len(batches), 4) for name, value in sums.items()})
        print(f"epoch {epoch}/{config.epochs} {history[-1]} {time.monotonic() - began:.0f} s", flush=True)
    return history


def _epoch(sequences: Any, budget: int, rng: Any) -> Iterator[Any]:
    """Batches of similar length in random order, drawn anew each epoch."""
    import numpy as np

    from ray_app.engine.batching import batches

    noisy = sequences.lengths + rng.integers(0, 4, len(sequences))  # so that neighbours in length change partners
    found = list(batches(np.asarray(noisy), budget))
    for i in rng.permutation(len(found)):
        yield found[i]


def _losses(
    config: Config,
    student: Any,
    heads: Any,
    teacher: Any,
    lookup: Any,
    moments: list[Any],
    batch: Any,
    rating: Any,
    tokenizer: Any,
    device: Any,
) -> dict[str, Any]:
    """The named losses of one batch."""
    import torch
    from torch.nn import functional as F

    from ray_app.engine.batching import padded

    ids, mask = (t.to(device, non_blocking=True) for t in padded(batch, tokenizer.pad_token_id))
    real = mask.bool()
    specials = (ids == tokenizer.bos_token_id) | (ids == tokenizer.eos_token_id)
    chosen = (torch.rand(ids.shape, device=device) < config.mask_share) & real & ~specials
    noised = torch.where(chosen, tokenizer.mask_token_id, ids)
    losses = {}
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        hidden = student(input_ids=noised, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1) / mask.sum(1)[:, None, None]
        pooled = (hidden * weight).sum(1)
        if teacher is not None:
            with torch.no_grad():
                target = teacher(input_ids=lookup[ids], attention_mask=mask).last_hidden_state.float()
                if len(moments) < 2:  # the first batch fixes each dimension's mean and spread
                    moments.extend([target[real].mean(0), target[real].std(0)])
                target = (target - moments[0]) / moments[1]
            losses["tokens"] = F.smooth_l1_loss(heads["token"](hidden[real]).float(), target[real])
            losses["review"] = F.smooth_l1_loss(heads["review"](pooled).float(), (target * weight).sum(1)) * 4
        predicted = heads["transform"](hidden[chosen]) @ student.get_input_embeddings().weight.T
        losses["masked"] = 0.2 * F.cross_entropy(predicted.float(), ids[chosen])
        rated = torch.isfinite(rating)
        logit = heads["rating"](pooled).float().squeeze(-1)
        error = F.binary_cross_entropy_with_logits(logit, torch.nan_to_num(rating), reduction="none")
        losses["rating"] = 0.5 * (error * rated).sum() / rated.sum().clamp_min(1)
    return losses


def _save(config: Config, student: Any, tokenizer: Any, history: list[dict[str, float]], reviews: int) -> None:
    import torch

    from ray_app import storage

    folder = Path(config.output)
    student.to("cpu", torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    storage.write_json(
        str(folder / "provenance.json"),
        {
            "command": "python -m jobs.pretrain",
            "config": as_dict(config),
            "reviews": reviews,
            "last_epoch": history[-1],
        },
    )
    print(f"wrote {folder}")
