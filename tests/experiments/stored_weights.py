"""How long a bundle's encoder takes to load, by how its weights lie: fp16, fp32, int8, int4, in turns in one process.

    python -m tests.experiments.stored_weights                    # an encoder of 12 layers, 768 wide, random weights
    python -m tests.experiments.stored_weights --bundle ready     # a bundle's own

CPU seconds of the fastest of five loads, and MB on disk.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from ray_app.cli import main
from ray_app.engine.encoder import EncoderClassifier, load_keyword_scorer, load_model, save_model
from ray_app.inference import bundle as bundles
from ray_app.options import Options, option

KINDS, TURNS = ("fp16", "fp32", "int8", "int4"), 5


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options."""

    bundle: str = option("", "a bundle of the joint form; none for random weights")
    layers: int = option(12, "of the encoder with random weights", least=1)
    hidden: int = option(768, "its width", least=64)


def run(config: Config) -> None:
    """Prints a line per kind."""
    model = _model(config)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {kind: Path(scratch) / kind for kind in KINDS}
        for kind in ("fp32", "int8", "int4"):
            save_model(model, folders[kind], kind)
        model.encoder.half()
        save_model(model, folders["fp16"])
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(TURNS):
            for kind in KINDS:
                began = time.process_time()
                load_model(folders[kind], "mean")
                seconds[kind].append(time.process_time() - began)
        for kind in KINDS:
            size = sum(path.stat().st_size for path in folders[kind].iterdir()) / 1e6
            best, ratio = min(seconds[kind]), min(seconds[kind]) / min(seconds["fp16"])
            print(f"{kind}: {best:.3f} s, {ratio:.2f} times fp16, {size:.1f} MB")


def _model(config: Config) -> EncoderClassifier:
    if config.bundle:
        encoder = load_keyword_scorer(bundles.load(config.bundle).path / "joint").encoder
    else:
        torch.manual_seed(0)
        size = {"hidden_size": config.hidden, "num_hidden_layers": config.layers}
        shape = BertConfig(
            **size, vocab_size=32_000, intermediate_size=4 * config.hidden, num_attention_heads=config.hidden // 64
        )
        encoder = BertModel(shape, add_pooling_layer=False)
    return EncoderClassifier(encoder, outputs=15, pooling="mean")


if __name__ == "__main__":
    main(Config, run, __doc__ or "")
