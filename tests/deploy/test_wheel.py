"""The wheel that `make wheel` builds holds all that a node needs which no job brings its code to."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files."""
    site = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def test_every_file_of_the_package_is_in_it(installed: Path) -> None:
    def files(root: Path) -> set[str]:
        found = (path for name in ("ray_app", "jobs") for path in (root / name).rglob("*") if path.is_file())
        return {str(path.relative_to(root)) for path in found if "__pycache__" not in path.parts}

    assert files(installed) == files(ROOT)


def test_an_endpoint_and_a_job_start_from_it_alone(installed: Path, tmp_path: Path) -> None:
    code = (
        "import ray_app, ray_app.serving.serve as serve, jobs.analyze; from ray_app.inference import bundle; "
        "assert callable(serve.app); print(bundle.load('ready').path, ray_app.__file__)"
    )
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(str(installed)) == 2
