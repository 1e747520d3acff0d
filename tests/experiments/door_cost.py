"""What the door and the guard cost, and the endpoint overloaded: `python -m tests.experiments.door_cost NAME`.

    cpu         CPU time per request of a server that answers at once: its routes; guarded, ordinary requests being read
                before the routes; and that behind the door
    overload    three times the requests that saturate it, without pause, and as many at the same time for the tree in
                --before (a worktree of a commit before `serving/door`: `git worktree add PATH COMMIT`): what each
                answers, and the CPU time of each per 200

No Ray. Only ratios within one run count; both trees run at once, so that whatever slows the machine slows both.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import aiohttp
import psutil
import requests
import uvicorn
from starlette.types import ASGIApp

from ray_app.benchmark.load import Config, _asker, _saturate, open_loop
from ray_app.serving import http_app
from ray_app.serving.guard import Guard
from ray_app.serving.hosts import allowed_hosts
from ray_app.serving.plain_requests import PlainRequests
from ray_app.serving.process import open_door
from tests.serving.test_http_app import FakeService
from tests.support.bundles import sample_texts
from tests.support.paths import ROOT
from tests.support.ray_head import free_port

ENDPOINT = """
import asyncio, sys
import uvicorn
from ray_app.serving import http_app
from ray_app.serving.deployments import InProcessService, Replica
from ray_app.serving.replica_engine import ReplicaOptions, stage_groups
port = int(sys.argv[1])
options = ReplicaOptions(stages=stage_groups("auto", True)[0], last=True, device="cpu", threads=1)
served, front, limits = Replica(options, 60.0), None, http_app.Limits()
try:
    from ray_app.serving.hosts import allowed_hosts
    from ray_app.serving.process import open_door
    front = open_door("127.0.0.1", port, allowed_hosts("127.0.0.1", (), token=False))
    port, limits = front.upstream[1], http_app.Limits(hosts=front.hosts)
except ImportError:
    print("no door in this tree", flush=True)
async def run():
    await served.reconfigure({"bundle": "ready"})
    app = http_app.build_app(InProcessService(served), limits)
    if front:
        front.ready = True
    await uvicorn.Server(uvicorn.Config(app, port=port, log_level="error")).serve()
asyncio.run(run())
"""


@contextmanager
def endpoint(tree: str) -> Iterator[tuple[str, psutil.Process]]:
    """URL and process of a replica of this tree's code and shipped bundle, when it is ready."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": tree, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", ENDPOINT, str(port)], cwd=tree, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while not _ok(f"{url}/ready"):
            assert process.poll() is None, "it ended"
            time.sleep(0.2)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _ok(url: str) -> bool:
    try:
        return bool(requests.get(url, timeout=5).ok)
    except requests.RequestException:
        return False


def overload(before: str, seconds: float, rounds: int) -> None:
    """A Markdown table of rounds, and the ratios over all of them."""
    texts = sample_texts(200)
    with ExitStack() as stack:
        trees = {"before": before, "now": str(ROOT)}
        asyncio.run(_overload({k: stack.enter_context(endpoint(v)) for k, v in trees.items()}, texts, seconds, rounds))


async def _overload(
    endpoints: dict[str, tuple[str, psutil.Process]], texts: list[str], seconds: float, rounds: int
) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        asks = {name: _asker(session, Config(url=url)) for name, (url, _) in endpoints.items()}
        warm = [_saturate(ask, texts, 32, seconds / 2) for ask in asks.values()]
        rate = 3 * max(each["reviews_per_s"] for each in await asyncio.gather(*warm))
        print("| round | tree | asked/s | answers | p50 ms | p99 ms | CPU ms per 200 |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        answered: dict[str, int] = defaultdict(int)
        taken: dict[str, float] = defaultdict(float)
        for number in range(rounds):
            began = {name: _cpu(process) for name, (_, process) in endpoints.items()}
            loops = await asyncio.gather(*(open_loop(ask, texts, rate, seconds, number) for ask in asks.values()))
            for name, seen in zip(asks, loops, strict=True):
                count, used = seen["statuses"].get("200", 0), _cpu(endpoints[name][1]) - began[name]
                answered[name], taken[name] = answered[name] + count, taken[name] + used
                shown = ", ".join(f"{code} x {some}" for code, some in sorted(seen["statuses"].items()))
                times = f"{seen.get('p50_ms', 0):.0f} | {seen.get('p99_ms', 0):.0f} | {1e3 * used / max(1, count):.0f}"
                print(f"| {number + 1} | {name} | {seen['asked_per_s']:g} | {shown} | {times} |", flush=True)
    per = {name: taken[name] / answered[name] for name in taken}
    print(
        f"200s, now / before: {answered['now'] / answered['before']:.3f}; CPU per 200: {per['now'] / per['before']:.3f}"
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class Served:
    """An application on uvicorn in a thread of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.port = free_port()
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error"))
        threading.Thread(target=self.server.run, daemon=True).start()
        while not self.server.started:
            time.sleep(0.01)


def cpu(count: int, rounds: int) -> None:
    """Microseconds of CPU per request (client included, the same for all), by what stands before the routes."""
    guarded = http_app.build_app(FakeService(), http_app.Limits())
    assert isinstance(guarded, Guard)
    assert isinstance(guarded.app, PlainRequests)
    bare, behind = Served(guarded.app.app), Served(guarded)
    door = open_door("127.0.0.1", free_port(), allowed_hosts("127.0.0.1", (), token=False))
    door.upstream, door.ready = ("127.0.0.1", behind.port), True
    ports = {"routes": bare.port, "guard": behind.port, "door and guard": door.port}
    taken: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(rounds + 1):  # the first one warms up
        for name, port in ports.items():
            taken[name].append(_cpu_per_request(port, count))
    medians = {name: statistics.median(each[1:]) for name, each in taken.items()}
    print("| before the routes | us of CPU per request | more |\n| --- | --- | --- |")
    for name, median in medians.items():
        print(f"| {name} | {median:.0f} | {median - medians['routes']:.0f} |")


def _cpu_per_request(port: int, count: int) -> float:
    import http.client

    body = json.dumps({"reviews": ["옷은 예쁘지만 배송은 늦어요"]}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    began = time.process_time()
    for _ in range(count):
        connection.request("POST", "/analyze", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
    return 1e6 * (time.process_time() - began) / count


def main() -> None:
    """Runs one experiment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["cpu", "overload"])
    parser.add_argument("--before", default="")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=1_000)
    options = parser.parse_args()
    if options.name == "cpu":
        cpu(options.count, options.rounds)
    else:
        overload(options.before, options.seconds, options.rounds)


if __name__ == "__main__":
    main()
