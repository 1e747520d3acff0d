"""The classifiers' architecture (any Hugging Face encoder, pooled, dropout, one linear layer) and how it is saved.

In: a base model by name or folder. Out: an EncoderClassifier; its folder of config.json and safetensors.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ray_app.engine import prefix, weight_storage
from ray_app.engine.base_model import open_encoder, set_dropout, without_pooler
from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
from ray_app.engine.token_states import padded_forward
from ray_app.errors import check

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

POOLINGS = ("first", "mean")
STARTER = Path(__file__).parent / "starter"


class EncoderClassifier(nn.Module):
    """An encoder, its pooled vector, dropout and one linear layer: ids [batch, length] -> logits [batch, outputs]."""

    encoder: "PreTrainedModel"
    batching = "auto"  # how it may be run, see `agreement.py`

    def __init__(self, encoder: "PreTrainedModel", outputs: int, dropout: float = 0.2, pooling: str = "first") -> None:
        super().__init__()
        check(pooling in POOLINGS, f"pooling {pooling!r}: write {' or '.join(POOLINGS)}")
        self.encoder, self.pooling = encoder, pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(encoder.config.hidden_size), outputs)

    def forward(self, ids: Tensor, mask: Tensor, vectors: bool = False) -> Tensor:
        """Logits; with `vectors` the pooled vectors beside them, [batch, outputs + hidden]."""
        hidden = padded_forward(self.encoder, ids, mask, self.batching)
        if self.pooling == "first":
            pooled = hidden[:, 0]
        else:
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weight).sum(1) / weight.sum(1)
        logits: Tensor = self.head(self.dropout(pooled))
        return torch.cat([logits, pooled], 1) if vectors else logits


def load_base_model(
    name: str, layers: int = 0, texts: Sequence[str] = (), dropout: float | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """Encoder and tokenizer of `starter` (shipped), `scratch` (made from `texts`), a Hugging Face name or a folder.

    `layers` > 0 keeps only the first ones; `dropout` replaces the encoder's own. Raises UserError naming the model.
    """
    if name == "scratch":
        from ray_app.engine.tokenizer_training import train_tokenizer

        tokenizer = train_tokenizer(texts, 8_000)
        return small_encoder(tokenizer, layers=layers or 4, dropout=dropout), tokenizer
    return load_encoder(str(STARTER) if name == "starter" else name, layers, dropout)


def load_encoder(
    name: str, layers: int = 0, dropout: float | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """A Hugging Face encoder and its fast tokenizer, by name or folder; `layers` > 0 keeps only the first ones.

    Code from a model's repository is never run. Raises UserError naming the model.
    """
    return open_encoder(name, layers, dropout)


def small_encoder(
    tokenizer: "PreTrainedTokenizerFast",
    layers: int = 4,
    hidden: int = 256,
    intermediate: int = 512,
    dropout: float | None = None,
) -> "PreTrainedModel":
    """A small BERT with random weights (torch's own seed) for a tokenizer of our own."""
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
    return BertModel(config, add_pooling_layer=False)


def base_name(name: str) -> str:
    """A base model as provenance names it: without a machine's own folder."""
    return os.path.basename(name.rstrip("/")) if os.path.isdir(name) else name


def save_model(model: "EncoderClassifier | KeywordScorer", folder: Path, weights: str = "fp32") -> None:
    """The encoder as transformers saves it, its prefix and the head beside it; with `weights` int8 or int4 as
    `weight_storage` does."""
    state = prefix.own_state(model.encoder)
    model.encoder.save_pretrained(folder, state_dict=dict(state))  # which it empties
    prefix.save(model.encoder, folder)
    if weights != "fp32":
        weight_storage.write(state, folder, weight_storage.FILES[weights], weights)
        (folder / "model.safetensors").unlink()
    save_head(model.head, folder)


def save_head(head: nn.Module, folder: Path) -> None:
    """The head alone, beside its encoder."""
    state = {name: t.detach().cpu().contiguous() for name, t in head.state_dict().items()}
    save_file(state, folder / "head.safetensors")


def load_model(folder: Path, pooling: str) -> EncoderClassifier:
    """The EncoderClassifier that `save_model` wrote, in fp32 on the CPU."""
    encoder, head = _load_parts(folder)
    model = EncoderClassifier(encoder, outputs=head["weight"].shape[0], pooling=pooling)
    model.head.load_state_dict(head)
    return model


def load_keyword_scorer(folder: Path, dropout: float | None = None) -> KeywordScorer:
    """The KeywordScorer that `save_model` wrote, in fp32 on the CPU; `dropout` replaces the encoder's own."""
    encoder, state = _load_parts(folder, dropout)
    return KeywordScorer(encoder, KeywordAttention.of(state))


def _load_parts(folder: Path, dropout: float | None = None) -> "tuple[PreTrainedModel, dict[str, Tensor]]":
    """The encoder, and the state of its head."""
    from transformers import AutoConfig, AutoModel, utils

    utils.logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if dropout is not None:
        set_dropout(config, dropout)
    plain, stored = without_pooler(config), weight_storage.stored_as(folder)
    if stored != "fp32":
        encoder = _expanded(config, weight_storage.read(folder, weight_storage.FILES[stored]), folder)
    else:
        encoder = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, **plain
        )
    prefix.load(encoder, folder)
    return encoder, load_file(folder / "head.safetensors")


def _expanded(config: "PretrainedConfig", state: dict[str, Tensor], folder: Path) -> "PreTrainedModel":
    """An encoder with these weights. Without random ones first, which take several times as long as reading these."""
    from transformers import AutoModel

    plain = without_pooler(config)
    with torch.device("meta"):
        kind = type(AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False, **plain))
    own = {name: value for name, value in state.items() if not name.startswith("pooler.")}
    told = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True, **plain}
    encoder, info = kind.from_pretrained(None, config=config, state_dict=own, trust_remote_code=False, **told)
    odd = [*info["missing_keys"], *info["unexpected_keys"], *(name for name, *_ in info["mismatched_keys"])]
    if odd:
        raise ValueError(f"{folder}: {len(odd)} weights are not this encoder's, or are missing: {sorted(odd)[0]}")
    loaded: PreTrainedModel = encoder
    return loaded
