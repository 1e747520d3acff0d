"""The Dockerfile, as far as it can be judged without building it: linter, what it copies, installs and runs as."""

import fnmatch
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

DOCKERFILE = ROOT / "Dockerfile"


def instructions(name: str) -> list[list[str]]:
    """The words of every instruction of a kind, in order."""
    lines = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{name} ")]


def test_the_linter_finds_nothing() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_what_it_copies_exists_and_is_not_ignored(torch: str) -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    assert "*" in ignore  # nothing but what is allowed: no data, no keys, no history
    sources = [word for words in instructions("COPY") if not words[0].startswith("--from") for word in words[:-1]]
    assert sources
    for source in (word.replace("${TORCH}", torch) for word in sources):
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source


def test_every_package_comes_from_a_lock_and_its_hash() -> None:
    installs = [line for words in instructions("RUN") for line in " ".join(words).split("&&") if "pip install" in line]
    builds, third_party, ours = installs
    assert "--require-hashes" in builds
    assert re.findall(r"--requirement (\S+)", builds) == ["/locks/build.lock"]
    assert {"--require-hashes", "--no-build-isolation", "--only-binary", ":all:"} <= set(third_party.split())
    assert re.findall(r"--requirement (\S+)", third_party) == ["/locks/requirements.lock", "/locks/torch-${TORCH}.lock"]
    assert {"--no-deps", "--no-index", "--no-build-isolation"} <= set(ours.split())


def test_it_runs_as_nobody_special_with_a_token_and_checks_its_health() -> None:
    from ray_app.serving.serve import Config

    assert instructions("USER")[-1] == ["1000"]
    assert "RAY_AUTH_MODE=token" in instructions("ENV")[-1]
    assert "http://127.0.0.1:8000/health" in DOCKERFILE.read_text(encoding="utf-8")
    assert Config.port == 8000
