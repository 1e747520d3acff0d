"""deploy/*.lock: every package with hashes, in the version that is tested, and all that pyproject.toml needs."""

import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

LOCKS = ("requirements.lock", "torch-cuda.lock", "torch-cpu.lock")


def pins(name: str) -> dict[str, tuple[str, int]]:
    """Package -> its version and how many hashes it has."""
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "--"))]
    found: dict[str, tuple[str, int]] = {}
    for line in lines:
        requirement = Requirement(line.split("--hash")[0].strip())
        version = re.fullmatch(r"==([\w.+]+)", str(requirement.specifier))
        assert version, line
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line)
        found[canonicalize_name(requirement.name)] = (version[1], len(hashes))
    return found


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    split = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in split}


@pytest.mark.parametrize("name", LOCKS)
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


def test_the_list_of_packages_is_that_of_the_locks() -> None:
    listed = json.loads((ROOT / "deploy" / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    found = {(canonicalize_name(one["name"]), one["version"]) for one in listed["components"]}
    assert found == {(name, version) for lock in LOCKS for name, (version, _) in pins(lock).items()}
    assert all(
        one["purl"] == f"pkg:pypi/{canonicalize_name(one['name'])}@{one['version']}" for one in listed["components"]
    )
