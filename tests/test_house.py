"""The shape of the code: small files and functions, named types, docstrings, and no stranger's package."""

import subprocess
import sys
import tomllib

from tests.support import house
from tests.support.paths import ROOT


def test_parameters_and_results_name_their_types() -> None:
    assert len(house.untyped()) < 100, house.untyped()


def test_files_and_functions_are_small() -> None:
    assert house.long_files(300) == []
    assert house.long_functions(40) == []
    assert house.crowded_folders(20) == []


def test_public_names_have_docstrings() -> None:
    assert house.undocumented() == []


def test_the_contract_is_short() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers, ray, _ = config["contracts"]
    assert len(layers["layers"]) <= 14
    assert all(line.endswith("-> ray") for line in ray["ignore_imports"])


def test_no_message_installs_a_strangers_package() -> None:
    """`nunchi` on PyPI is another project's; ours is installed from the checkout, by path."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    words = "pip install " + "nunchi", "pip install '" + "nunchi", 'pip install "' + "nunchi"
    for name in tracked:
        path = ROOT / name
        text = path.read_text(encoding="utf-8", errors="ignore") if path.is_file() else ""
        assert not any(word in text for word in words), name


def test_importing_the_package_prints_and_changes_nothing() -> None:
    script = (
        "import os, sys, logging\n"
        "before = dict(os.environ), list(logging.root.handlers)\n"
        "import ray_app\n"
        "assert (dict(os.environ), list(logging.root.handlers)) == before\n"
        "assert not {'torch', 'ray', 'transformers', 'pyarrow'} & set(sys.modules)\n"
        "from ray_app import Client\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
