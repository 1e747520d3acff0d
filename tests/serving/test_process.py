"""The endpoint's own process: its ports, its signals, and a stop that ends."""

import signal
import socket
import time

import pytest

from ray_app import cluster
from ray_app.errors import UserError
from ray_app.serving import process, serve


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
