"""A Ray that a job starts on this machine is closed to other processes: they have no token, and nothing shows it."""

import os
from pathlib import Path
from typing import Any

import pytest

from ray_app import cluster
from tests.support import stranger
from tests.support.stranger import Finding

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def findings(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """What each port of the tests' Ray answers a process without the token, over the machine's own address."""
    ray_cluster.get(ray_cluster.remote(lambda: 1).remote())  # a worker listens too
    return stranger.ask(stranger.ports_of(os.getpid()), stranger.address())


def test_no_port_runs_a_strangers_command(findings: list[Finding]) -> None:
    assert len(findings) >= 8
    assert not [found for found in findings if any(200 <= status < 300 for status in found["post"])]
    refused = [found for found in findings if found["post"] and set(found["post"]) == {401}]
    assert "ray::DashboardAgent" in {found["process"] for found in refused}


def test_no_service_of_rays_core_lets_a_stranger_in(findings: list[Finding]) -> None:
    codes = {name: code for found in findings for name, code in found["grpc"].items()}
    assert {name.partition("/")[0].rpartition(".")[2] for name in codes} >= {
        "NodeInfoGcsService",
        "JobInfoGcsService",
        "InternalKVGcsService",
        "NodeManagerService",
        "ObjectManagerService",
        "CoreWorkerService",
        "LogService",
    }
    assert set(codes.values()) == {"UNAUTHENTICATED"}
    assert not cluster.answers_strangers(cluster.address())


def test_workers_have_the_token_and_neither_files_nor_command_lines_do(ray_cluster: Any, tmp_path: Path) -> None:
    import psutil

    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    in_worker = ray_cluster.remote(lambda: os.environ.get("RAY_AUTH_TOKEN"))
    assert ray_cluster.get(in_worker.remote()) == token
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        assert token not in " ".join(process.cmdline())
        assert Path(f"/proc/{process.pid}/environ").stat().st_mode & 0o077 == 0
    session = Path(ray_cluster._private.worker.global_worker.node.get_session_dir_path())
    for file in session.rglob("*"):
        if file.is_file():
            assert token.encode() not in file.read_bytes(), file
    assert "RAY_AUTH_TOKEN" not in cluster.without_token(os.environ)
