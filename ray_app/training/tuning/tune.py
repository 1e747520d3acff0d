"""A model made ready to be tuned in one way, and made plain again.

In: a model as it was loaded, and a kind (`kinds.py`). Out: the same model, of which only what the kind names trains;
after training a plain model, that knows nothing of how it was tuned: adapters are merged, virtual tokens are rows of
the vocabulary, a prefix is kept keys and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ray_app.engine import prefix as prefixes
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.tokenizer import Tokenizer
from ray_app.engine.unpadded import supports
from ray_app.errors import check
from ray_app.training.optimizer import leave_undecayed
from ray_app.training.tuning import adapters, virtual_tokens
from ray_app.training.tuning.frozen_encoder import FrozenEncoder
from ray_app.training.tuning.kinds import ADAPTERS, VIRTUAL, WORDS
from ray_app.training.tuning.virtual_tokens import VirtualWords

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a model is tuned: its kind, the rank of LoRA and DoRA, and how many virtual tokens or prefix keys."""

    kind: str = "full"
    rank: int = 8
    virtual_tokens: int = 16


def tune(model: EncoderClassifier | KeywordScorer, way: Way, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Changes the model in place, so that only what the kind names has gradients.

    `texts`: what a prefix or virtual tokens start from. `tokenizer`: the base model's own. Raises UserError where the
    encoder cannot be tuned so.
    """
    kind = way.kind
    if kind == "full":
        return
    encoder = model.encoder
    if kind in ADAPTERS:
        model.encoder = cast("PreTrainedModel", adapters.wrapped(encoder, kind, way.rank))
        if kind == "ia3":
            leave_undecayed(model.encoder)  # its factors are 1 where they change nothing
        return
    encoder.requires_grad_(False)
    if kind == "head":
        model.encoder = cast("PreTrainedModel", FrozenEncoder(encoder, model.pooling))
    elif kind in WORDS:
        words = encoder.get_input_embeddings().requires_grad_(True)
        leave_undecayed(words)  # the rows of words that no text holds stay as they are
        model.head.requires_grad_(kind == "embeddings-head")
    elif kind == "prefix":
        check(supports(model), f"--tune prefix: not for {encoder.config.model_type} encoders of this kind")
        if prefixes.prefix_of(encoder) is None:
            prefixes.attach(encoder, prefixes.Prefix(*_first_keys(encoder, tokenizer, texts, way.virtual_tokens)))
        leave_undecayed(cast(nn.Module, prefixes.prefix_of(encoder)).requires_grad_(True))
    elif kind in VIRTUAL:
        plain = type(encoder.get_input_embeddings()) is nn.Embedding
        check(plain, f"--tune {kind}: {encoder.config.model_type} encoders have no plain embedding of words")
        rows = virtual_tokens.first_rows(encoder, tokenizer, texts, way.virtual_tokens)
        words = VirtualWords(encoder.get_input_embeddings(), rows, rows.shape[1] if kind == "p-tuning" else 0)
        virtual_tokens.set_words(encoder, words)
        leave_undecayed(words)


@torch.no_grad()
def make_plain(model: EncoderClassifier | KeywordScorer) -> None:
    """Puts all that was learned into an encoder as transformers knows it, in place."""
    encoder: nn.Module = model.encoder
    if isinstance(encoder, FrozenEncoder):
        model.encoder = encoder.encoder
    elif hasattr(encoder, "merge_and_unload"):
        model.encoder = adapters.merged(cast("PeftModel", encoder))
    elif isinstance(words := model.encoder.get_input_embeddings(), VirtualWords):
        virtual_tokens.set_words(model.encoder, words.plain())


def trainable(model: nn.Module) -> tuple[int, int]:
    """How many of a model's weights train, and how many it has."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def counted(model: EncoderClassifier | KeywordScorer, name: str, kind: str) -> str:
    """A line that says how many of a model's weights train."""
    some, whole = trainable(model)
    inside, head = (trainable(part)[0] for part in (model.encoder, model.head))
    return (
        f"{name}: --tune {kind} trains {some:,} of {whole:,} weights ({some / whole:.2%}): {inside:,} in the encoder, "
        f"{head:,} in the head"
    )


@torch.no_grad()
def _first_keys(
    encoder: "PreTrainedModel", tokenizer: Tokenizer, texts: Sequence[str], count: int
) -> tuple[Tensor, Tensor]:
    """[layers, count, heads, width] keys and values that the encoder makes of `texts`: a prefix of random ones would
    draw attention to noise."""
    ids = torch.from_numpy(tokenizer(texts).sequences.ids)
    ids = ids.repeat(count // max(1, len(ids)) + 1)[None, :count].to(encoder.device)
    parts = [part for layer in encoder.encoder.layer for part in (layer.attention.self.key, layer.attention.self.value)]
    made: list[Tensor] = []
    hooks = [part.register_forward_hook(lambda _, given, states: made.append(states[0])) for part in parts]
    width, training = int(encoder.config.hidden_size) // int(encoder.config.num_attention_heads), encoder.training
    encoder.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
    encoder.train(training)
    for hook in hooks:
        hook.remove()
    both = torch.stack(made).view(-1, 2, count, int(encoder.config.num_attention_heads), width)
    return both[:, 0].clone(), both[:, 1].clone()
