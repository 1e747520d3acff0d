"""What hostile and ordinary clients get: `python -m tests.experiments.hostile_clients NAME`.

    ports       every port that a local analyze, train and serve open, and what each answers a stranger
    attack      requests of 160 reviews of 20,000 characters, without pause, beside five small ones a second
    restart     the client, calling without pause while jobs.serve is stopped and started again, twice
    hosts       host names, odd paths, two tokens, compressed and malformed bodies: code and time of each
    sockets     300 half-open connections, and one that asks
    door        requests per second through the door and beside it, in turns
    fuzz        10,000 mutated requests over raw sockets: codes, and the memory of the server

`ports` and `restart` start the jobs themselves. The others start one replica and the door in a process of their own,
without Ray. Only ratios within one run count.
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import requests
import uvicorn

from ray_app.errors import UserError
from ray_app.serving import http_app
from ray_app.serving.client import Client
from ray_app.serving.deployments import InProcessService, Replica
from ray_app.serving.hosts import allowed_hosts
from ray_app.serving.process import open_door
from ray_app.serving.replica_engine import ReplicaOptions, stage_groups
from tests.support import stranger
from tests.support.bundles import make_bundle
from tests.support.paths import ROOT
from tests.support.ray_head import free_port

START_SECONDS = 40  # until every process of a job listens, on a busy machine


@contextmanager
def job(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A job in a process of its own, stopped at the end of the block."""
    log = Path(tempfile.gettempdir()) / "hostile-clients.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **environment}
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(90)


def ports(folder: Path) -> None:
    """A Markdown table: job, process, what it listens for, statuses and codes without a token."""
    make_bundle(folder / "bundle")
    bundle, out = ("--bundle", str(folder / "bundle")), str(folder / "out")
    jobs = {
        "analyze": ("jobs.analyze", *bundle, "--output", out, "--limit", "20000", "--unit-rows", "50"),
        "train": (
            "jobs.train",
            "--labels",
            "sample",
            "--base-model",
            "starter",
            "--workers",
            "1",
            "--output",
            str(folder / "trained"),
        ),
        "serve": ("jobs.serve", *bundle, "--port", str(free_port()), "--replicas", "1"),
    }
    print("| job | process | ports | POST to job APIs | GET / | gRPC |\n| --- | --- | --- | --- | --- | --- |")
    for name, command in jobs.items():
        with job(*command) as process:
            time.sleep(START_SECONDS)
            findings = stranger.ask(stranger.ports_of(process.pid), stranger.address())
        rows: dict[tuple[str, ...], int] = {}
        for found in findings:
            posts, codes = sorted(set(found["post"])), sorted(set(found["grpc"].values()))
            get = str(found["get"] or "-")
            key = (found["process"], " ".join(map(str, posts)) or "-", get, " ".join(codes) or "-")
            rows[key] = rows.get(key, 0) + 1
        for (owner, posts_, get, codes_), count in rows.items():
            print(f"| {name} | {owner} | {count} | {posts_} | {get} | {codes_} |", flush=True)


@contextmanager
def replica(bundle: str, inner: int = 0) -> Iterator[tuple[str, psutil.Process]]:
    """The URL of a replica behind the door, and its process; with `inner` it also listens there, without the door."""
    port, inner = free_port(), inner or free_port()
    ports = ("--port", str(port), "--inner", str(inner))
    with job("tests.experiments.hostile_clients", "replica", "--bundle", bundle, *ports) as process:
        url = f"http://127.0.0.1:{port}"
        while not _ok(f"{url}/ready"):
            assert process.poll() is None, "it ended"
            time.sleep(0.2)
        yield url, psutil.Process(process.pid)


def _ok(url: str) -> bool:
    try:
        return bool(requests.get(url, timeout=5).ok)
    except requests.RequestException:
        return False


def serve_replica(bundle: str, port: int, inner: int) -> None:
    """Serves until it is stopped: the endpoint's application over one replica, uvicorn, and the door."""
    front = open_door("127.0.0.1", port, allowed_hosts("127.0.0.1", (), token=False))
    front.upstream = ("127.0.0.1", inner)
    options = ReplicaOptions(stages=stage_groups("auto", fused=True)[0], last=True, device="cpu", threads=1)
    served = Replica(options, 60.0)

    async def run() -> None:
        await served.reconfigure({"bundle": bundle})
        app = http_app.build_app(InProcessService(served), http_app.Limits(hosts=front.hosts))
        server = uvicorn.Server(uvicorn.Config(app, port=front.upstream[1], log_level="error"))
        front.ready = True
        await server.serve()

    asyncio.run(run())


