"""deploy/*.lock: every package with hashes, in the version that is tested, and all that pyproject.toml needs."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

LOCKS = ("requirements.lock", "torch-cuda.lock", "torch-cpu.lock")
PYTHONS = ("3.11", "3.12", "3.13")
UNREACHABLE = re.compile(r"error sending request|dns error|tunnel error")


def pins(name: str) -> dict[str, tuple[str, int]]:
    """Package -> its version and how many hashes it has."""
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "--"))]
    found: dict[str, tuple[str, int]] = {}
    for line in lines:
        requirement = Requirement(line.split("--hash")[0].strip())
        by_address = re.search(r"/[a-z]+-([\w.]+%2B[a-z]+)-", requirement.url or "")
        version = by_address or re.fullmatch(r"==([\w.+]+)", str(requirement.specifier))
        assert version, line
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line)
        found[canonicalize_name(requirement.name)] = (version[1].replace("%2B", "+"), len(hashes))
    return found


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    split = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in split}


@pytest.mark.parametrize("name", [*LOCKS, "build.lock"])
def test_every_package_has_hashes_and_the_version_that_is_tested(name: str) -> None:
    tested = constraints()
    for package, (version, hashes) in pins(name).items():
        assert hashes, package
        assert version.split("+")[0] == tested.get(package, version.split("+")[0]), f"{package}: run make lock"


@pytest.mark.parametrize("torch", ["torch-cuda.lock", "torch-cpu.lock"])
def test_the_locks_hold_what_the_package_needs(torch: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = pins("requirements.lock") | pins(torch)
    for line in [*project["dependencies"], *project["optional-dependencies"]["kiwi"]]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name in locked, f"{name}: run make lock"
        assert requirement.specifier.contains(locked[name][0])


def test_only_one_file_names_torch_and_its_cuda_packages() -> None:
    shared = pins("requirements.lock").keys()
    assert not shared & pins("torch-cuda.lock").keys()
    assert pins("torch-cpu.lock").keys() == {"torch"}
    assert not [name for name in shared if name.startswith(("nvidia-", "cuda-", "torch"))]


def test_what_builds_is_what_is_installed() -> None:
    assert pins("build.lock").items() <= pins("requirements.lock").items()
    assert set(pins("build.lock")) == {"setuptools"}


def test_the_list_of_packages_is_that_of_the_locks() -> None:
    listed = json.loads((ROOT / "deploy" / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    found = {(canonicalize_name(one["name"]), one["version"]) for one in listed["components"]}
    assert found == {(name, version) for lock in LOCKS for name, (version, _) in pins(lock).items()}
    assert all(
        one["purl"] == f"pkg:pypi/{canonicalize_name(one['name'])}@{one['version']}" for one in listed["components"]
    )


def test_torchs_cpu_build_has_a_wheel_for_each_python_and_no_index_is_asked_for_the_others() -> None:
    text = (ROOT / "deploy" / "torch-cpu.lock").read_text(encoding="utf-8").replace("\\\n", "")
    assert not re.search(r"(?m)^-", text)
    wheels = re.findall(r'-cp(\d+)-cp\1-manylinux\S+_x86_64\.whl ; python_version == "(\S+)" +--hash', text)
    assert [(tag, version) for tag, version in wheels] == [(one.replace(".", ""), one) for one in PYTHONS]


def test_the_locks_resolve_with_hashes_on_every_python(tmp_path: Path) -> None:
    """Nothing is missing on any, all have a wheel but Kiwi's model. Torch's CPU build is not at the registry."""
    running = {version: resolving(version, tmp_path) for version in PYTHONS}
    ended = {version: process.communicate(timeout=300)[1] for version, process in running.items()}
    if any(UNREACHABLE.search(errors) for errors in ended.values()):
        pytest.skip("the package registry cannot be reached")
    assert {version: process.returncode for version, process in running.items()} == dict.fromkeys(PYTHONS, 0), ended


def resolving(version: str, folder: Path) -> subprocess.Popen[str]:
    """`uv` at it, as the Dockerfile and cluster.yaml install, without installing."""
    uv, locks = Path(sys.executable).parent / "uv", ("requirements.lock", "torch-cuda.lock")
    command = [
        *(str(uv), "pip", "install", "--dry-run", "--quiet", "--no-config", "--require-hashes"),
        *("--python-version", version, "--python-platform", "x86_64-manylinux_2_28", "--no-build-isolation"),
        *("--only-binary", ":all:", "--no-binary", "kiwipiepy-model"),
        *("--target", str(folder / version), "--cache-dir", str(folder / "cache")),
        *(word for lock in locks for word in ("-r", str(ROOT / "deploy" / lock))),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
