"""Where a model runs and with which arithmetic: torch device, backend, token budget and threads, chosen in one place.

In: what `--device` and a bundle say. Out: a Device.
"""

import logging
import time
from dataclasses import dataclass

import torch

from ray_app.engine.attention import choose as attention_kernel
from ray_app.engine.linear import DTYPES, Backend, has_int8
from ray_app.errors import check

CPU_TOKENS, CUDA_TOKENS = 2_048, 32_768  # per batch: small enough for a CPU's caches, large enough to fill a GPU
HEAD: Backend = "fp32"  # whatever an encoder computes in: a head's products are small, and thresholds judge them
BACKENDS = ("auto", "fp32", "bf16", "int8")
SLOWER = 1.5  # times as long as fp32 takes, from which bf16 is worth a warning
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """Where a model runs, with which arithmetic, and how many tokens at a time."""

    torch_device: torch.device
    backend: Backend
    token_budget: int

    @property
    def dtype(self) -> torch.dtype:
        """The type of activations."""
        return DTYPES[self.backend]

    @property
    def arithmetic(self) -> str:
        """What results depend on beyond a bundle, in words: the device, its products, its attention."""
        on_gpu = self.torch_device.type == "cuda"
        name = torch.cuda.get_device_name(self.torch_device) if on_gpu else "CPU"
        products = (
            "tf32" if on_gpu and self.backend == "fp32" and torch.backends.cuda.matmul.allow_tf32 else self.backend
        )
        attention = attention_kernel(self.torch_device, self.dtype).__name__
        return f"{name}, products in {products}, head in {HEAD}, attention {attention}, torch {torch.__version__}"


def choose_device(device: str = "auto", threads: int = 0, backend: str = "auto") -> Device:
    """`auto` takes a GPU where there is one, in bf16 where it has that, else the CPU in fp32.

    `threads` 0 leaves torch's own choice.

    Raises UserError naming the flag where the device or the backend is not available.
    """
    check(device in ("auto", "cpu", "cuda"), f"--device {device}: write auto, cpu or cuda")
    check(backend in BACKENDS, f"backend {backend!r}: write {', '.join(BACKENDS)}")
    cuda = torch.cuda.is_available()
    check(device != "cuda" or cuda, "--device cuda: torch sees no GPU on this machine; write --device cpu")
    on_gpu = cuda and device != "cpu"
    if threads:
        torch.set_num_threads(threads)
    if backend == "int8":
        check(not on_gpu, "backend int8 is for CPUs; on a GPU write bf16")
        check(has_int8(), "backend int8: this torch has no int8 product for this processor; write fp32")
    default: Backend = "bf16" if on_gpu and gpu_has_bf16() else "fp32"
    chosen: Backend = default if backend == "auto" else backend  # type: ignore[assignment]
    return Device(torch.device("cuda" if on_gpu else "cpu"), chosen, CUDA_TOKENS if on_gpu else CPU_TOKENS)


def gpu_has_bf16() -> bool:
    """Whether the GPU multiplies bf16 itself; what stands in for that on older ones is slower than fp32."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def trains_in_bf16(precision: str, device: Device) -> bool:
    """Whether `--precision` means bf16 on this device; warns where that is the slower of the two."""
    chosen = device.dtype == torch.bfloat16 if precision == "auto" else precision == "bf16"
    if chosen and device.torch_device.type == "cpu" and (factor := bf16_cost()) >= SLOWER:
        log.warning("--precision bf16: this processor multiplies bf16 %.1f times slower than fp32; write fp32", factor)
    return chosen


def bf16_cost(size: int = 256) -> float:
    """How long this processor takes for a product in bf16, in times of fp32: below 1 only with instructions for it."""

    def seconds(dtype: torch.dtype) -> float:
        one = torch.ones(size, size, dtype=dtype)
        times = []
        for _ in range(4):  # the first one also loads the kernel
            began = time.perf_counter()
            _ = one @ one
            times.append(time.perf_counter() - began)
        return min(times)

    return seconds(torch.bfloat16) / seconds(torch.float32)


def device_for_bundle(device: str = "auto", threads: int = 0, backend: str = "auto") -> Device:
    """The same for the backend that a bundle asks for, which is a matter of the device too: where int8 is not to be
    had, a GPU runs the bundle in bf16, and a CPU in fp32."""
    if backend != "int8":
        return choose_device(device, threads, backend)
    usual = choose_device(device, threads)
    if usual.torch_device.type == "cpu" and has_int8():
        return choose_device(device, threads, backend)
    log.info("the bundle asks for int8, which is not to be had on this %s: %s", usual.torch_device.type, usual.backend)
    return usual
