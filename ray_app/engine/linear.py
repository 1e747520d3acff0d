"""One linear layer of a frozen model, made for a device and a backend.

In: weight and bias. Out: a function on [tokens, inputs].

fp32   oneDNN weights packed once and GELU fused into the product where the CPU build has them, else torch. A row's
       result does not depend on the other rows, to the last bit
bf16   torch; for GPUs
int8   CPU: weights with a scale per output, activations with a scale per *token*, so that a token's result never
       depends on its neighbors in the batch (a scale per tensor changed a quarter of the highlights with the batch).
       CPUs without VNNI add two products in 16 bits, where large ones are cut: weights have 7 bits there
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Backend = Literal["fp32", "bf16", "int8"]
Linear = Callable[[Tensor], Tensor]
DTYPES: dict[Backend, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}
LEVELS = 127  # of a signed byte; activations are unsigned, 128 higher, as the CPU's instructions need them
SAFE_LEVELS = 63  # of weights, so that two products of 255 levels stay within 16 bits


def linear(weight: Tensor, bias: Tensor, backend: Backend, gelu: bool = False) -> Linear:
    """x [tokens, inputs] -> x W^T + b, then exact GELU with `gelu`. `weight`, `bias` lie on the device they run on."""
    if backend == "int8":
        return _int8(weight, bias, gelu)
    if backend == "fp32" and weight.device.type == "cpu" and has_onednn():
        return _packed(weight, bias, gelu)
    return (lambda x: F.gelu(F.linear(x, weight, bias))) if gelu else (lambda x: F.linear(x, weight, bias))


def has_onednn() -> bool:
    """Whether this torch was built with oneDNN's packed products."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def has_int8() -> bool:
    """Whether this torch has oneDNN's int8 product (x86 CPU builds do)."""
    return has_onednn() and hasattr(torch.ops.onednn, "qlinear_prepack")


def _packed(weight: Tensor, bias: Tensor, gelu: bool) -> Linear:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    after: tuple[str, list[Any], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def run(x: Tensor) -> Tensor:
        # A row's bits do not depend on the rows beside it, except that a single row takes another kernel: so never one.
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x.expand(2, -1) if len(x) == 1 else x, packed, bias, *after)
        return y[: len(x)]

    return run


@functools.cache
def weight_levels() -> int:
    """LEVELS where this processor's int8 product is exact at its extremes, else SAFE_LEVELS."""
    pairs = 32  # of inputs: one vector register, whatever its width
    weight = torch.full((16, 2 * pairs), LEVELS, dtype=torch.int8)
    levels = torch.full((2, 2 * pairs), 2 * LEVELS + 1, dtype=torch.uint8)
    packed, ones = torch.ops.onednn.qlinear_prepack(weight, None), torch.ones(16)
    exact = LEVELS * LEVELS * 2 * pairs
    return LEVELS if bool((_product(levels, packed, ones) == exact).all()) else SAFE_LEVELS


def _product(levels: Tensor, packed: Tensor, scale: Tensor) -> Tensor:
    """[tokens, inputs] unsigned levels, LEVELS + 1 for zero, times packed weights with a scale per output."""
    zero = torch.zeros(len(scale), dtype=torch.int32)
    product: Tensor = torch.ops.onednn.qlinear_pointwise(
        levels, 1.0, LEVELS + 1, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return product


def _int8(weight: Tensor, bias: Tensor, gelu: bool) -> Linear:
    most = weight_levels()
    scale = (weight.abs().amax(1) / most).clamp_min(1e-12).float().contiguous()
    whole = (weight / scale[:, None]).round().clamp(-most, most).to(torch.int8).contiguous()
    packed = torch.ops.onednn.qlinear_prepack(whole, None)

    def run(x: Tensor) -> Tensor:
        step = x.abs().amax(1, keepdim=True).clamp_(min=1e-12).div_(LEVELS)
        levels = (x / step).round_().add_(LEVELS + 1).to(torch.uint8)
        y = _product(levels, packed, scale).mul_(step).add_(bias)
        return F.gelu(y) if gelu else y

    return run
