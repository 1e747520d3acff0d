"""A prefix: keys and values that every token attends to beside those of its own text, kept with an encoder.

In: an encoder of a family that runs flat, and keys and values per layer. Out: the same encoder, whose forward sees them
wherever it is called; a file beside its weights. They have no position and are no tokens: a text has as many tokens as
before (prefix tuning; Li and Liang 2021, arXiv:2101.00190).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = "prefix.safetensors"
NAME = "prefix"  # the attribute of an encoder that has one


class Prefix(nn.Module):
    """`keys` and `values`, [layers, tokens, heads, width] each."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = nn.Parameter(keys), nn.Parameter(values)

    @property
    def tokens(self) -> int:
        """How many keys a layer has."""
        return self.keys.shape[1]

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Per layer its keys and values, [tokens, heads, width] each."""
        return list(zip(self.keys, self.values, strict=True))


def attach(encoder: "PreTrainedModel", prefix: Prefix) -> None:
    """From now on the encoder attends to the prefix, which is one of its modules."""
    encoder.add_module(NAME, prefix)
    encoder.register_forward_pre_hook(_seen, with_kwargs=True)


def prefix_of(encoder: nn.Module) -> Prefix | None:
    """An encoder's prefix, None where it has none."""
    found = getattr(encoder, NAME, None)
    return found if isinstance(found, Prefix) else None


def own_state(encoder: nn.Module) -> dict[str, Tensor]:
    """An encoder's state without its prefix."""
    return {name: value for name, value in encoder.state_dict().items() if not name.startswith(NAME + ".")}


def save(encoder: nn.Module, folder: Path) -> None:
    """Writes an encoder's prefix, where it has one."""
    if (prefix := prefix_of(encoder)) is not None:
        save_file({name: t.detach().cpu().contiguous() for name, t in prefix.state_dict().items()}, folder / FILE)


def load(encoder: "PreTrainedModel", folder: Path) -> None:
    """Attaches the prefix in a folder, where there is one."""
    if (folder / FILE).exists():
        state = load_file(folder / FILE)
        attach(encoder, Prefix(state["keys"], state["values"]))


def _seen(encoder: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What an encoder is called with, and its prefix as a cache of keys and values that come before every text. The
    positions are said: transformers would count those of a cache."""
    from transformers import DynamicCache

    prefix, ids, mask = cast(Prefix, prefix_of(encoder)), named["input_ids"], named["attention_mask"]
    cache, kind = DynamicCache(), ids.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else prefix.keys.dtype
    for layer, kept in enumerate(prefix.layers()):
        keys, values = (x.to(dtype).transpose(0, 1).expand(len(ids), -1, -1, -1) for x in kept)
        cache.update(keys, values, layer)
    before = mask.new_ones(len(mask), prefix.tokens)
    told = {"attention_mask": torch.cat([before, mask], 1), "position_ids": _positions(encoder, ids)}
    return given, {**named, **told, "past_key_values": cache}


def _positions(encoder: nn.Module, ids: Tensor) -> Tensor:
    """[texts, length] the position of every token, as the encoder numbers them without a prefix."""
    embeddings: Any = encoder.embeddings
    if hasattr(embeddings, "create_position_ids_from_input_ids"):
        return cast(Tensor, embeddings.create_position_ids_from_input_ids(ids, embeddings.padding_idx))
    return torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1)
