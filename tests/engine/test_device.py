"""Where a model runs: device, arithmetic and threads are chosen, or refused."""

import pytest
import torch

from ray_app.engine import device as devices
from ray_app.engine.device import (
    CPU_TOKENS,
    Device,
    bf16_cost,
    choose_device,
    device_for_bundle,
    trains_in_bf16,
)
from ray_app.errors import UserError


def test_the_cpu_is_placed_in_fp32_with_the_threads_asked_for() -> None:
    before = torch.get_num_threads()
    try:
        device = choose_device("cpu", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert device == Device(torch.device("cpu"), "fp32", CPU_TOKENS)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UserError, match="--device tpu: write auto, cpu or cuda"):
        choose_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="--device cpu"):
        choose_device("cuda")
    assert choose_device("auto").torch_device.type == "cpu"


def test_training_in_bf16_where_that_is_slower_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cpu, gpu = choose_device("cpu"), Device(torch.device("cuda"), "bf16", 1)
    assert bf16_cost(16) > 0
    monkeypatch.setattr(devices, "bf16_cost", lambda: 9.5)
    assert not trains_in_bf16("auto", cpu)
    assert trains_in_bf16("auto", gpu)
    assert not caplog.records
    assert trains_in_bf16("bf16", cpu)
    assert "9.5 times slower than fp32; write fp32" in caplog.text


@pytest.mark.parametrize(
    ("gpu", "product", "backend"), [(True, True, "bf16"), (False, False, "fp32"), (False, True, "int8")]
)
def test_a_bundle_in_int8_runs_on_any_device(
    gpu: bool, product: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(devices, "has_int8", lambda: product)
    monkeypatch.setattr(devices, "gpu_has_bf16", lambda: True)
    assert device_for_bundle("auto", backend="int8").backend == backend


def test_a_gpu_without_bf16_runs_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has in (True, False):
        monkeypatch.setattr(devices, "gpu_has_bf16", lambda has=has: has)
        assert choose_device("cuda").backend == ("bf16" if has else "fp32")


def test_what_results_depend_on_is_said() -> None:
    assert choose_device("cpu").arithmetic == (
        f"CPU, products in fp32, head in fp32, attention grouped, torch {torch.__version__}"
    )
