"""What `ray job submit --working-dir .` sends: the code, and nothing else that lies in a checkout."""

import shutil
import zipfile
from pathlib import Path

from tests.support.paths import ROOT

LIMIT = 100 * 2**20  # the most a dashboard takes


def package(folder: Path, target: Path) -> set[str]:
    """The files of the working directory as Ray packs it."""
    from ray._private.runtime_env.packaging import create_package

    create_package(str(folder), target, include_gitignore=True, include_parent_dir=False, excludes=[])
    return {name for name in zipfile.ZipFile(target).namelist() if not name.endswith("/")}


def test_environment_history_runs_and_tests_stay_here(tmp_path: Path) -> None:
    for name in (".gitignore", ".rayignore"):
        (tmp_path / "here").mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "here")
    left = (
        ".git/objects/1",
        ".venv/lib/torch.py",
        "runs/bundle/bundle.json",
        "tests/test_a.py",
        "deploy/a.lock",
        "docs/page.png",
        "a.log",
    )
    for name in ("jobs/analyze.py", "ray_app/engine/starter/model.safetensors", "labels.csv", *left):
        path = tmp_path / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")
    packed = package(tmp_path / "here", tmp_path / "a.zip") - {".gitignore", ".rayignore"}
    assert packed == {"jobs/analyze.py", "ray_app/engine/starter/model.safetensors", "labels.csv"}


def test_this_checkout_is_far_below_the_limit(tmp_path: Path) -> None:
    packed = package(ROOT, tmp_path / "a.zip")
    assert {"jobs/analyze.py", "ray_app/catalog/analyze.py"} <= packed
    assert (tmp_path / "a.zip").stat().st_size < 0.6 * LIMIT  # most of it is the shipped bundle
