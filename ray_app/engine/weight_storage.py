"""Weights in a quarter or an eighth of their size: matrices as 8-bit or 4-bit integers with a scale per group of a row,
expanded at load.

In: an encoder's state. Out: one safetensors file, and the state that it holds, in fp32. Arithmetic is not concerned:
what is loaded runs in any backend.

8 bits: int8 [rows, columns], a scale per 64 weights. 4 bits: two weights a byte [rows, columns / 2], of which the low
half is one of the row's first half and the high half one of its second, and a scale per 32 weights. Scales are searched
for the least squared error: with few steps it often pays to cut off the largest weight.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FILES = {"int8": "int8.safetensors", "int4": "int4.safetensors"}  # by what a bundle's `weights` says
GROUP = {"int8": 64, "int4": 32}  # weights that share a scale
SCALE = ":scale"  # after a matrix's name, that of its scales
STEPS = {"int8": 128, "int4": 8}  # on either side of zero, the positive side has one less
ROWS = 4096  # of a matrix at a time
SMALLEST = 2.0**-24  # that fp16 can hold
SEARCHED = torch.linspace(0.6, 1.0, 17).tolist()  # multiples of the scale at which the largest weight has the last step


def stored_as(folder: Path) -> str:
    """How the weights in a model's folder lie: int8, int4 or fp32."""
    return next((kind for kind, file in FILES.items() if (folder / file).exists()), "fp32")


def write(state: Mapping[str, Tensor], folder: Path, file: str = FILES["int8"], kind: str = "int8") -> None:
    """Writes a file: matrices whose rows divide into groups as integers with fp16 scales [rows, groups], all else as it
    is."""
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().float().contiguous()
        if value.dim() != 2 or value.shape[1] % GROUP[kind]:
            stored[name] = value
        else:
            stored[name], stored[name + SCALE] = _in_steps(value, kind)
    save_file(stored, folder / file)


def read(folder: Path, file: str = FILES["int8"]) -> dict[str, Tensor]:
    """The state in a file of `write`, in fp32. Raises OSError or SafetensorError where it is not whole."""
    stored = load_file(folder / file)
    state: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE):
            continue
        scale = stored.get(name + SCALE)
        state[name] = tensor if scale is None else _expanded(tensor, scale)
    return state


def _in_steps(value: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """A matrix as integers and fp16 scales [rows, groups]; a part of its rows at a time, to save memory."""
    parts = [_searched(rows.view(len(rows), -1, GROUP[kind]), STEPS[kind]) for rows in torch.split(value, ROWS)]
    steps, scales = (torch.cat(part) for part in zip(*parts, strict=True))
    if kind == "int4":
        low, high = steps.chunk(2, dim=1)
        steps = (low & 15) | (high << 4)
    return steps, scales.half()


def _searched(groups: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """[rows, groups, weights] as int8 steps [rows, columns] from -most to most - 1, and scales [rows, groups] of the
    least squared error. A scale may be negative: the largest weight then has the step -most."""
    largest = groups.gather(2, groups.abs().argmax(2, keepdim=True)).squeeze(2)
    best, least = torch.zeros_like(largest), torch.full_like(largest, torch.inf)
    for share in (*SEARCHED, most / (most - 1)):  # the last one is the scale at which it has the step before
        scale = _as_stored(largest * (-share / most))
        error = _steps(groups, scale, most).mul_(scale[:, :, None]).sub_(groups).square_().sum(2)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return _steps(groups, best, most).to(torch.int8).flatten(1), best


def _steps(groups: Tensor, scale: Tensor, most: int) -> Tensor:
    return (groups / scale[:, :, None]).round_().clamp_(-most, most - 1)


def _as_stored(scale: Tensor) -> Tensor:
    """What fp16 makes of it, never zero."""
    return torch.where(scale.abs() < SMALLEST, SMALLEST, scale).half().float()


def _expanded(tensor: Tensor, scale: Tensor) -> Tensor:
    """[rows, columns] in fp32; bytes that hold two weights are told by having too few columns for their scales."""
    rows, groups = scale.shape
    if tensor.shape[1] == groups * GROUP["int8"]:
        value = tensor.float()
    else:
        value = torch.empty(rows, 2 * tensor.shape[1])
        low, high = value.chunk(2, dim=1)
        low.copy_(tensor << 4)  # sixteen times the step, as the high half is: the sign is where int8 has it
        high.copy_(tensor & -16)
    share = 1.0 if tensor.shape[1] == value.shape[1] else 1 / 16
    value.view(rows, groups, -1).mul_((scale.float() * share)[:, :, None])
    return value
