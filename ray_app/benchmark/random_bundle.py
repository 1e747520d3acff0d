"""Bundles with random weights in the shapes of known encoders: what an engine costs does not depend on the weights."""

from pathlib import Path

SHAPES: dict[str, tuple[int, int, int, int]] = {  # layers, hidden, inner, heads
    "roberta-base": (12, 768, 3_072, 12),
    "e5-small": (12, 384, 1_536, 12),
    "starter": (3, 256, 512, 8),
    "tiny": (2, 128, 256, 4),
}


def random_bundle(folder: Path, shape: str) -> Path:
    """A bundle with random weights: the shipped tokenizer and taxonomy, two encoders of a named shape."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel, utils

    from ray_app.data.taxonomy import load
    from ray_app.engine.encoder import STARTER, EncoderClassifier, save_model
    from ray_app.inference.bundle import BundleMeta, seal

    utils.logging.disable_progress_bar()
    tokenizer, taxonomy = AutoTokenizer.from_pretrained(STARTER, trust_remote_code=False), load()
    layers, hidden, inner, heads = SHAPES[shape]
    encoder = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    for name, outputs in (("keywords", len(taxonomy.names)), ("scores", len(taxonomy.scores))):
        save_model(EncoderClassifier(BertModel(encoder, add_pooling_layer=False), outputs), folder / name)
    seal(folder, BundleMeta(taxonomy=taxonomy, thresholds=tuple(0.5 for _ in taxonomy.names)))
    return folder
