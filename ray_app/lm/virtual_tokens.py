"""Virtual tokens of a causal language model: what no text holds, and every prompt begins with.

    prompt     rows of the embedding behind the last one (Lester et al. 2021, arXiv:2104.08691)
    p-tuning   the same, made by a small network (Liu et al. 2021, arXiv:2103.10385)
    prefix     keys and values that take the place of theirs in every layer (Li and Liang 2021, arXiv:2101.00190)

In: a model, what they start from. Out: the model, which knows ids behind its last one: prompts that begin with these
(`PromptTokenizer`) need nothing else, so positions, masks, padding, packed rows and generation are as of any token; no
output stands for them, so none is ever written. They lie in a file beside the model's weights, which stay the base's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DynamicCache

from ray_app.errors import UserError, check, first_line
from ray_app.training.optimizer import leave_undecayed
from ray_app.training.tuning.virtual_tokens import VirtualWords

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

FILE = "virtual_tokens.safetensors"
ROWS = "rows"


class Prefixed(nn.Module):
    """A causal language model in whose layers virtual tokens have keys and values of their own.

    Args:
        keys, values: by layer, [heads, virtual tokens, width] each.
    """

    def __init__(self, model: "PreTrainedModel", keys: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        self.keys, self.values = (
            nn.ParameterDict({layer: nn.Parameter(made.clone()) for layer, made in made_of.items()})
            for made_of in (keys, values)
        )

    def forward(self, input_ids: Tensor, **given: Any) -> Any:
        """As the model's own, of whole texts."""
        return self.model(input_ids=input_ids, past_key_values=self._cache(input_ids), **{**given, "use_cache": True})

    def generate(self, input_ids: Tensor, **given: Any) -> Any:
        """As the model's own."""
        return self.model.generate(input_ids=input_ids, past_key_values=self._cache(input_ids), **given)

    def _cache(self, ids: Tensor) -> "_Prefix":
        return _Prefix(self.model.config, self.keys, self.values, ids >= _words_of(self.model).words.num_embeddings)

    def get_base_model(self) -> "PreTrainedModel":
        """The model within."""
        return self.model

    @property
    def config(self) -> "PretrainedConfig":
        """The model's."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """The model's."""
        own: torch.device = self.model.device
        return own

    @property
    def generation_config(self) -> "GenerationConfig":
        """The model's."""
        return self.model.generation_config

    @generation_config.setter
    def generation_config(self, config: "GenerationConfig") -> None:
        """The model's."""
        self.model.generation_config = config


class _Prefix(DynamicCache):  # type: ignore[misc]  # transformers is not typed
    """The cache of one batch; what a layer first puts there of virtual tokens gives way to the prefix's.

    Args:
        virtual: [lines, width] whether a token is virtual; as many in every line.
    """

    def __init__(
        self,
        config: "PretrainedConfig",
        keys: nn.ParameterDict,
        values: nn.ParameterDict,
        virtual: Tensor,
    ) -> None:
        super().__init__(config=config)
        self.made, self.virtual = (keys, values), virtual[:, None, :, None]
        self.number = (virtual.cumsum(1) - 1).clamp_min(0)
        self.begun: set[int] = set()

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """As the cache's own; states are [lines, heads, width, width of a head]."""
        if layer_idx not in self.begun and str(layer_idx) in self.made[0]:
            key_states, value_states = (
                self._put(states, made[str(layer_idx)])
                for states, made in zip((key_states, value_states), self.made, strict=True)
            )
        self.begun.add(layer_idx)
        both: tuple[Tensor, Tensor] = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        return both

    def _put(self, states: Tensor, made: Tensor) -> Tensor:
        ready = made.to(states.dtype)[:, self.number].transpose(0, 1)  # [lines, heads, width, width of a head]
        return torch.where(self.virtual, ready, states)


