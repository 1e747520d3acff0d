"""What a process without Ray's token gets from ports: `python -m tests.support.stranger HOST PORT…`, JSON on stdout.

It asks each port to run a command (the job API, over HTTP) and to answer (over HTTP and gRPC). `ports_of` finds
the ports of a process and its children in /proc/net/tcp, `ask` starts the stranger.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import grpc
import psutil
import requests

from tests.support.paths import ROOT

JOB_APIS = ("/api/job_agent/jobs/", "/api/jobs/", "/api/v0/jobs/")
CALLS = (  # one harmless call of every service of Ray's: the token is looked for before any of a service's calls
    "ray.rpc.NodeInfoGcsService/CheckAlive",
    "ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "ray.rpc.InternalKVGcsService/InternalKVGet",
    "ray.rpc.ActorInfoGcsService/GetAllActorInfo",
    "ray.rpc.NodeManagerService/GetNodeStats",
    "ray.rpc.ObjectManagerService/Pull",
    "ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "ray.rpc.ReporterService/GetTraceback",  # the dashboard's agent
    "ray.rpc.LogService/ListLogs",
    "ray.serve.ASGIService/HandleRequest",  # a replica of Serve's, which unpickles what it gets
)
NOT_THERE = ("UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")  # another service, or no gRPC at all


class Finding(TypedDict):
    """What one port answered: HTTP statuses of POST and GET, and gRPC codes of the calls that it knows."""

    port: int
    process: str
    post: list[int]
    get: int
    grpc: dict[str, str]


def address() -> str:
    """An address of this machine that is not loopback, or loopback where it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the route is looked up
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def ports_of(process: int) -> dict[int, str]:
    """Port -> name of the process, for every TCP port that a process or one of its descendants listens at."""
    listening = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A":  # LISTEN
                listening[columns[9]] = int(columns[1].rpartition(":")[2], 16)
    found = {}
    root = psutil.Process(process)
    for one in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.Error, OSError):
            name = _name(one)
            for handle in Path(f"/proc/{one.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inode = re.fullmatch(r"socket:\[(\d+)]", str(handle.readlink()))
                    if inode and inode[1] in listening:
                        found[listening[inode[1]]] = name
    return dict(sorted(found.items()))


def _name(process: psutil.Process) -> str:
    words = process.cmdline()
    first = next((word for word in words if word.endswith(".py")), words[0])
    if words[0].startswith("ray::"):
        return "worker" if words[0].startswith(("ray::IDLE", "ray::Map")) else words[0].split()[0]
    return os.path.basename(first)


def ask(ports: dict[int, str], host: str) -> list[Finding]:
    """The findings of a stranger: another process, without this one's environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "NUNCHI_"))}
    command = [sys.executable, "-m", "tests.support.stranger", host, *map(str, ports)]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=300, check=True)
    return [_named(finding, ports) for finding in json.loads(done.stdout)]


def _named(finding: Finding, ports: dict[int, str]) -> Finding:
    finding["process"] = ports[finding["port"]]
    return finding


def _try(host: str, port: int) -> Finding:
    session = requests.Session()
    session.trust_env = False

    def status(method: str, path: str) -> int:
        try:
            body = {"entrypoint": "true"} if method == "POST" else None
            with session.request(method, f"http://{host}:{port}{path}", json=body, timeout=3, stream=True) as response:
                return int(response.status_code)
        except requests.RequestException:
            return 0

    get = status("GET", "/")
    posts = [status("POST", path) for path in JOB_APIS] if get else []
    return {"port": port, "process": "", "post": posts, "get": get, "grpc": {} if get else _calls(f"{host}:{port}")}


def _calls(target: str) -> dict[str, str]:
    codes = {}
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        for name in CALLS:
            try:
                channel.unary_unary(f"/{name}")(b"", timeout=3)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
            if code == "UNAVAILABLE":
                break
            if code not in NOT_THERE:
                codes[name] = code
    return codes


def main(host: str, ports: Sequence[str]) -> None:
    """Prints the findings."""
    print(json.dumps([_try(host, int(port)) for port in ports]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
