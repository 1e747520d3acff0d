"""The classifiers' architecture: any Hugging Face encoder, pooled, dropout, one linear layer; how it is kept."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ray_app.errors import UserError, check, first_line

POOLINGS = ("first", "mean")
STARTER = Path(__file__).parent / "starter"


class EncoderClassifier(nn.Module):
    """An encoder, its pooled vector, dropout and one linear layer: ids [batch, length] -> logits [batch, outputs]."""

    def __init__(self, encoder: nn.Module, outputs: int, dropout: float = 0.2, pooling: str = "first") -> None:
        super().__init__()
        check(pooling in POOLINGS, f"pooling {pooling!r}: write {' or '.join(POOLINGS)}")
        self.encoder, self.pooling = encoder, pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(encoder.config.hidden_size), outputs)  # type: ignore[union-attr, arg-type]

    def forward(self, ids: Tensor, mask: Tensor, vectors: bool = False) -> Tensor:
        """Logits; with `vectors` the pooled vectors beside them, [batch, outputs + hidden]."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "first":
            pooled = hidden[:, 0]
        else:
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weight).sum(1) / weight.sum(1)
        logits: Tensor = self.head(self.dropout(pooled))
        return torch.cat([logits, pooled], 1) if vectors else logits


def load_base_model(
    name: str, layers: int = 0, texts: Sequence[str] = (), dropout: float | None = None
) -> tuple[nn.Module, Any]:
    """A base model: `starter` (shipped), `scratch` (made from `texts`), a Hugging Face name or a folder."""
    if name == "scratch":
        from ray_app.engine.tokenizer_training import train_tokenizer

        tokenizer = train_tokenizer(texts, 8_000)
        return small_encoder(tokenizer, layers=layers or 4, dropout=dropout), tokenizer
    return load_encoder(str(STARTER) if name == "starter" else name, layers, dropout)


def load_encoder(name: str, layers: int = 0, dropout: float | None = None) -> tuple[nn.Module, Any]:
    """A Hugging Face encoder and its fast tokenizer, by name or folder; `layers` > 0 keeps the first so many.

    Code from a model's repository is never run. Raises UserError naming the model.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer, utils

    utils.logging.set_verbosity_error()
    utils.logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if layers:
            config.num_hidden_layers = min(layers, config.num_hidden_layers)
        if dropout is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        encoder = AutoModel.from_pretrained(
            name, config=config, dtype=torch.float32, trust_remote_code=False, **_without_pooler(config)
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        here = os.path.isdir(name)
        where = first_line(error) if here else "no such folder, and the model hub does not have it or is out of reach"
        raise UserError(f"--base-model {name!r}: {where}; a folder, starter and scratch work offline") from None
    check(tokenizer.is_fast, f"--base-model {name!r}: it has no fast tokenizer, whose offsets highlights need")
    return encoder, tokenizer


def small_encoder(
    tokenizer: Any, layers: int = 4, hidden: int = 256, intermediate: int = 512, dropout: float | None = None
) -> nn.Module:
    """A small BERT with random weights for a tokenizer of our own."""
    from transformers import BertConfig, BertModel

    rate = 0.1 if dropout is None else dropout
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        intermediate_size=intermediate,
        max_position_embeddings=512,
        hidden_dropout_prob=rate,
        attention_probs_dropout_prob=rate,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    encoder: nn.Module = BertModel(config, add_pooling_layer=False)
    return encoder


def base_name(name: str) -> str:
    """How provenance names a base model: without the folder of a machine."""
    return os.path.basename(name.rstrip("/")) if os.path.isdir(name) else name


def _without_pooler(config: Any) -> dict[str, bool]:
    """Families whose models would add a pooler that nothing here reads."""
    return {"add_pooling_layer": False} if config.model_type in ("bert", "roberta", "xlm-roberta") else {}


def save_model(model: EncoderClassifier, folder: Path) -> None:
    """Encoder as transformers saves it, head beside it."""
    model.encoder.save_pretrained(folder)  # type: ignore[operator]
    save_file(
        {name: t.detach().cpu().contiguous() for name, t in model.head.state_dict().items()},
        folder / "head.safetensors",
    )


def load_model(folder: Path, pooling: str) -> EncoderClassifier:
    """What `save_model` wrote, in fp32 on the CPU."""
    from transformers import AutoConfig, AutoModel, utils

    utils.logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(folder)
    encoder = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **_without_pooler(config))
    head = load_file(folder / "head.safetensors")
    model = EncoderClassifier(encoder, outputs=head["weight"].shape[0], pooling=pooling)
    model.head.load_state_dict(head)
    return model
