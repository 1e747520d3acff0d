"""The wheel, and one cluster for all tests here, as cluster.yaml makes its nodes."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.prometheus import Prometheus, prometheus
from tests.support.ray_head import Head, free_port, head


@pytest.fixture(scope="package")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make wheel` builds it, from a copy of the package."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("ray_app", "jobs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, timeout=120)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="package")
def node_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a node: the packages of this environment, but not its link to the checkout, and the wheel."""
    folder = tmp_path_factory.mktemp("node") / "venv"
    venv.create(folder, symlinks=True)
    python, shared = folder / "bin" / "python", sysconfig.get_path("purelib")
    [site] = folder.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(f"{shared}\n", encoding="utf-8")  # whose own .pth files are not read
    install = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index")
    subprocess.run([*install, "--force-reinstall", str(wheel)], check=True, timeout=120)
    return python


@pytest.fixture(scope="package")
def cluster(node_python: Path) -> Iterator[Head]:
    """Room for what deploy/serve.yaml reserves, twice."""
    with head(cpus=9, python=str(node_python), RAY_metrics_report_interval_ms="1000") as started:
        yield started


@pytest.fixture(scope="package")
def endpoint_port() -> int:
    """Where the endpoint of this cluster listens once it is deployed."""
    return free_port()


@pytest.fixture(scope="package")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The endpoint's token."""
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text("secret", encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="package")
def watched(
    cluster: Head, endpoint_port: int, token_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus | None]:
    """Prometheus over the endpoint and over Ray, from before either does anything; None where there is none."""
    if not shutil.which("prometheus"):
        yield None
        return
    discovered = cluster.folder / "prom_metrics_service_discovery.json"
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus(folder, [f"127.0.0.1:{endpoint_port}"], token_file, discovered) as started:
        yield started


@pytest.fixture(scope="package")
def submitted(
    cluster: Head, watched: Prometheus | None, bundle_folder: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], tuple[str, ...], Path]:
    """A job that analyzed a few reviews: how `ray job submit` ended, the command, and the output folder."""
    output = tmp_path_factory.mktemp("submitted") / "out"
    command = (
        *("ray", "job", "submit", "--submission-id", "nightly", "--working-dir", str(ROOT), "--"),
        *("python", "-m", "jobs.analyze", "--bundle", bundle_folder, "--output", str(output)),
        *("--limit", "40", "--unit-rows", "20", "--highlights", "off", "--device", "cpu"),
    )
    return cluster.run(*command), command, output
