"""The process of `jobs.serve`: its signals, its port, the page it starts, and a stop that ends in time.

In: options of the job. Out: a running page; whether a stop finished. Raises UserError before anything starts.
"""

import ipaddress
import logging
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
from typing import TYPE_CHECKING

from ray_app import cluster
from ray_app.errors import UserError, check, checked_token
from ray_app.serving.door import Door
from ray_app.serving.hosts import AllowedHosts, allowed_hosts

if TYPE_CHECKING:
    from ray_app.serving.options import Config

UNFRAMED = b"Content-Security-Policy: frame-ancestors 'self'\r\nX-Frame-Options: SAMEORIGIN\r\n"
log = logging.getLogger(__name__)


def ended(stop: Callable[[], None], alive: Callable[[], bool], seconds: float) -> bool:
    """Calls `stop`; whether it finished within `seconds`, waiting only while Ray is `alive`.

    A signal to the whole process group (from a service manager, or `timeout`) ends Ray's own processes too: then there
    is nothing to wait for.
    """
    done = threading.Event()

    def work() -> None:
        with suppress(Exception):  # Ray may end while it is being stopped
            stop()
            done.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    limit = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < limit and alive():
        thread.join(0.5)
    return done.is_set()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_port(host_name: str, host: str, port_name: str, port: int) -> None:
    """Raises UserError where another program listens, before anything starts. `…_name`: how the line names them."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            address = f"{host_name} {host} {port_name} {port}"
            raise UserError(f"{address}: {error.strerror}; choose another {port_name}") from None


class StopSignals:
    """SIGINT and SIGTERM: KeyboardInterrupt until `started` is set; then `received`, so that requests can finish."""

    def __init__(self) -> None:
        self.started = self.received = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, *_: object) -> None:
        if not self.started:
            raise KeyboardInterrupt
        self.received = True


def free_port() -> int:
    """A port of loopback at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def open_door(
    host: str,
    port: int,
    hosts: AllowedHosts,
    headers: bytes = b"",
    ready: bool = False,
    sockets: Path | None = None,
) -> Door:
    """A door that listens at once, before a server that is still to start at the port of its `upstream`."""
    upstream = ("127.0.0.1", free_port())
    door = Door(host=host, port=port, upstream=upstream, hosts=hosts, headers=headers, ready=ready, sockets=sockets)
    door.open()
    return door


def read_token(file: str) -> str:
    """The token in `file`, without one that in NUNCHI_TOKEN; "" for none.

    Raises UserError for a file without one, and as ssh does for one of this user's that others can read.
    """
    if not file:
        return checked_token(os.environ.get("NUNCHI_TOKEN", ""), "NUNCHI_TOKEN")
    try:
        token, entry = Path(file).read_text(encoding="utf-8").strip(), Path(file).stat()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file {file}: {getattr(error, 'strerror', 'not UTF-8')}") from None
    shown = entry.st_mode & 0o077
    ours = entry.st_uid == os.getuid() and os.access(file, os.W_OK)  # a mounted secret is not, even for root
    check(not (shown and ours), f"--token-file {file}: other users can read it; chmod 600 {file}")
    if shown & 0o007:  # a secret that was mounted, say: not ours to change
        log.warning("warning: --token-file %s can be read by every user of this machine", file)
    check(token, f"--token-file {file}: empty")
    return checked_token(token, f"--token-file {file}")


def start_page(endpoint: str, token: str, config: "Config") -> subprocess.Popen[bytes]:
    """Starts the page with Streamlit. Always on loopback: everybody who reaches the page uses the endpoint's token.

    It stands behind a door of its own, which lets no other name in and no other site frame it.
    """
    script = str(Path(__file__).parents[1] / "ui" / "page.py")
    shown = {name: getattr(config, name) for name in ("bundle", "analyses", "report", "decisions")}
    options = ["--endpoint", endpoint, *(part for name, value in shown.items() for part in (f"--{name}", value))]
    door = open_door("127.0.0.1", config.page_port, allowed_hosts("127.0.0.1", (), token=False), UNFRAMED, ready=True)
    inner = str(door.upstream[1])
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", inner, "--", *options]
    log.info("page at http://127.0.0.1:%d", config.page_port)
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"NUNCHI_TOKEN": token, "PYTHONPATH": paths}
    return subprocess.Popen(command, env={**cluster.without_token(os.environ), **own})