def added(
    model: "PreTrainedModel", kind: str, count: int, front: Sequence[int], start: Sequence[int]
) -> "PreTrainedModel | Prefixed":
    """The model with so many virtual tokens, which alone train. It reads them as the tokens `start`, again and again,
    at first: random ones would draw attention to noise.

    Args:
        front: the tokens that come before them in a text.
    Raises: UserError where a model cannot be tuned so.
    """
    place = f"--tune {kind}: {model.config.model_type} models"
    words = model.get_input_embeddings()
    check(isinstance(words, nn.Embedding), f"{place} have no plain embedding of words; write lora")
    with torch.no_grad():
        ids = torch.tensor(list(start) * (count // len(start) + 1), device=model.device)[:count]
        rows = words(ids).detach().clone()
    model.requires_grad_(False)
    made = VirtualWords(cast(nn.Embedding, words), rows, rows.shape[1] if kind == "p-tuning" else 0).to(model.device)
    model.set_input_embeddings(made)
    if kind != "prefix":
        leave_undecayed(made)  # zero is not what changes nothing
        return model
    made.requires_grad_(False)
    prefixed = Prefixed(model, *_first_keys(model, front, place))
    leave_undecayed(prefixed.keys)
    leave_undecayed(prefixed.values)
    return prefixed


@torch.no_grad()
def _first_keys(
    model: "PreTrainedModel", front: Sequence[int], place: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """By layer, the keys and values that a model makes of its virtual tokens behind `front`."""
    ids, cache = [*front, *ids_of(model)], DynamicCache(config=model.config)
    training = model.training
    model.eval()(input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True)
    model.train(training)
    made = {str(number): (layer.keys, layer.values) for number, layer in enumerate(cache.layers) if _has_keys(layer)}
    check(made, f"{place} keep no keys and values of each token; write prompt or lora")
    keys, values = ({number: both[at][0, :, len(front) :] for number, both in made.items()} for at in (0, 1))
    return keys, values


def _has_keys(layer: object) -> bool:
    """Whether a layer of a cache holds the keys of every token."""
    keys = getattr(layer, "keys", None)
    return isinstance(keys, Tensor) and keys.ndim == 4


def ids_of(model: nn.Module) -> list[int]:
    """The ids of a model's virtual tokens; none where it has none."""
    words = _embedding(model)
    if not isinstance(words, VirtualWords):
        return []
    first = words.words.num_embeddings
    return list(range(first, first + len(words.rows)))


def _embedding(model: nn.Module) -> nn.Module:
    inner = cast("PreTrainedModel", model.model if isinstance(model, Prefixed) else model)
    words: nn.Module = inner.get_input_embeddings()
    return words


def _words_of(model: nn.Module) -> VirtualWords:
    return cast(VirtualWords, _embedding(model))


@contextmanager
def bare(model: "PreTrainedModel | Prefixed") -> "Iterator[tuple[PreTrainedModel, dict[str, Tensor]]]":
    """Within the block the model as it was without virtual tokens, and these as `save` writes them: none for a model
    without."""
    inner = model.get_base_model() if isinstance(model, Prefixed) else model
    words = inner.get_input_embeddings()
    if not isinstance(words, VirtualWords):
        yield inner, {}
        return
    state = {ROWS: words.made()}
    if isinstance(model, Prefixed):
        state |= {f"keys.{layer}": made for layer, made in model.keys.items()}
        state |= {f"values.{layer}": made for layer, made in model.values.items()}
    inner.set_input_embeddings(words.words)
    try:
        yield inner, {name: value.detach().float().cpu().contiguous() for name, value in state.items()}
    finally:
        inner.set_input_embeddings(words)


def write(state: Mapping[str, Tensor], folder: Path) -> None:
    """Writes virtual tokens beside a model's weights."""
    save_file(dict(state), folder / FILE)


def read(model: "PreTrainedModel", folder: Path, count: int, place: str) -> "PreTrainedModel | Prefixed":
    """The model with the virtual tokens that lie in its folder. Raises UserError where these are damaged or missing.

    Args:
        count: how many there must be, 0 for as many as there are, or none.
    """
    check(not count or (folder / FILE).is_file(), f"{place}: {FILE} is missing, without which it says something else")
    if not (folder / FILE).is_file():
        return model
    try:
        state = load_file(folder / FILE)
        words = cast(nn.Embedding, model.get_input_embeddings())
        rows = state.pop(ROWS)
        if rows.ndim != 2 or len(rows) != (count or len(rows)) or not all(map(_finite, [rows, *state.values()])):
            raise ValueError("its numbers or their shapes are not those of virtual tokens")
        model.set_input_embeddings(VirtualWords(words, rows))
        keys, values = (
            {name.removeprefix(f"{part}."): made for name, made in state.items() if name.startswith(f"{part}.")}
            for part in ("keys", "values")
        )
        tuned: PreTrainedModel | Prefixed = Prefixed(model, keys, values) if keys else model
        ids = torch.tensor([ids_of(tuned)])
        with torch.no_grad():
            tuned(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (SafetensorError, KeyError, ValueError, RuntimeError, IndexError, OSError) as error:
        raise UserError(
            f"{place}: {FILE} is damaged, or another model's ({first_line(error)}); copy it again"
        ) from None
    return tuned


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
