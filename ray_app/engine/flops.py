"""What a pass costs and what this machine could do: FLOPs of an encoder, a GEMM probe, and counters of work done.

In: an encoder's config and lengths of sequences; a device. Out: FLOPs, FLOP/s, and the figures of a run's report.
FLOPs are those of matrix products (a multiply and an add are two); embeddings, norms, activations and padding do not
count, so speed over the probe's speed is the share of the machine that does useful work.
"""

import time
from typing import TYPE_CHECKING

import numpy as np

from ray_app.arrays import Ints

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from ray_app.engine.linear import Backend


class WorkCounters(dict[str, float]):
    """Amounts by name: sequences, sequences_run, tokens, padding, flops, seconds, gemm_seconds (the products' time at
    the probe's speed); highlights add reviews, masked, words."""

    def add(self, **amounts: float) -> None:
        """Adds each amount to the counter of its name."""
        for name, amount in amounts.items():
            self[name] = self.get(name, 0.0) + amount


def encoder_flops(config: "PretrainedConfig", outputs: int, lengths: Ints, first_row_only: bool) -> float:
    """FLOPs of sequences of `lengths` tokens [n] through an encoder and a head of `outputs`.

    `first_row_only`: the last layer computes keys and values of every token, and all else for one row per sequence.
    """
    hidden, layers = int(config.hidden_size), int(config.num_hidden_layers)
    inner = int(getattr(config, "intermediate_size", 4 * hidden))
    embedded = int(config.embedding_size) if config.model_type == "electra" else hidden
    tokens, n, pairs = float(lengths.sum()), len(lengths), float((lengths.astype(np.float64) ** 2).sum())
    key_value, rest = 2 * 2 * hidden * hidden, 2 * (2 * hidden * hidden + 2 * hidden * inner)
    whole = tokens * (key_value + rest) + 4 * pairs * hidden
    last = tokens * key_value + n * rest + 4 * tokens * hidden if first_row_only else whole
    project = 2 * tokens * embedded * hidden if embedded != hidden else 0
    return project + (layers - 1) * whole + last + 2 * n * hidden * outputs


def measure_gemm_flops(device: "torch.device", backend: "Backend", rounds: int = 5) -> float:
    """FLOP/s of a plain product at this moment: [1024, 2048] x [2048, 2048] (all 8,192 on CUDA), median of `rounds`."""
    import torch

    from ray_app.engine.linear import DTYPES, linear  # here, so that WorkCounters and summary need no torch

    rows, side = (8_192, 8_192) if device.type == "cuda" else (1_024, 2_048)
    dtype = DTYPES[backend]
    weight = torch.randn(side, side, device=device, dtype=dtype)
    product = linear(weight, torch.zeros(side, device=device, dtype=dtype), backend)
    x = torch.randn(rows, side, device=device, dtype=dtype)
    seconds = []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            began = time.perf_counter()
            product(x)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
    return 2.0 * rows * side * side / float(np.median(seconds[1:]))


def summary(work: WorkCounters) -> dict[str, float]:
    """Counters -> the figures of a run's report; empty where no tokens were run.

    `reviews_masked` p and `words_a_review` W give `left_by_skipping` = (1 + pW) / (1 + W): the share of sequences that
    is left when reviews without a found keyword are not masked.
    """
    seconds, tokens = work.get("seconds", 0.0), work.get("tokens", 0.0)
    if not seconds or not tokens:
        return {}
    reviews, masked = work.get("reviews", 0.0), work.get("masked", 0.0)
    p, words = masked / max(1.0, reviews), work.get("words", 0.0) / max(1.0, masked)
    sequences, run = work.get("sequences", 0.0), work.get("sequences_run", 0.0)
    return {
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "padding_share": round(work.get("padding", 0.0) / (tokens + work.get("padding", 0.0)), 4),
        "flops": work.get("flops", 0.0),
        "flops_per_second": round(work.get("flops", 0.0) / seconds),
        "gemm_ratio": round(work.get("gemm_seconds", 0.0) / seconds, 3),
        "model_seconds": round(seconds, 1),
        "reviews_masked": round(p, 4),
        "words_a_review": round(words, 2),
        "left_by_skipping": round((1 + p * words) / (1 + words), 4),
        "sequences": sequences,
        "sequences_run": run,
    }
