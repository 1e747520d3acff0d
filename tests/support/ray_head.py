"""A Ray cluster of its own in a child process, started as our cluster files start one: a token, loopback, own ports.

Beside other clusters on the machine: `ray stop` and `address="auto"` would reach those too.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from tests.support.paths import ROOT

BIN = Path(sys.executable).parent
FOREIGN = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "PYTHONPATH")  # of another cluster that this process may have started


@dataclass(frozen=True)
class Head:
    """Where a cluster listens, its token, the environment of processes that are to use it, and Ray's own folder."""

    gcs: str
    dashboard: str
    token: str
    env: dict[str, str]
    folder: Path

    def run(self, *command: str, seconds: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command such as `ray job submit …` with the token, in the root of the repository."""
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env={**self.env, "RAY_API_SERVER_ADDRESS": self.dashboard, **environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


@contextlib.contextmanager
def head(
    cpus: int, options: Sequence[str] = (), port: int = 0, python: str = sys.executable, **environment: str
) -> Iterator[Head]:
    """A head that answers, until the end of the block. `options` go to `ray start`, which `python` runs, far from the
    checkout."""
    folder = Path(tempfile.mkdtemp(prefix="nu", dir="/tmp"))  # Ray's sockets need a short path
    token = secrets.token_hex(32)
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text(token, encoding="utf-8")
    (folder / ".ray" / "auth_token").chmod(0o600)
    inherited = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    own = {"HOME": str(folder), "PATH": f"{Path(python).parent}:{os.environ['PATH']}"}
    env = {**inherited, **own, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **environment}
    gcs, dashboard, agent, client = (port or free_port(), free_port(), free_port(), free_port())
    command = [
        *(
            python,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            f"--temp-dir={folder / 'r'}",
            f"--num-cpus={cpus}",
        ),
        *(f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"),
        *("--node-ip-address=127.0.0.1", "--object-store-memory=150000000", *options),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{dashboard}"
        _wait(process, url, folder / "log")
        yield Head(f"127.0.0.1:{gcs}", url, token, env, folder / "r")
    finally:
        _end(process, folder)
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if requests.get(f"{url}/api/gcs_healthz", timeout=5).ok:
                return
        time.sleep(0.2)
    raise AssertionError(f"ray start: {log.read_text(encoding='utf-8')[-2000:]}")


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Ends its process group, and children in groups of their own: all have the folder as their home."""
    os.killpg(process.pid, signal.SIGKILL)
    for other in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if other.environ().get("HOME") == str(folder):
                other.kill()
    process.wait(15)
