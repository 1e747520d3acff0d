"""The endpoint's own process: signals, ports, the page beside it, and a stop that ends in time."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray_app.errors import UserError


def ended(stop: Callable[[], None], there: Callable[[], bool], seconds: float) -> bool:
    """Whether `stop` came to its end within `seconds`, as long as Ray is `there`.

    A signal to the whole process group (a service manager's, `timeout`) ends Ray's own processes too: then there is
    nothing to wait for.
    """
    done = threading.Event()

    def work() -> None:
        with suppress(Exception):  # Ray that goes away while it is told to stop
            stop()
            done.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    limit = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < limit and there():
        thread.join(0.5)
    return done.is_set()


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_port(host_name: str, host: str, port_name: str, port: int) -> None:
    """Fails before anything is started where another program listens."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            line = f"{host_name} {host} {port_name} {port}: {error.strerror}; name another {port_name}"
            raise UserError(line) from None


class StopSignals:
    """SIGINT and SIGTERM: interrupts while starting; afterwards `seen`, so that requests under way can finish."""

    def __init__(self) -> None:
        self.started = self.seen = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, *_: object) -> None:
        if not self.started:
            raise KeyboardInterrupt
        self.seen = True


def start_page(config: Any, url: str, token: str) -> subprocess.Popen[bytes]:
    """Streamlit, on loopback whatever the endpoint's host: who reaches the page uses the endpoint's token."""
    script = str(Path(__file__).parents[1] / "ui" / "page.py")
    shown = ["--endpoint", url, "--bundle", config.bundle, "--analyses", config.analyses, "--report", config.report]
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(config.page_port), "--", *shown]
    print(f"page at http://127.0.0.1:{config.page_port}", flush=True)
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(command, env={**os.environ, "NUNCHI_TOKEN": token, "PYTHONPATH": paths})
