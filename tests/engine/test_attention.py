"""Attention without padding against its formula, one sequence at a time; which kernel is kept."""

import time
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ray_app.engine.attention import Attention, Kept, Layout, behind, choose, grouped, quicker
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


def slow(query: Tensor, key: Tensor, value: Tensor, where: Layout, single: bool, prefix: Kept | None = None) -> Tensor:
    time.sleep(0.03)
    return grouped(query, key, value, where, single)


def impossible(
    query: Tensor, key: Tensor, value: Tensor, where: Layout, single: bool, prefix: Kept | None = None
) -> Tensor:
    raise RuntimeError("no kernel image is available for execution on the device")


def absent(
    query: Tensor, key: Tensor, value: Tensor, where: Layout, single: bool, prefix: Kept | None = None
) -> Tensor:
    raise ImportError("cannot import name 'varlen_attn'")


def test_the_quicker_way_is_kept() -> None:
    lengths = [2, 3, 3]
    case = (*projected(8), layout(lengths))
    assert quicker((grouped, slow), *case, rounds=3) is grouped
    assert quicker((slow, grouped), *case, rounds=3) is grouped


def test_the_first_call_is_not_timed() -> None:
    """Kernels are compiled in it."""
    calls: list[int] = []

    def slow_at_first(
        query: Tensor, key: Tensor, value: Tensor, where: Layout, single: bool, prefix: Kept | None = None
    ) -> Tensor:
        calls.append(len(query))
        time.sleep(0.0 if calls[1:] else 0.3)
        return grouped(query, key, value, where, single)

    assert quicker((slow, slow_at_first), *projected(8), layout([2, 3, 3]), rounds=1) is slow_at_first
    assert calls == [8, 8]


@pytest.mark.parametrize("broken", [impossible, absent])
def test_a_way_that_this_device_cannot_run_is_out(broken: Attention) -> None:
    case = (*projected(8), layout([2, 3, 3]))
    assert quicker((slow, broken), *case, rounds=1) is slow
    assert quicker((broken, slow), *case, rounds=1) is slow
    assert quicker((broken,), *case, rounds=1) is broken


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cpus_run_grouped(dtype: torch.dtype) -> None:
    assert choose(CPU, dtype, HEADS, WIDTH) is grouped


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
