"""One local Ray cluster for all tests marked `ray`."""

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.support.paths import ROOT

# The first example of a process pays for imports: whether a property holds is no matter of milliseconds.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S"] = "60"
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """Four pretended CPUs; the workers find the tests' modules by the working directory of this process."""
    import ray

    from ray_app import cluster

    os.environ["PYTHONPATH"] = str(ROOT)
    cluster.start(num_cpus=4, object_store_memory=150_000_000)
    yield ray
    ray.shutdown()


@pytest.fixture(autouse=True)
def _collected(request: pytest.FixtureRequest) -> None:
    """pytest keeps what a test logged, exceptions too, and with them pipelines whose actors hold CPUs of the one
    cluster: what they leave is collected before the next test, which would wait for them."""
    if request.node.get_closest_marker("ray"):
        gc.collect()


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sealed bundle with random weights."""
    from tests.support.bundles import make_bundle

    folder = tmp_path_factory.mktemp("shared") / "bundle"
    make_bundle(folder)
    return str(folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of a real S3 protocol server in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty bucket that the environment's credentials reach."""
    import boto3

    settings = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3").create_bucket(Bucket="shop")
    bucket.objects.delete()
    return "s3://shop"
