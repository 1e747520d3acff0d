"""The endpoint on a real Ray Serve: results as in process; no request fails while replicas die.

That none fails while bundles and options change is a test of deploy/serve.yaml, in tests/deploy/test_rollout_ray.py.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import requests

from ray_app import sample
from ray_app.inference.analyzer import Analyzer
from ray_app.serving import protocol, serve
from ray_app.serving.client import Client
from tests.support.ray_head import free_port
from tests.support.steady_load import TEXTS, Load
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def port() -> int:
    """One for all: Serve's proxy keeps the first one it gets."""
    return free_port()


def config(bundle: str, port: int, **changes: Any) -> serve.Config:
    settings: dict[str, Any] = {"bundle": bundle, "port": port, "device": "cpu", "cpus_per_replica": 1.0}
    settings |= {"placement": "fused", "replicas": 1}
    return serve.Config(**{**settings, **changes})


@pytest.fixture(scope="module")
def endpoint(bundle_folder: str, port: int) -> Iterator[str]:
    yield serve.start(config(bundle_folder, port))
    serve.stop()


def in_process(bundle: str, texts: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = protocol.round_floats(Analyzer(bundle, threads=1)(texts))
    return [{"review_id": None, **row} for row in rows]


def test_five_hundred_reviews_asked_for_one_at_a_time_are_analyzed_as_in_process(
    endpoint: str, bundle_folder: str
) -> None:
    files = sorted(sample.CATALOG.glob("*.parquet"))
    texts = [text for file in files for text in pq.read_table(file)["text"].to_pylist()]
    texts = [text for text in texts if isinstance(text, str) and text.strip()][:500]
    client = Client(endpoint)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda text: client.request([text]), texts))
    assert len(answers) == 500
    assert [answer["rejected"] for answer in answers] == [[]] * 500
    assert [answer["analyses"][0] for answer in answers] == in_process(bundle_folder, texts)
    metrics = requests.get(f"{endpoint}/metrics", timeout=60).text
    largest = max(
        float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("nunchi_batch_reviews_sum")
    )
    assert largest > 500, "requests were not batched"


def test_a_killed_replica_fails_no_request(endpoint: str) -> None:
    import ray

    replicas = [
        actor for actor in ray.util.list_named_actors(all_namespaces=True) if "keywords-scores" in actor["name"]
    ]
    with Load(endpoint) as load:
        load.more()
        ray.kill(ray.get_actor(replicas[0]["name"], namespace=replicas[0]["namespace"]), no_restart=True)
        load.more()
    assert load.failed == []


def test_a_deployment_per_stage_answers_as_in_process(endpoint: str, bundle_folder: str, port: int) -> None:
    assert endpoint  # `pools` takes its place
    url = serve.start(config(bundle_folder, port, placement="pools"))
    found = Client(url).request(TEXTS)
    assert found == {"analyses": in_process(bundle_folder, TEXTS), "rejected": []}
    assert Client(url).explain(TEXTS[0]) == Analyzer(bundle_folder, threads=1).explain(TEXTS[0])


def test_replicas_that_answer_http_themselves_count_together_and_outlive_one_another(
    endpoint: str, bundle_folder: str, port: int
) -> None:
    import ray

    assert endpoint  # `whole` takes its place
    url = serve.start(config(bundle_folder, port, placement="whole", replicas=2))
    client, expected = Client(url), in_process(bundle_folder, TEXTS)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: client.request([text]), TEXTS))
    assert [answer["analyses"][0] for answer in answers] == expected
    counted = {
        requests.get(f"{url}/metrics", timeout=60).text.split('nunchi_reviews_total{result="analysed"} ')[1][:4]
        for _ in range(8)
    }
    assert counted == {f"{len(TEXTS):.1f}"}
    replicas = [a for a in ray.util.list_named_actors(all_namespaces=True) if "whole" in a["name"]]
    assert len(replicas) == 2
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda text: client.request([text]), TEXTS * 3)
        ray.kill(ray.get_actor(replicas[0]["name"], namespace=replicas[0]["namespace"]), no_restart=True)
        assert [answer["analyses"][0] for answer in found] == expected * 3, "the client's own retries are enough"


def as_first_process() -> list[str]:
    """What makes a command the first process of its own tree, as in a container; nothing where that is not allowed."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    try:
        return unshare if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0 else []
    except FileNotFoundError:
        return []


@pytest.fixture
def short_folder() -> Iterator[str]:
    """For temporary files: pytest's own names are too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="nunchi-") as folder:
        yield folder


def kill_a_replica(job: psutil.Process) -> None:
    """Of the job's."""
    next(each for each in job.children(recursive=True) if "ServeReplica" in " ".join(each.cmdline())).kill()


def test_the_job_serves_as_in_a_container_until_it_is_told_to_stop_under_load(
    bundle_folder: str, short_folder: str
) -> None:
    port, wrapped = free_port(), as_first_process()
    command = [sys.executable, "-m", "jobs.serve", "--bundle", bundle_folder, "--port", str(port), "--device", "cpu"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*wrapped, *command], env={**os.environ, "TMPDIR": short_folder}, **pipes) as started:
        client = Client(f"http://127.0.0.1:{port}")

        def ready() -> bool:
            assert started.poll() is None, started.stderr.read() if started.stderr else ""
            try:
                return bool(requests.get(f"{client.url}/ready", timeout=5).ok)
            except requests.RequestException:
                return False

        wait_for(ready)
        assert started.stdout is not None
        shown = [started.stdout.readline() for _ in range(2)]  # communicate() would lose what readline() has buffered
        assert "Ctrl-C stops it" in shown[0]
        assert f"jobs.load --url {client.url} --bundle {bundle_folder}" in shown[1]
        job = psutil.Process(started.pid)
        job = job.children()[0] if wrapped else job
        assert list(Path(short_folder).glob("nunchi-serve-*/*")), "none listens at a socket of its own"
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda text: client.request([text]), TEXTS * 3)
            kill_a_replica(job)
            assert [answer["rejected"] for answer in found] == [[]] * len(TEXTS * 3), "the client asks again"
        with Load(client.url, pause=0.05) as load:
            load.more()
            states = {process.status() for process in job.children(recursive=True)}
            assert psutil.STATUS_ZOMBIE not in states
            job.send_signal(signal.SIGTERM)
            _, errors = started.communicate(timeout=240)
    assert started.returncode == 0, errors
    assert errors == "stopping: requests under way finish\n", "nothing of Ray's"
    ended = [answer.status for answer in load.answers if answer.status != 0]  # 0: nobody listens any more
    assert set(ended) <= {200, 503}
    assert not job.is_running()
    assert not list(Path(short_folder).glob("nunchi-serve-*"))
