"""pyproject.toml and constraints.txt -> deploy/*.lock: every package that a cluster or an image installs, with hashes.

run: make lock

`constraints.txt` pins what is tested together and leaves torch's build to the machine; hashes cannot do that, because
CPU and CUDA builds are different files. So torch and what only its CUDA build needs have a file of their own:

    pip install --require-hashes -r deploy/requirements.lock -r deploy/torch-cuda.lock    (or torch-cpu.lock)

`torch-cpu.lock` is kept by hand: its build comes from PyTorch's index, not from PyPI. The hashes are of all files of a
version, so that one lock serves every platform and Python from 3.11 to 3.13.
"""

import re
import subprocess
import sys
from pathlib import Path

DEPLOY = Path(__file__).parent
CUDA_ONLY = re.compile(r"(torch|triton|(cuda|nvidia)-[a-z0-9-]+)==")
COMPILE = (
    "uv pip compile pyproject.toml --extra kiwi --constraint constraints.txt --universal --python-version 3.11 "
    "--generate-hashes --no-annotate --no-header --no-config --quiet"
)


def main() -> None:
    bin_folder = Path(sys.executable).parent
    command = [str(bin_folder / "uv"), *COMPILE.split()[1:]]
    compiled = subprocess.run(command, cwd=DEPLOY.parent, check=True, capture_output=True, text=True).stdout
    pins = re.split(r"\n(?=\S)", compiled.strip())  # a package and the indented lines of its hashes
    for name, cuda in (("requirements.lock", False), ("torch-cuda.lock", True)):
        chosen = [pin for pin in pins if bool(CUDA_ONLY.match(pin)) == cuda]
        (DEPLOY / name).write_text("\n".join(["# Written by deploy/lock.py: make lock", *chosen, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
