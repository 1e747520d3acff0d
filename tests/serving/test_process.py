"""The endpoint's own process: its ports, its signals, and a stop that ends."""

import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
import requests

from ray_app import cluster
from ray_app.errors import UserError
from ray_app.serving import process, serve
from ray_app.serving.options import Config


def test_a_port_that_is_taken_is_named_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--host 127.0.0.1 --port {port}: Address already in use"):
            serve.run(serve.Config(port=port))


def test_a_signal_interrupts_while_starting_and_is_noted_afterwards() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        signals = process.StopSignals()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signals.started = True
        signal.raise_signal(signal.SIGINT)
        assert signals.received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_stopping_waits_for_requests_under_way_and_no_longer_than_ray_lives() -> None:
    begun = time.monotonic()
    assert process.ended(lambda: time.sleep(0.6), lambda: True, 30)
    assert not process.ended(lambda: time.sleep(30), lambda: False, 30)
    assert not process.ended(lambda: time.sleep(30), lambda: True, 0.1)
    assert not process.ended(lambda: next(iter(())), lambda: True, 30), "it raised"
    assert time.monotonic() - begun < 20


def test_whether_anything_listens() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert cluster.listens(address)
    assert not cluster.listens(address)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_token_that_other_users_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n", encoding="utf-8")
    file.chmod(mode)
    with pytest.raises(UserError, match=f"--token-file {file}: other users can read it; chmod 600 {file}") as raised:
        process.read_token(str(file))
    assert "secret" not in str(raised.value)
    file.chmod(0o600)
    assert process.read_token(str(file)) == "secret"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=f"--token-file {file}: not UTF-8"):
        process.read_token(str(file))


def test_the_page_gets_the_token_unseen_and_stands_behind_a_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of Ray")
    port = process.free_port()
    page = process.start_page("http://127.0.0.1:9", "s3cret", Config(bundle="b", page_port=port))
    try:
        started = psutil.Process(page.pid)
        end = time.monotonic() + 20
        while not started.environ() and time.monotonic() < end:  # a process has none while it is being loaded
            time.sleep(0.01)
        assert "s3cret" not in " ".join(started.cmdline())
        assert started.environ()["NUNCHI_TOKEN"] == "s3cret"
        assert "RAY_AUTH_TOKEN" not in started.environ()
        url = f"http://127.0.0.1:{port}/"
        assert requests.get(url, headers={"Host": "evil.example"}, timeout=10).status_code == 421
        assert requests.get(url, timeout=10).status_code in (200, 503)  # it may not listen yet
    finally:
        page.kill()
        page.wait()


def test_the_end_of_a_job_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with cluster.silenced():
        for number in (1, 2):
            os.write(number, b"lost")
    os.write(1, b"kept")
    assert capfd.readouterr() == ("kept", "")