def attack(folder: Path, seconds: float = 60.0) -> None:
    """A Markdown table: small requests alone, then beside heavy ones."""
    heavy = json.dumps({"reviews": ["옷은 예쁘지만 배송은 늦어요 " * 1_250] * 160}).encode()
    small = json.dumps({"reviews": ["옷은 예쁘지만 배송은 늦어요"]}).encode()
    print("| requests | beside | answers | p50 ms | p99 ms | most s |\n| --- | --- | --- | --- | --- | --- |")
    with replica("ready") as (url, _):
        for attackers in (0, 4):
            tallies: dict[str, Tally] = {"small": Tally(), "heavy": Tally()}
            end = time.monotonic() + (seconds if attackers else seconds / 3)
            threads = [
                threading.Thread(target=_flood, args=(url, heavy, tallies["heavy"], end)) for _ in range(attackers)
            ]
            threads += [threading.Thread(target=_paced, args=(url, small, tallies["small"], end))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for name, tally in tallies.items():
                if tally.all:
                    print(f"| {name} | {attackers} attackers | {tally} |", flush=True)


class Tally:
    """Answers by status, and the seconds that each took."""

    def __init__(self) -> None:
        self.all: list[tuple[str, float]] = []

    def add(self, status: object, began: float) -> None:
        self.all.append((str(status), time.monotonic() - began))

    def __str__(self) -> str:
        seconds = sorted(each for _, each in self.all)
        p50, p99 = (1e3 * seconds[int(p * (len(seconds) - 1))] for p in (0.5, 0.99))
        counts = ", ".join(f"{status} x {count}" for status, count in Counter(s for s, _ in self.all).items())
        return f"{counts} | {p50:.0f} | {p99:.0f} | {seconds[-1]:.1f}"


def _post(url: str, body: bytes, tally: Tally) -> None:
    began = time.monotonic()
    try:
        headers = {"Content-Type": "application/json"}
        tally.add(requests.post(f"{url}/analyze", data=body, headers=headers, timeout=90).status_code, began)
    except requests.RequestException as error:
        tally.add(type(error).__name__, began)


def _flood(url: str, body: bytes, tally: Tally, end: float) -> None:
    while time.monotonic() < end:
        _post(url, body, tally)


def _paced(url: str, body: bytes, tally: Tally, end: float) -> None:
    threads = []
    while time.monotonic() < end:
        threads.append(threading.Thread(target=_post, args=(url, body, tally)))
        threads[-1].start()
        time.sleep(0.2)
    for thread in threads:
        thread.join()


def restart(folder: Path) -> None:
    """Calls through the client, and how many failed, over two restarts of jobs.serve."""
    make_bundle(folder / "bundle")
    port = free_port()
    command = (
        "jobs.serve",
        "--bundle",
        str(folder / "bundle"),
        "--port",
        str(port),
        "--replicas",
        "1",
        "--device",
        "cpu",
    )
    calls, failed, stopped = [0], [], threading.Event()

    def call() -> None:
        client = Client(f"http://127.0.0.1:{port}", patience=300)
        while not stopped.is_set():
            try:
                client.request(["옷은 예쁘지만 배송은 늦어요"])
            except UserError as error:
                failed.append(str(error))
            calls[0] += 1

    threads = [threading.Thread(target=call) for _ in range(4)]
    for number in range(3):
        with job(*command):
            while not _ok(f"http://127.0.0.1:{port}/ready"):
                time.sleep(0.2)
            if not number:
                for thread in threads:
                    thread.start()
            time.sleep(10)
            if number == 2:
                stopped.set()
                for thread in threads:
                    thread.join()
        print(f"start {number + 1}: {calls[0]} calls so far, {len(failed)} failed {failed[:1]}", flush=True)


def hosts(folder: Path) -> None:
    """A Markdown table of odd requests."""
    make_bundle(folder / "bundle")
    body = b'{"reviews":["a"]}'
    json_type = b"Content-Type: application/json\r\n"
    post = b"POST /analyze HTTP/1.1\r\nHost: localhost\r\n" + json_type
    deep = b"[" * 100_000
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://evil.example\r\n"
    cases = {
        "Host: evil.example": b"GET /ready HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "Host: 127.0.0.1.nip.io": b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1.nip.io\r\n\r\n",
        "Host: localhost": b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "websocket of http://evil.example": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n",
        "/-/routes": b"GET /-/routes HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "two Authorization headers": post + b"Authorization: a\r\nAuthorization: b\r\nContent-Length: 0\r\n\r\n",
        "gzip": post + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + gzip.compress(body)[:20],
        "9 MB": post + b"Content-Length: 9000000\r\n\r\n" + b"x" * 9_000_000,
        "nested 100,000 deep": post + b"Content-Length: 100000\r\n\r\n" + deep,
        "not UTF-8": post + b"Content-Length: 4\r\n\r\n\xff\xfe\x00\x01",
        "two lengths": post + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "length and chunks": post + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "head of 70 kB": post + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    }
    print("| request | code | seconds | memory MB |\n| --- | --- | --- | --- |")
    with replica(str(folder / "bundle")) as (url, process):
        for name, content in cases.items():
            began = time.monotonic()
            code = raw(url, content)
            print(
                f"| {name} | {code} | {time.monotonic() - began:.2f} | {process.memory_info().rss / 1e6:.0f} |",
                flush=True,
            )


def raw(url: str, content: bytes, seconds: float = 15.0) -> str:
    """The status of the answer to these bytes; or that there was none."""
    host, _, port = url.rpartition("/")[2].partition(":")
    try:
        with socket.create_connection((host, int(port)), seconds) as client:
            with contextlib.suppress(OSError):
                client.sendall(content)
            answer = client.recv(64)
            return answer.split()[1].decode() if answer[:4] == b"HTTP" else "closed"
    except OSError as error:
        return type(error).__name__


def sockets(folder: Path, count: int = 300) -> None:
    """Half-open connections by kind, the answer beside them, and when they are gone."""
    make_bundle(folder / "bundle")
    kinds = {
        "nothing sent": b"",
        "half a head": b"POST /analyze HTTP/1.1\r\nHost: local",
        "a body that does not come": b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{",
    }
    print("| half-open | the next answer | seconds | gone after s |\n| --- | --- | --- | --- |")
    with replica(str(folder / "bundle")) as (url, process):
        port = int(url.rpartition(":")[2])
        for name, content in kinds.items():
            clients = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(count)]
            for client in clients:
                client.sendall(content)
            opened = began = time.monotonic()
            status = raw(url, b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            took = time.monotonic() - began
            while _established(process, port) and time.monotonic() < opened + 60:
                time.sleep(0.2)
            print(f"| {count} x {name} | {status} | {took:.2f} | {time.monotonic() - opened:.0f} |", flush=True)
            for client in clients:
                client.close()


def _established(process: psutil.Process, port: int) -> int:
    return sum(c.status == "ESTABLISHED" and c.laddr.port == port for c in process.net_connections("tcp"))


def door(folder: Path, seconds: float = 8.0, rounds: int = 4) -> None:
    """A Markdown table of rounds: eight threads that ask for one review each, without pause."""
    make_bundle(folder / "bundle")
    inner = free_port()
    body = json.dumps({"reviews": ["옷은 예쁘지만 배송은 늦어요"]}).encode()
    print("| round | beside the door, requests/s | through it | ratio |\n| --- | --- | --- | --- |")
    with replica(str(folder / "bundle"), inner) as (url, _):
        for number in range(rounds):
            rates = [_rate(each, body, seconds) for each in (f"http://127.0.0.1:{inner}", url)]
            print(f"| {number + 1} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[1] / rates[0]:.3f} |", flush=True)


def _rate(url: str, body: bytes, seconds: float) -> float:
    end, counts = time.monotonic() + seconds, [0] * 8

    def ask(number: int) -> None:
        with requests.Session() as session:
            while time.monotonic() < end:
                headers = {"Content-Type": "application/json"}
                counts[number] += session.post(f"{url}/analyze", data=body, headers=headers, timeout=60).ok

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def fuzz(folder: Path, count: int = 10_000) -> None:
    """Mutated requests: statuses, and the server's memory on the way."""
    make_bundle(folder / "bundle")
    chance = random.Random(0)
    bodies = [
        {"reviews": ["옷은 예뻐요"]},
        {"reviews": [{"text": "a", "review_id": 1}], "options": {"top_k": 2}},
        {"text": "a b"},
    ]
    seen: Counter[str] = Counter()
    with replica(str(folder / "bundle")) as (url, process):
        for number in range(count):
            body = bytearray(json.dumps(chance.choice(bodies), ensure_ascii=chance.random() < 0.5).encode())
            _mutate(body, chance)
            path = chance.choice(["/analyze", "/analyze", "/explain"])
            head = bytearray(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            if chance.random() < 0.2:
                _mutate(head, chance)
            seen[raw(url, bytes(head + body), 0.5 if b"\r\n\r\n" not in head else 15.0)] += 1
            if number % (count // 10) == 0:
                print(f"{number}: {process.memory_info().rss / 1e6:.0f} MB, {dict(seen)}", flush=True)
        print(f"{count}: {process.memory_info().rss / 1e6:.0f} MB, {dict(seen)}", flush=True)


def _mutate(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(content))
        kind = chance.randrange(4)
        if kind == 0:
            content[at] = chance.randrange(256)
        elif kind == 1:
            del content[at : at + chance.randrange(1, 9)]
        elif kind == 2:
            content[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
        else:
            content[at:at] = content[at : at + chance.randrange(1, 40)]
        if not content:
            content += b"{"


EXPERIMENTS = {function.__name__: function for function in (ports, attack, restart, hosts, sockets, door, fuzz)}


def main() -> None:
    """Runs one experiment in a temporary folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=[*EXPERIMENTS, "replica"])
    parser.add_argument("--bundle", default="ready")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--inner", type=int, default=0)
    options = parser.parse_args()
    if options.name == "replica":
        serve_replica(options.bundle, options.port, options.inner)
        return
    with tempfile.TemporaryDirectory() as folder:
        EXPERIMENTS[options.name](Path(folder))


if __name__ == "__main__":
    main()
