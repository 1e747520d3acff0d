"""Weights in a quarter of their size: matrices as 8-bit integers with a scale per group of a row, expanded at load.

In: an encoder's state. Out: one safetensors file, and the state that it holds, in fp32. Arithmetic is not concerned:
what is loaded runs in any backend.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FILE = "int8.safetensors"
GROUP = 64  # weights that share a scale
SCALE = ":scale"  # after a matrix's name, that of its scales


def write(state: Mapping[str, Tensor], folder: Path, file: str = FILE) -> None:
    """Writes a file: matrices whose rows divide into groups as int8 [rows, columns] and fp16 scales [rows, groups], all
    else as it is."""
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().float()
        if value.dim() != 2 or value.shape[1] % GROUP:
            stored[name] = value.contiguous()
            continue
        groups = value.view(len(value), -1, GROUP)
        scale = (groups.abs().amax(2) / 127).clamp_min(2**-24).half()
        stored[name] = (groups / scale.float()[:, :, None]).round().clamp(-127, 127).to(torch.int8).view(value.shape)
        stored[name + SCALE] = scale
    save_file(stored, folder / file)


def read(folder: Path, file: str = FILE) -> dict[str, Tensor]:
    """The state in a file of `write`, in fp32."""
    stored = load_file(folder / file)
    state: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE):
            continue
        scale = stored.get(name + SCALE)
        if scale is None:
            state[name] = tensor
        else:
            groups = tensor.float().view(len(tensor), -1, GROUP) * scale.float()[:, :, None]
            state[name] = groups.view(tensor.shape)
    return state
