"""What a GPU's faults mean: too little memory is no fault of a review, and a lost device none of the next one's.

In: a method that runs a model on `self.device`. Out: its result, on as few tokens at a time as the memory has room for.
"""

import functools
import gc
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch

from ray_app.engine.device import Device
from ray_app.errors import DeviceError

P = ParamSpec("P")
R = TypeVar("R")
LEAST_TOKENS = 256  # of a batch; one review may have as many
# A context that has seen one of these answers every later call with it (docs.nvidia.com/cuda, cudaGetLastError).
OF_A_KERNEL = (  # by a bad GPU, or by what it was given: a token beyond the vocabulary, say
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
)
OF_THE_HARDWARE = (
    "uncorrectable ECC",
    "launch timed out",
    "device is lost",
    "GPU has fallen off the bus",
    "CUDA-capable device(s) is/are busy or unavailable",
)
STICKY = OF_A_KERNEL + OF_THE_HARDWARE
log = logging.getLogger(__name__)


class DeviceMemoryError(DeviceError):
    """There is not even room for one small batch: something else uses the memory."""


class DeviceLostError(DeviceError):
    """Nothing will run in this process any more; another one may be given a working device."""


class OnDevice(Protocol):
    """What runs on a device whose token budget may be lowered."""

    device: Device


S = TypeVar("S", bound=OnDevice)


def within_memory(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """The method, again with half the token budget (kept from then on) as often as memory runs out.

    Raises DeviceMemoryError where LEAST_TOKENS are too many, and DeviceLostError for an error that stays.
    """

    @functools.wraps(method)
    def run(self: S, /, *arguments: P.args, **options: P.kwargs) -> R:
        while True:
            try:
                return method(self, *arguments, **options)
            except torch.OutOfMemoryError as error:
                reason = str(error).partition("\n")[0][:200]
            except RuntimeError as error:
                if not is_sticky(error):
                    raise
                raise _lost(error) from None
            budget = self.device.token_budget // 2  # out of the handler: its frames hold the tensors
            if budget < LEAST_TOKENS:
                raise DeviceMemoryError(f"no room for {LEAST_TOKENS} tokens: {reason}")
            log.warning("the device's memory is full: batches of %d tokens from now on", budget)
            self.device = replace(self.device, token_budget=budget)
            gc.collect()
            torch.cuda.empty_cache()  # does nothing where there is no GPU

    return run


def _lost(error: BaseException) -> DeviceLostError:
    lost = DeviceLostError(f"the GPU is lost to this process: {str(error).splitlines()[0][:200]}")
    lost.suspect = any(words in str(error) for words in OF_A_KERNEL)
    return lost


def is_sticky(error: BaseException) -> bool:
    """Whether the process cannot use its GPU again after this error."""
    text = str(error)
    return "CUDA error" in text and any(words in text for words in STICKY)
