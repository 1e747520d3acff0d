"""Where a model runs: device, arithmetic and threads are chosen, or refused."""

import pytest
import torch

from ray_app.engine import device as devices
from ray_app.engine.device import CPU_TOKENS, Device, choose_device, device_for_bundle
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


@pytest.mark.parametrize(
    ("gpu", "product", "backend"), [(True, True, "bf16"), (False, False, "fp32"), (False, True, "int8")]
)
def test_a_bundle_in_int8_runs_on_any_device(
    gpu: bool, product: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(devices, "has_int8", lambda: product)
    assert device_for_bundle("auto", backend="int8").backend == backend
