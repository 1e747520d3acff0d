"""Mistakes of the user, as one line that names the place and the remedy."""

import difflib
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

_EXTRAS = {  # module -> the extra that brings it
    "kiwipiepy": "kiwi",
    "openpyxl": "xlsx",
    "deltalake": "tables",
    "pyiceberg": "iceberg",
    **dict.fromkeys(("streamlit", "duckdb", "altair", "fsspec"), "page"),
    **dict.fromkeys(("peft", "sacrebleu"), "lm"),
    **dict.fromkeys(("captum", "matplotlib", "shap"), "bench"),
}


class UserError(Exception):
    """A mistake the user can mend: the message is one line that names the place and the remedy."""


class DeviceError(RuntimeError):
    """The device failed, whatever the review: none may be rejected for it (`engine/device_faults.py`)."""


def closest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or the list of what is known."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def check(condition: object, message: str) -> None:
    """Raises UserError(message) unless the condition holds."""
    if not condition:
        raise UserError(message)


def first_line(error: BaseException) -> str:
    """An error's first line, shortened."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def interpreter() -> str:
    """The interpreter that runs, as a user would type it: `.venv/bin/python`, or `python` where that is the same."""
    found = shutil.which("python")
    if found and Path(found).absolute() == Path(sys.executable).absolute():
        return "python"
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def pip_install(extra: str) -> str:
    """The command that brings an extra to the interpreter that runs. From the checkout, by path: the name `nunchi` on
    PyPI is another project's."""
    return f"{interpreter()} -m pip install -e '.[{extra}]'"


def no_package(error: ModuleNotFoundError) -> str:
    """One line for a package that the running interpreter lacks. A missing module of ours is a bug: raised again."""
    module = (error.name or "").partition(".")[0]
    if not module or module in ("ray_app", "jobs"):
        raise error
    if module in _EXTRAS:
        return f"this needs {module}: {pip_install(_EXTRAS[module])}"
    return f"{sys.executable} has no package {module}: run `make setup` once, then use .venv/bin/python"
