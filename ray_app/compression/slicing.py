"""A smaller encoder cut out of a trained one: the layers that matter most, and of each the neurons that matter most.

In: a model whose encoder is of the BERT family as the flat engine runs it, and token sequences of reviews. Out: a copy
with fewer layers and narrower feed-forward layers, whose remaining weights are the old ones. It is a start for a
student: without teaching it has lost much more than its size (docs/compression.md).
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.engine.batching import padded
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.prefix import prefix_of
from ray_app.engine.ragged import Sequences
from ray_app.engine.token_states import padded_forward
from ray_app.engine.unpadded import FAMILIES
from ray_app.errors import check

MEASURED = 64  # reviews on which the importance of layers and neurons is measured

Model = KeywordScorer | EncoderClassifier
M = TypeVar("M", bound=Model)


def check_sliceable(model: Model, place: str, layers: int = 0, intermediate: int = 0) -> None:
    """Raises UserError where the encoder's layers do not lie as those of the BERT family do, where a prefix belongs to
    every one of them, or where it has fewer `layers`, or narrower ones, than are asked for."""
    config = model.encoder.config
    kind = config.model_type
    check(kind in FAMILIES, f"{place}: a {kind} encoder cannot be cut; the families {', '.join(FAMILIES)} can")
    check(
        prefix_of(model.encoder) is None,
        f"{place}: a prefix lies on its layers, so none can be cut; train it with another --tune than prefix",
    )
    for name, wanted, most in (
        ("layers", layers, config.num_hidden_layers),
        ("intermediate", intermediate, config.intermediate_size),
    ):
        check(wanted <= most, f"--{name} {wanted}: {place} has {most}; write at most that, or 0 for all")


@torch.no_grad()
def sliced(model: M, layers: int, intermediate: int, sequences: Sequences, pad_id: int) -> M:
    """A copy with so many layers, each with so many neurons between its two feed-forward products.

    Layers are left out one after the other, always the one without which the last states change least; neurons go by
    what they add to a layer's output, mean |activation| times the length of their outgoing weights.

    Args:
        layers, intermediate: at most what the model has; 0 keeps all.
        sequences: what importance is measured on, special tokens among them.
    """
    student = copy.deepcopy(model)
    student.eval()
    ids, mask = padded(sequences, pad_id)
    stack = student.encoder.encoder
    wanted = layers or len(stack.layer)
    reference = _states(student, ids, mask)
    while len(stack.layer) > wanted:
        stack.layer = _without_the_least(student, stack.layer, reference, ids, mask)
    if intermediate and intermediate < student.encoder.config.intermediate_size:
        _narrow(student, intermediate, ids, mask)
    student.encoder.config.num_hidden_layers = wanted
    return student


def _without_the_least(
    model: Model, layers: nn.ModuleList, reference: Tensor, ids: Tensor, mask: Tensor
) -> nn.ModuleList:
    """The layers but the one whose absence moves the last states least."""
    losses = []
    for left_out in range(len(layers)):
        model.encoder.encoder.layer = _but(layers, left_out)
        losses.append(float(_distance(_states(model, ids, mask), reference, mask)))
    return _but(layers, losses.index(min(losses)))


def _but(layers: nn.ModuleList, left_out: int) -> nn.ModuleList:
    return nn.ModuleList(layer for i, layer in enumerate(layers) if i != left_out)


def _states(model: Model, ids: Tensor, mask: Tensor) -> Tensor:
    return padded_forward(model.encoder, ids, mask, model.batching)


def _distance(states: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """1 - cosine of the states that are no padding, each dimension centered by the reference's mean."""
    real = mask.bool()
    mean = reference[real].mean(0)
    return 1 - F.cosine_similarity(states[real] - mean, reference[real] - mean, dim=1).mean()


def _narrow(model: Model, width: int, ids: Tensor, mask: Tensor) -> None:
    """Keeps the `width` strongest neurons of every feed-forward layer, in their order."""
    layers = list(model.encoder.encoder.layer)
    for layer, activation in zip(layers, _activations(model, layers, ids, mask), strict=True):
        up, down = layer.intermediate.dense, layer.output.dense
        kept = (activation * down.weight.norm(dim=0)).topk(width).indices.sort().values
        layer.intermediate.dense = _part(up, up.weight[kept], up.bias[kept])
        layer.output.dense = _part(down, down.weight[:, kept], down.bias)
    model.encoder.config.intermediate_size = width


def _activations(model: Model, layers: Sequence[Any], ids: Tensor, mask: Tensor) -> list[Tensor]:
    """Per layer [intermediate] the mean absolute activation of its neurons over tokens that are no padding."""
    found: dict[int, Tensor] = {}
    real = mask.bool()

    def note(number: int) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda module, inputs, output: found.update({number: output[real].abs().mean(0)})

    hooks = [layer.intermediate.register_forward_hook(note(i)) for i, layer in enumerate(layers)]
    _states(model, ids, mask)
    for hook in hooks:
        hook.remove()
    return [found[i] for i in range(len(layers))]


def _part(old: nn.Linear, weight: Tensor, bias: Tensor) -> nn.Linear:
    new = nn.Linear(weight.shape[1], weight.shape[0], device=old.weight.device)
    new.weight.data.copy_(weight)
    new.bias.data.copy_(bias)
    return new
