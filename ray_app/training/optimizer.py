"""What the optimizer is given: groups of parameters, and the learning rate over time.

In: parts of a model, each with its factor on the learning rate. Out: AdamW's groups; a factor per step.
"""

from collections.abc import Sequence

from torch import nn

UNDECAYED = "undecayed"  # an attribute of parameters


def parameter_groups(
    parts: Sequence[tuple[nn.Module, float]], learning_rate: float, weight_decay: float
) -> list[dict[str, object]]:
    """Weight decay on matrices alone, as is usual for transformers, but not on those of `leave_undecayed`; frozen
    parameters are left out."""
    groups: list[dict[str, object]] = []
    for part, factor in parts:
        for decayed in (True, False):
            groups.append(
                {
                    "params": [p for p in part.parameters() if p.requires_grad and _decays(p) == decayed],
                    "lr": learning_rate * factor,
                    "weight_decay": weight_decay if decayed else 0.0,
                }
            )
    return groups


def leave_undecayed(part: nn.Module) -> None:
    """Nothing draws what trains in a part towards zero, where zero is not what changes nothing."""
    for parameter in part.parameters():
        setattr(parameter, UNDECAYED, True)


def _decays(parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not getattr(parameter, UNDECAYED, False)


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear up over the first `warmup` share of steps, then linear down to zero."""
    rise = int(steps * warmup)
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))
