"""A GPU's faults, simulated: little memory makes batches smaller, and no fault of a device is a review's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_app.catalog.poison_rows import run_isolating_failures
from ray_app.engine.device_faults import DeviceLostError, DeviceMemoryError, is_sticky
from ray_app.engine.ragged import Sequences
from ray_app.inference.runtime import BundleRuntime
from ray_app.serving.survivors import survivors

STAYS = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"
PASSES = "CUDA error: invalid argument"


class Small:
    """A model on a device with room for `most` tokens, or with a fault of another kind."""

    def __init__(self, flat: Any, most: int, fault: Callable[[], Exception]) -> None:
        self.flat, self.most, self.fault = flat, most, fault
        self.sizes: list[int] = []

    def rows(self, tokens: int) -> int:
        return int(self.flat.rows(tokens))

    def __call__(self, batch: Sequences, vectors: bool) -> torch.Tensor:
        self.sizes.append(len(batch.ids))
        if len(batch.ids) > self.most:
            raise self.fault()
        result: torch.Tensor = self.flat(batch, vectors)
        return result


def full() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


@pytest.fixture
def runtime(bundle_folder: str) -> BundleRuntime:
    return BundleRuntime(bundle_folder, "cpu")


def sequences(count: int, length: int) -> Sequences:
    ids = np.random.default_rng(0).integers(5, 100, count * length)
    return Sequences(ids, np.arange(0, count * length + 1, length))


def test_where_memory_is_full_batches_are_halved_and_stay_so(runtime: BundleRuntime) -> None:
    rows = sequences(120, 40)
    expected = runtime.keywords(rows)
    classifier = runtime.keywords
    small = Small(classifier.flat, 600, full)
    classifier.flat = small  # type: ignore[assignment]
    assert np.allclose(classifier(rows), expected, atol=1e-5)
    assert classifier.device.token_budget == 512
    assert max(small.sizes) > 600
    tried = len(small.sizes)
    classifier(rows)
    assert max(small.sizes[tried:]) <= 600


def test_where_there_is_no_room_at_all_no_review_is_rejected_for_it(runtime: BundleRuntime) -> None:
    classifier = runtime.keywords
    classifier.flat = Small(classifier.flat, 10, full)  # type: ignore[assignment]
    with pytest.raises(DeviceMemoryError, match="no room for 256 tokens: CUDA out of memory"):
        classifier(sequences(30, 40))


@pytest.mark.parametrize("error", [DeviceMemoryError("full"), DeviceLostError("lost")])
@pytest.mark.parametrize("way", [run_isolating_failures, survivors])
def test_a_fault_of_the_device_is_no_rows(error: Exception, way: Callable[..., object]) -> None:
    tried: list[int] = []

    def run(table: pa.Table) -> pa.Table:
        tried.append(len(table))
        raise error

    with pytest.raises(type(error)):
        way(run, pa.table({"text": ["a", "b", "c", "d"]}))
    assert tried == [4]


def test_an_error_that_stays_is_told_from_one_that_passes(runtime: BundleRuntime) -> None:
    assert is_sticky(RuntimeError(STAYS))
    assert not any(
        map(is_sticky, (RuntimeError(PASSES), RuntimeError("illegal memory access"), ValueError(STAYS[12:])))
    )
    classifier = runtime.keywords
    flat = classifier.flat
    for text, kind in ((STAYS, DeviceLostError), (PASSES, RuntimeError)):
        classifier.flat = Small(flat, 10, lambda text=text: RuntimeError(text))  # type: ignore[assignment, misc]
        with pytest.raises(kind) as raised:
            classifier(sequences(30, 40))
        assert (type(raised.value) is DeviceLostError) == (kind is DeviceLostError)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("text", "suspect"), [(STAYS, True), ("CUDA error: uncorrectable ECC error", False)])
def test_whether_a_review_may_have_caused_it_is_told(text: str, suspect: bool, runtime: BundleRuntime) -> None:
    classifier = runtime.keywords
    classifier.flat = Small(classifier.flat, 10, lambda: RuntimeError(text))  # type: ignore[assignment]
    with pytest.raises(DeviceLostError) as raised:
        classifier(sequences(30, 40))
    assert raised.value.suspect == suspect


def test_a_worker_whose_gpu_is_lost_ends(tmp_path: Path) -> None:
    """In a process of its own, which exits with 1 and no traceback."""
    import subprocess
    import sys

    code = (
        "import pyarrow as pa\n"
        "from ray_app.catalog.executors import Actor\n"
        "from ray_app.catalog.pipeline import StageWorker\n"
        "from ray_app.engine.device_faults import DeviceLostError\n"
        "def lost(self, table): raise DeviceLostError('lost')\n"
        "StageWorker.__call__ = lost\n"
        "actor = Actor.__new__(Actor)\n"
        "actor.trying = []\n"
        "Actor.__call__(actor, pa.table({}))\n"
        "print('went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
