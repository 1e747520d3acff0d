"""pyproject.toml and constraints.txt -> deploy/*.lock: every package that a cluster or an image installs, with hashes.

run: make lock

`constraints.txt` pins what is tested together and leaves torch's build to the machine; hashes cannot do that, because
CPU and CUDA builds are different files. So torch and what only its CUDA build needs have a file of their own:

    pip install --require-hashes -r deploy/build.lock
    pip install --require-hashes --no-build-isolation -r deploy/requirements.lock -r deploy/torch-cuda.lock
                                                                                     (or torch-cpu.lock)

The first line is for what there is no wheel of (Kiwi's model): pip would fetch whatever builds it, of any version and
without a hash. `torch-cpu.lock` is kept by hand: its build comes from PyTorch's own place, not from PyPI. The hashes
are of all files of a version, so that one lock serves every platform and Python from 3.11 to 3.13; of torch's CPU
build they are for these Pythons on x86-64 Linux.

Beside the locks `sbom.cdx.json` lists the same packages as CycloneDX, for scanners of images. Known weaknesses of them:

    pip-audit --require-hashes --disable-pip -r deploy/requirements.lock
"""

import json
import re
import subprocess
import sys
from pathlib import Path

DEPLOY = Path(__file__).parent
LOCKS, SBOM = ("requirements.lock", "torch-cuda.lock", "torch-cpu.lock"), "sbom.cdx.json"
BUILD = "setuptools=="
CUDA_ONLY = re.compile(r"(torch|triton|(cuda|nvidia)-[a-z0-9-]+)==")
COMPILE = (
    "uv pip compile pyproject.toml --extra kiwi --extra report --constraint constraints.txt --universal "
    "--python-version 3.11 --generate-hashes --no-annotate --no-header --no-config --quiet"
)


def main() -> None:
    bin_folder = Path(sys.executable).parent
    command = [str(bin_folder / "uv"), *COMPILE.split()[1:]]
    compiled = subprocess.run(command, cwd=DEPLOY.parent, check=True, capture_output=True, text=True).stdout
    pins = re.split(r"\n(?=\S)", compiled.strip())  # a package and the indented lines of its hashes
    for name, cuda in (("requirements.lock", False), ("torch-cuda.lock", True)):
        chosen = [pin for pin in pins if bool(CUDA_ONLY.match(pin)) == cuda]
        _write(name, chosen)
    _write("build.lock", [pin for pin in pins if pin.startswith(BUILD)])
    (DEPLOY / SBOM).write_text(sbom(), encoding="utf-8")


def _write(name: str, pins: list[str]) -> None:
    (DEPLOY / name).write_text("\n".join(["# Written by deploy/lock.py: make lock", *pins, ""]), encoding="utf-8")


def sbom() -> str:
    """CycloneDX JSON of all packages that the locks name, those of both torch builds: the same for the same locks."""
    components = {}
    for lock in LOCKS:
        text = (DEPLOY / lock).read_text(encoding="utf-8").replace("\\\n", " ")
        urls = re.findall(r"^([a-z]+) @ \S+/\1-([\w.]+%2B[a-z]+)-\S+\.whl", text, re.M)  # a wheel per Python
        pins = re.findall(r"^([a-zA-Z0-9._-]+)==([\w.+]+)", text, re.M)
        for name, version in [*pins, *((name, version.replace("%2B", "+")) for name, version in urls)]:
            purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"
            components[purl] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "nunchi-reviews"}},
        "components": [components[purl] for purl in sorted(components)],
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    main()
