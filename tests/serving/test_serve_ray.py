"""The endpoint on a real Ray Serve: results as in process; no request fails while replicas die or bundles change."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

from ray_app import sample
from ray_app.inference.analyzer import Analyzer
from ray_app.serving import protocol, serve
from ray_app.serving.client import Client
from tests.support.bundles import make_bundle, sample_texts

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

TEXTS = sample_texts(40)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    """One for all: Serve's proxy keeps the first one it gets."""
    return free_port()


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("other") / "bundle"
    make_bundle(folder, kind="roberta", pooling="mean")
    return str(folder)


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


class Load:
    """Single-review requests from a few threads, without retries, until the block ends."""

    def __init__(self, url: str, threads: int = 2) -> None:
        self.url, self.stopped = url, threading.Event()
        self.answers: list[tuple[str, int, Any]] = []
        self.threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(threads)]

    def _ask(self, at: int) -> None:
        with requests.Session() as session:
            while not self.stopped.is_set():
                at = (at + 1) % len(TEXTS)
                answer = session.post(f"{self.url}/analyze", json={"reviews": [TEXTS[at]]}, timeout=60)
                self.answers.append((TEXTS[at], answer.status_code, answer.json() if answer.ok else answer.text))

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    @property
    def failed(self) -> list[tuple[str, int, Any]]:
        return [answer for answer in self.answers if answer[1] != 200]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def test_a_killed_replica_fails_no_request(endpoint: str) -> None:
    import ray

    replicas = [
        actor for actor in ray.util.list_named_actors(all_namespaces=True) if "keywords-scores" in actor["name"]
    ]
    with Load(endpoint) as load:
        wait_for(lambda: len(load.answers) > 20)
        ray.kill(ray.get_actor(replicas[0]["name"], namespace=replicas[0]["namespace"]), no_restart=True)
        before = len(load.answers)
        wait_for(lambda: len(load.answers) > before + 20)
    assert load.failed == []


def test_a_new_bundle_fails_no_request_and_every_answer_is_of_one_bundle(
    endpoint: str, bundle_folder: str, other_bundle: str, port: int
) -> None:
    client = Client(endpoint)
    old = client.version()["bundle"]
    with Load(endpoint) as load:
        wait_for(lambda: len(load.answers) > 20)
        serve.start(config(other_bundle, port))
        wait_for(lambda: client.version()["bundle"] != old)
        before = len(load.answers)
        wait_for(lambda: len(load.answers) > before + 20)
    assert load.failed == []
    known = [dict(zip(TEXTS, in_process(bundle, TEXTS), strict=True)) for bundle in (bundle_folder, other_bundle)]
    origin = [[answers[text] == answer["analyses"][0] for answers in known] for text, _, answer in load.answers]
    assert all(any(of) for of in origin)
    assert origin[0] == [True, False]
    assert origin[-1] == [False, True]


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


@pytest.fixture
def short_folder() -> Iterator[str]:
    """For temporary files: pytest's own names are too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="nunchi-") as folder:
        yield folder


def test_the_job_serves_until_it_is_told_to_stop_and_then_ends_cleanly(bundle_folder: str, short_folder: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "jobs.serve", "--bundle", bundle_folder, "--port", str(port), "--device", "cpu"]
    place = {**os.environ, "TMPDIR": short_folder}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=place) as job:
        client = Client(f"http://127.0.0.1:{port}")

        def ready() -> bool:
            assert job.poll() is None, job.stderr.read() if job.stderr else ""
            try:
                return bool(requests.get(f"{client.url}/ready", timeout=5).ok)
            except requests.RequestException:
                return False

        wait_for(ready, 180)
        assert job.stdout is not None
        shown = [job.stdout.readline() for _ in range(2)]  # communicate() would lose what readline() has buffered
        assert "Ctrl-C stops it" in shown[0]
        assert f"jobs.load --url {client.url} --bundle {bundle_folder}" in shown[1]
        assert client.request(TEXTS[:2])["rejected"] == []
        replicas = [path.name for path in Path(short_folder).glob("nunchi-serve-*/*")]
        assert replicas, "none listens at a socket of its own"
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda text: client.request([text]), TEXTS * 3)
            os.kill(int(replicas[0]), signal.SIGKILL)
            assert [answer["rejected"] for answer in found] == [[]] * len(TEXTS * 3), "the client asks again"
        job.send_signal(signal.SIGTERM)
        _, errors = job.communicate(timeout=240)
    assert job.returncode == 0, errors
    assert "Traceback" not in errors
    assert "requests under way finish" in errors
    assert not list(Path(short_folder).glob("nunchi-serve-*"))
