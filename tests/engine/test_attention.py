"""Attention without padding against its formula, one sequence at a time; which kernel a device runs."""

import inspect
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import varlen as torch_varlen

from ray_app.engine import attention
from ray_app.engine.attention import Layout, behind, choose, grouped
from ray_app.engine.ragged import offsets_of

CPU = torch.device("cpu")
HEADS, WIDTH = 2, 4
LENGTHS = st.one_of(
    st.lists(st.integers(1, 9), min_size=1, max_size=12).map(sorted), st.integers(1, 6).map(lambda n: [1] * n)
)


def layout(lengths: list[int]) -> Layout:
    return Layout(np.array(lengths, np.int64), CPU)


def projected(tokens: int, heads: int = HEADS, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    """query, key, value [tokens, heads, width], as views of one product the way an encoder layer makes them."""
    joined = torch.randn(tokens, 3 * heads * width, generator=torch.Generator().manual_seed(0))
    query, key, value = joined.view(tokens, 3, heads, width).unbind(1)
    return query, key, value


def one_by_one(query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Tensor:
    """Softmax attention by its formula, in double precision, a sequence at a time."""
    single, mixed = len(query) != len(key), []
    for i, (start, size) in enumerate(zip(offsets_of(np.array(lengths)).tolist(), lengths, strict=False)):
        k, v = (x[start : start + size].double() for x in (key, value))
        q = (query[i : i + 1] if single else query[start : start + size]).double()
        weights = torch.einsum("qhw,khw->hqk", q, k).div(WIDTH**0.5).softmax(2)
        mixed.append(torch.einsum("hqk,khw->qhw", weights, v))
    return torch.cat(mixed).float()


@settings(deadline=None)  # an operator's first call takes torch up to a second
@given(LENGTHS, st.booleans())
def test_grouped_equals_attention_one_sequence_at_a_time(lengths: list[int], single: bool) -> None:
    query, key, value = projected(sum(lengths))
    query = torch.randn(len(lengths), HEADS, WIDTH, generator=torch.Generator().manual_seed(1)) if single else query
    found = grouped(query, key, value, layout(lengths), single)
    assert found.shape == query.shape
    torch.testing.assert_close(found, one_by_one(query, key, value, lengths), atol=2e-6, rtol=1e-5)


def test_one_query_a_sequence_gives_the_row_that_it_has_among_full_queries() -> None:
    lengths = [1, 1, 2, 5, 5, 5, 8]
    query, key, value = projected(sum(lengths))
    here = layout(lengths)
    full, single = grouped(query, key, value, here, False), grouped(query[here.first], key, value, here, True)
    torch.testing.assert_close(single, full[here.first], atol=2e-6, rtol=1e-5)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("heads", "width"), [(2, 16), (12, 64)])
@pytest.mark.parametrize("single", [False, True])
def test_a_sequence_gets_the_same_bits_alone_and_beside_any_others(heads: int, width: int, single: bool) -> None:
    """Torch's own kernel for one query does not, with two threads."""
    lengths = np.sort(np.concatenate([np.arange(1, 40), np.full(30, 12), np.full(30, 33)]))
    query, key, value = projected(int(lengths.sum()), heads, width)
    here = Layout(lengths, CPU)
    query = query[here.first] if single else query
    together = grouped(query, key, value, here, single)
    for i, (start, size) in enumerate(zip(here.first.tolist(), lengths.tolist(), strict=True)):
        own = slice(start, start + size)
        rows = slice(i, i + 1) if single else own
        assert torch.equal(grouped(query[rows], key[own], value[own], layout([size]), single), together[rows])


@pytest.mark.parametrize("single", [False, True])
def test_rows_that_fill_up_a_shape_come_back_as_zeros_and_change_nothing(single: bool) -> None:
    """As many queries as keys in both cases: how many rows there are does not say which case it is."""
    lengths = [1, 1, 2, 3]
    query, key, value = projected(8)
    here = layout(lengths)
    found = grouped(query, key, value, here, single)
    used = 4 if single else 7
    assert torch.equal(found[:used], grouped(query[:used], key[:7], value[:7], here, single))
    assert not found[used:].any()


def test_a_sequence_sees_only_its_own_tokens() -> None:
    lengths = [3, 3, 4]
    query, key, value = projected(10)
    before = grouped(query, key, value, layout(lengths), False)
    key[3:6], value[3:6] = 100.0, 100.0
    after = grouped(query, key, value, layout(lengths), False)
    assert torch.equal(before[:3], after[:3])
    assert torch.equal(before[6:], after[6:])
    assert not torch.equal(before[3:6], after[3:6])


def test_a_layout_says_where_sequences_and_their_groups_lie() -> None:
    here = layout([1, 1, 4, 7, 7, 7])
    assert here.groups == [(0, 0, 2, 1), (2, 2, 1, 4), (3, 6, 3, 7)]
    assert here.first.tolist() == [0, 1, 2, 6, 13, 20]
    assert here.bounds.tolist() == [0, 1, 2, 6, 13, 20, 27]
    assert here.ones.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert here.bounds.dtype == here.ones.dtype == torch.int32


@given(LENGTHS)
def test_groups_are_runs_of_one_length_that_cover_every_token_once(lengths: list[int]) -> None:
    here = layout(lengths)
    assert [(n, size) for _, _, n, size in here.groups] == [(len(list(run)), n) for n, run in groupby(lengths)]
    covered = [at for _, token, n, size in here.groups for at in range(token, token + n * size)]
    assert covered == list(range(sum(lengths)))
    assert [first for first, *_ in here.groups] == [lengths.index(size) for *_, size in here.groups]
    assert here.first.tolist() == here.bounds[:-1].tolist() == [sum(lengths[:i]) for i in range(len(lengths))]


REAL = inspect.signature(torch_varlen.varlen_attn)


def kernel(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int
) -> Tensor:
    """Torch's, as 2.11 has it."""
    mixed = torch.zeros_like(query)
    queries, keys = (list(pairwise(bounds.tolist())) for bounds in (cu_seq_q, cu_seq_k))
    assert (max_q, max_k) == tuple(max(high - low for low, high in pairs) for pairs in (queries, keys))
    for q, k in zip(queries, keys, strict=True):
        own, seen = slice(*q), slice(*k)
        weights = torch.einsum("qhw,khw->hqk", query[own], key[seen]).div(query.shape[2] ** 0.5).softmax(2)
        mixed[own] = torch.einsum("hqk,khw->qhw", weights, value[seen])
    return mixed


def kernel_that_may_split(*given: Any, num_splits: int | None = None) -> Tensor:
    """As 2.13 has it."""
    REAL.bind(*given, num_splits=num_splits)
    return kernel(*given)


def kernel_that_cannot_be_told(*given: Any, num_splits: int | None = None) -> Tensor:
    """As 2.12 has it, where the installed kernel is another."""
    if num_splits is not None:
        raise RuntimeError("num_splits requires FA3")
    return kernel(*given)


def broken(*_: Any, num_splits: int | None = None) -> Tensor:
    raise RuntimeError("no kernel image is available for execution on the device")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[..., Tensor]], None]]:
    """Puts a kernel in the place of torch's, which runs on CUDA alone."""

    def put(one: Callable[..., Tensor]) -> None:
        monkeypatch.setattr(torch_varlen, "varlen_attn", one)

    for cached in (attention.splits, attention.choose):
        cached.cache_clear()
    yield put
    for cached in (attention.splits, attention.choose):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("one", "told"), [(kernel, {}), (kernel_that_may_split, {"num_splits": 1}), (kernel_that_cannot_be_told, {})]
)
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("kept", [0, 3])
def test_one_kernel_for_all_lengths_gives_what_one_call_per_length_gives(
    one: Callable[..., Tensor], told: dict[str, int], single: bool, kept: int, installed: Any
) -> None:
    installed(one)
    assert attention.splits(CPU, WIDTH) == told
    lengths = [1, 1, 2, 5, 5, 8]
    query, key, value = projected(sum(lengths))
    here = Layout(np.array(lengths, np.int64), CPU, kept)
    query = query[here.first] if single else query
    prefix = (torch.randn(kept, HEADS, WIDTH), torch.randn(kept, HEADS, WIDTH)) if kept else None
    both = [way(query, key, value, here, single, prefix) for way in (attention.varlen, grouped)]
    torch.testing.assert_close(*both, atol=2e-6, rtol=1e-5)


