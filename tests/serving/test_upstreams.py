"""The door before replicas that answer at sockets of their own: who is asked, and what happens when one dies."""

import asyncio
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from ray_app.serving.door import Door
from ray_app.serving.door.upstreams import Upstreams, listen, sockets_folder
from ray_app.serving.hosts import allowed_hosts
from tests.support.ray_head import free_port

LOCAL = allowed_hosts("127.0.0.1", (), token=False)


class Replica:
    """An ASGI application that says its name, after `seconds` or when it is let go on."""

    def __init__(self, name: str, seconds: float = 0.0) -> None:
        self.name, self.seconds, self.asked = name, seconds, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        length = (b"content-length", str(len(self.name)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": self.name.encode()})


@contextmanager
def listening(folder: Path, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The replica at a socket named by it, on a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: replica.name)
        task = asyncio.run_coroutine_threadsafe(listen(replica, str(folder)), loop).result(10)
    assert (folder / replica.name).exists()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_cancelled(task), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nunchi-test-") as made:  # pytest's own names are too long for sockets
        yield Path(made)


@pytest.fixture
def door(folder: Path) -> Iterator[Door]:
    upstream = ("127.0.0.1", free_port())
    made = Door(host="127.0.0.1", port=free_port(), upstream=upstream, hosts=LOCAL, ready=True, sockets=folder)
    made.open()
    yield made
    made.close()


def get(door: Door, method: str = "GET") -> requests.Response:
    return requests.request(method, f"http://127.0.0.1:{door.port}/ready", timeout=10)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_go_to_the_replica_with_the_fewest_under_way(
    door: Door, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = Replica("1", 1.0), Replica("2", 0.3)
    with listening(folder, slow, monkeypatch), ThreadPoolExecutor(4) as pool:
        first = pool.submit(get, door)
        wait_for(lambda: slow.asked == 1)
        with listening(folder, quick, monkeypatch):
            assert get(door).text == "2"
            assert first.result().text == "1"


def test_sockets_without_a_process_are_passed_by_and_removed(
    door: Door, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "0"))
    assert get(door).status_code == 503, "nothing listens at the address either"
    assert not (folder / "0").exists()
    with listening(folder, Replica("1"), monkeypatch):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(folder / "0"))
        assert {get(door).text for _ in range(4)} == {"1"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_request_whose_replica_dies_may_be_sent_again(door: Door, folder: Path, method: str) -> None:
    """A replica that reads a request, and is killed."""
    with socket.socket(socket.AF_UNIX) as replica, ThreadPoolExecutor(1) as pool:
        replica.bind(str(folder / "1"))
        replica.listen()
        answer = pool.submit(get, door, method)
        connection, _ = replica.accept()
        with connection:
            assert connection.recv(4).decode().startswith(method[:3])  # the rest is unread: its end is a reset
    assert answer.result().status_code == 503
    assert answer.result().headers["Retry-After"] == "1"
    assert ("is gone" in answer.result().text) == (method == "GET")


def test_a_stop_waits_for_what_was_let_through(door: Door, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica("1", 0.7)
    with listening(folder, replica, monkeypatch), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(get, door)
        wait_for(lambda: replica.asked == 1)
        door.ready = False
        door.settle(0.1)
        assert not answer.done(), "no longer than it is told to"
        door.settle(10)
        assert answer.done()
        assert answer.result().text == "1"
    door.settle(10)


def test_without_sockets_the_address_is_asked(folder: Path) -> None:
    async def name(sockets: Path | None) -> str:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        upstreams = Upstreams(server.sockets[0].getsockname(), sockets)
        made = await upstreams.connect(asyncio.Event())
        upstreams.close(made)
        server.close()
        return made.name

    for sockets in (None, folder, folder / "cleaned-up"):
        assert asyncio.run(name(sockets)) == ""


def test_the_folder_of_sockets_is_this_users_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = sockets_folder()
    assert made is not None
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.rmdir()
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert sockets_folder() is None
