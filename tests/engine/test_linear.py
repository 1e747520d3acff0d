"""Linear layers of each backend against torch, and the same bits whatever rows are beside one."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ray_app.engine.linear import DTYPES, LEVELS, Backend, has_int8, has_onednn, linear, weight_levels

# inputs, outputs; odd ones for the ends of vector registers, the last for oneDNN's other kernel for a row alone
SHAPES = [(32, 96), (33, 17), (256, 128), (3_072, 768)]
needs_int8 = pytest.mark.skipif(not has_int8(), reason="this torch has no int8 product")
needs_onednn = pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN")
BITWISE = [pytest.param("fp32", marks=needs_onednn), pytest.param("int8", marks=needs_int8)]


def layer(inputs: int, outputs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
    return weight, torch.randn(outputs, generator=generator)


def rows(count: int, inputs: int, seed: int = 1) -> Tensor:
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(seed))


def by_torch(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    y = F.linear(x, weight, bias)
    return F.gelu(y) if gelu else y


def worst_row(found: Tensor, expected: Tensor) -> float:
    """The largest relative error of a row's norm."""
    return float(((found.float() - expected).norm(dim=1) / expected.norm(dim=1)).max())


def test_every_backend_has_a_dtype() -> None:
    assert set(DTYPES) == set(get_args(Backend))


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_fp32_equals_torch_with_and_without_exact_gelu(inputs: int, outputs: int, gelu: bool) -> None:
    weight, bias = layer(inputs, outputs)
    x = rows(50, inputs)
    found = linear(weight, bias, "fp32", gelu)(x)
    torch.testing.assert_close(found, by_torch(x, weight, bias, gelu), atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("gelu", [False, True])
def test_bf16_runs_on_cpus_too_and_is_within_one_percent(gelu: bool) -> None:
    weight, bias = layer(256, 128)
    x = rows(50, 256)
    found = linear(weight.bfloat16(), bias.bfloat16(), "bf16", gelu)(x.bfloat16())
    assert found.dtype == DTYPES["bf16"]
    assert worst_row(found, by_torch(x, weight, bias, gelu)) < 0.01


@needs_int8
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_int8_is_within_a_few_percent_of_a_rows_norm_at_any_size_of_its_values(
    inputs: int, outputs: int, gelu: bool
) -> None:
    weight, bias = layer(inputs, outputs)
    weight[0] *= 100  # scales are per output: a large one must not cost the others their precision
    x = rows(50, inputs)
    limit = 0.02 if weight_levels() == LEVELS else 0.03
    for size in (1e-3, 1.0, 1e3):
        found = linear(weight, bias * size, "int8", gelu)(x * size)
        expected = by_torch(x * size, weight, bias * size, gelu)
        assert found.dtype == torch.float32
        assert worst_row(found[:, 1:], expected[:, 1:]) < limit
        assert worst_row(found[:, :1].T, expected[:, :1].T) < limit


@needs_int8
def test_int8_cuts_no_large_products() -> None:
    """Sixteen bits hold one product of extremes, not two: what processors without VNNI would add there."""
    weight, bias = torch.ones(16, 64), torch.zeros(16)
    found = linear(weight, bias, "int8")(torch.ones(3, 64))
    torch.testing.assert_close(found, torch.full((3, 16), 64.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("backend", BITWISE)
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_a_row_gets_the_same_bits_alone_and_beside_any_others(
    inputs: int, outputs: int, gelu: bool, backend: Backend
) -> None:
    run = linear(*layer(inputs, outputs), backend, gelu)
    x = rows(40, inputs)
    alone = torch.cat([run(x[i : i + 1]) for i in range(len(x))])
    assert torch.equal(run(x), alone)
    loud = x.clone()
    loud[7] *= 1_000
    others = np.array([i for i in range(len(x)) if i != 7])
    assert torch.equal(run(loud)[others], alone[others])
    assert not torch.equal(run(loud)[7], alone[7])


@pytest.mark.parametrize("backend", BITWISE)
@settings(deadline=None)  # an operator's first call takes torch up to a second
@given(
    places=st.lists(st.integers(0, 11), min_size=1, max_size=30),
    powers=st.lists(st.integers(-4, 4), min_size=12, max_size=12),
)
def test_a_row_does_not_depend_on_count_order_and_size_of_its_neighbors(
    backend: Backend, places: list[int], powers: list[int]
) -> None:
    run = linear(*layer(32, 48), backend)
    x = rows(12, 32) * 10.0 ** torch.tensor(powers)[:, None]
    alone = torch.cat([run(x[i : i + 1]) for i in range(len(x))])
    assert torch.equal(run(x[places]), alone[places])


@needs_int8
def test_int8_gives_rows_and_outputs_of_zeros_the_bias() -> None:
    weight, bias = layer(32, 48)
    weight[3] = 0
    run = linear(weight, bias, "int8")
    assert torch.equal(run(torch.zeros(2, 32)), bias.expand(2, -1))
    assert torch.equal(run(rows(5, 32))[:, 3], bias[3].expand(5))


@pytest.mark.parametrize("backend", ["fp32", pytest.param("int8", marks=needs_int8)])
def test_inputs_weights_and_bias_are_left_as_they_were(backend: Backend) -> None:
    weight, bias = layer(32, 48)
    x = rows(5, 32)
    kept = [tensor.clone() for tensor in (weight, bias, x)]
    run = linear(weight, bias, backend, gelu=True)
    assert torch.equal(run(x), run(x))
    assert all(torch.equal(one, other) for one, other in zip((weight, bias, x), kept, strict=True))