def test_a_gpu_that_has_no_such_kernel_is_told_of_and_runs_grouped(
    installed: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu, on_cpu = torch.device("cuda"), torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device, dtype: on_cpu(*size))
    monkeypatch.setattr(torch, "tensor", lambda numbers, dtype, device: torch.IntTensor(numbers))
    installed(broken)
    assert choose(gpu, torch.bfloat16) is grouped
    assert "attention runs once per length, which is slower" in caplog.text
    assert "no kernel image is available" in caplog.text
    choose.cache_clear()
    installed(kernel_that_may_split)
    assert choose(gpu, torch.bfloat16) is attention.varlen
    assert choose(gpu, torch.float32) is grouped


def test_heads_of_a_width_that_the_kernel_does_not_know_run_grouped(
    installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_eights(query: Tensor, *given: Any, num_splits: int | None = None) -> Tensor:
        if query.shape[2] % 8:
            raise RuntimeError("head_size must be a multiple of 8")
        return kernel(query, *given)

    gpu, on_cpu = torch.device("cuda"), torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device, dtype: on_cpu(*size))
    monkeypatch.setattr(torch, "tensor", lambda numbers, dtype, device: torch.IntTensor(numbers))
    installed(in_eights)
    assert choose(gpu, torch.bfloat16, 26) is grouped
    assert choose(gpu, torch.bfloat16, 32) is attention.varlen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cpus_run_grouped(dtype: torch.dtype) -> None:
    assert choose(CPU, dtype) is grouped


@settings(deadline=None)
@given(LENGTHS, st.booleans(), st.integers(1, 4))
def test_every_query_sees_a_prefix_before_its_own_sequence(lengths: list[int], single: bool, kept: int) -> None:
    query, key, value = projected(sum(lengths))
    query = torch.randn(len(lengths), HEADS, WIDTH, generator=torch.Generator().manual_seed(1)) if single else query
    prefix = (torch.randn(kept, HEADS, WIDTH), torch.randn(kept, HEADS, WIDTH))
    here = Layout(np.array(lengths, np.int64), CPU, kept)
    found = grouped(query, key, value, here, single, prefix)
    longer, expected = [behind(part, own, here) for part, own in zip(prefix, (key, value), strict=True)], []
    for i, (low, high) in enumerate(zip(here.key_bounds.tolist(), here.key_bounds.tolist()[1:], strict=False)):
        assert torch.equal(longer[0][low : low + kept], prefix[0])
        own = slice(i, i + 1) if single else slice(low - i * kept, high - (i + 1) * kept)
        weights = torch.einsum("qhw,khw->hqk", query[own], longer[0][low:high]).div(WIDTH**0.5).softmax(2)
        expected.append(torch.einsum("hqk,khw->qhw", weights, longer[1][low:high]))
    assert here.key_bounds.dtype == torch.int32
    torch.testing.assert_close(found, torch.cat(expected), atol=2e-6, rtol=1e-5)
