"""What the jobs reserve on clusters with GPUs, without, and where GPUs come when they are asked for.

The cluster is numbers here: what Ray would say that it has.
"""

from typing import Any

import pytest

from ray_app import cluster
from ray_app.catalog import executors as catalog
from ray_app.catalog.options import Config as Analyze
from ray_app.errors import UserError
from ray_app.lm import executors as lm
from ray_app.serving import placement
from ray_app.serving.options import Config as Serve
from ray_app.training import workers as training
from ray_app.training.options import TrainingOptions

Ask = Any  # a function of `--device` and a number of workers or replicas -> (how many, GPUs of each)


def has(monkeypatch: pytest.MonkeyPatch, *, cpus: float, gpus: float, grows: bool) -> None:
    """A connection to a cluster with so much, which the environment names (it grows) or this process started."""
    monkeypatch.setattr(cluster, "cpus", lambda: cpus)
    monkeypatch.setattr(cluster, "gpus", lambda: gpus)
    monkeypatch.setattr(cluster, "joined", lambda: grows)
    monkeypatch.setattr(cluster, "connected", lambda: True)


def analyze(device: str, count: int, **options: Any) -> tuple[float, float]:
    shape = catalog._pool_shape(Analyze(output="o", device=device, workers=count, **options))
    return shape.workers, shape.gpus


def train(device: str, count: int) -> tuple[float, float]:
    return count, training.worker_resources(TrainingOptions(output="o", device=device, workers=count)).get("GPU", 0)


def evaluate_lm(device: str, count: int) -> tuple[float, float]:
    return count, lm.worker_resources(device, count, 0.0).get("num_gpus", 0)


def serve(device: str, count: int, deployments: int = 1, **options: Any) -> tuple[float, float]:
    config = Serve(device=device, replicas=count, **options)
    grows = cluster.joined()
    return count, placement.resources(config, deployments, fixed_size=not grows).get("num_gpus", 0)


JOBS = [analyze, train, evaluate_lm, serve]


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("cpus", [0, 4])
@pytest.mark.parametrize("count", [1, 3])
def test_where_no_gpu_is_yet_each_worker_asks_for_a_whole_one_and_no_more_than_the_flag_allows(
    job: Ask, cpus: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, cpus=cpus, gpus=0, grows=True)
    assert job("cuda", count) == (count, 1.0)
    assert job("auto", count)[1] == job("cpu", count)[1] == 0


@pytest.mark.parametrize("job", JOBS)
def test_where_none_will_come_one_line_says_so(job: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, cpus=8, gpus=0, grows=False)
    with pytest.raises(UserError, match="--device cuda: there is no GPU here; write --device cpu"):
        job("cuda", 1)
    assert job("auto", 1)[1] == 0


@pytest.mark.parametrize("job", [train, evaluate_lm])
def test_workers_that_would_wait_forever_for_a_gpu_are_refused(job: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, cpus=8, gpus=1, grows=False)
    assert job("auto", 1) == (1, 1.0)
    with pytest.raises(UserError, match="2 workers x 1 GPUs are more than the 1 there are; lower --workers"):
        job("auto", 2)
    has(monkeypatch, cpus=8, gpus=1, grows=True)
    assert job("auto", 2) == (2, 1.0)  # another node comes


def test_the_pools_of_one_worker_share_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_stage_groups", lambda config: [["keywords"], ["scores"], ["highlights"]])
    for gpus in (0, 2):
        has(monkeypatch, cpus=8, gpus=gpus, grows=True)
        workers, each = analyze("cuda", 2, placement="pools")
        assert 3 * workers * each == pytest.approx(2)
        count, share = serve("cuda", 2, deployments=3, placement="pools")
        assert 3 * count * share == pytest.approx(2)


@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_without_flags_a_gpu_gets_one_replica_and_with_them_four_at_most(
    gpus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, cpus=32, gpus=gpus, grows=False)
    assert placement.replicas(Serve(), fixed_size=True) == gpus
    for count in range(1, int(4 * gpus) + 1):
        _, share = serve("auto", count)
        assert share >= placement.LEAST_GPU
        assert count * share <= gpus + 1e-6
    with pytest.raises(UserError, match=r"replicas x 0\.25 GPUs are more than .*; lower --replicas"):
        serve("auto", int(4 * gpus) + 1)
    has(monkeypatch, cpus=32, gpus=gpus, grows=True)
    assert serve("auto", 64) == (64, 0.25)  # 16 GPUs are asked for, not squeezed onto those there are


def test_workers_of_a_catalog_run_may_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, cpus=16, gpus=2, grows=False)
    assert analyze("auto", 0, gpus_per_worker=0.5) == (4, 0.5)
    assert analyze("auto", 3, gpus_per_worker=0.1) == (3, 0.1)
    assert analyze("auto", 0, gpus_per_worker=1.0) == analyze("auto", 0) == (2, 1.0)
    assert analyze("cpu", 0, gpus_per_worker=0.5) == (4, 0.0)
    monkeypatch.setattr(catalog, "_stage_groups", lambda config: [["keywords"], ["scores"], ["highlights"]])
    assert analyze("auto", 0, placement="pools", gpus_per_worker=0.25) == (2, 0.25)
    has(monkeypatch, cpus=16, gpus=1, grows=False)
    with pytest.raises(UserError, match=r"3 pools x 0\.5 GPUs are more than the 1 there are; lower --gpus-per-worker"):
        analyze("auto", 0, placement="pools", gpus_per_worker=0.5)
    with pytest.raises(UserError, match="--gpus-per-worker"):
        analyze("auto", 0, gpus_per_worker=2)


def test_a_share_that_is_given_is_the_one_that_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, cpus=8, gpus=0, grows=True)
    assert serve("cuda", 3, gpus_per_replica=0.5) == (3, 0.5)
    has(monkeypatch, cpus=8, gpus=1, grows=False)
    with pytest.raises(UserError, match=r"3 replicas x 0\.5 GPUs are more than the 1 there are"):
        serve("auto", 3, gpus_per_replica=0.5)
