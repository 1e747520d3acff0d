"""Mistakes of the user, as one line that names the place and the remedy."""

import difflib
import errno
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

_EXTRAS = {  # module -> the extra that brings it
    "kiwipiepy": "kiwi",
    "openpyxl": "xlsx",
    "deltalake": "tables",
    "pyiceberg": "iceberg",
    "duckdb": "report",
    **dict.fromkeys(("streamlit", "altair", "fsspec"), "page"),
    "peft": "tune",
    "wandb": "wandb",
    "trackio": "trackio",
    **dict.fromkeys(("mlflow", "sqlalchemy", "alembic"), "mlflow"),
    "sacrebleu": "lm",
    **dict.fromkeys(("captum", "matplotlib", "shap"), "bench"),
}


_FLAG = re.compile(r"--[a-z][a-z-]*")
_FULL = ("No space left on device", "os error 28", "PytorchStreamWriter failed writing", "Disk quota exceeded")


class UserError(Exception):
    """A mistake the user can mend: the message is one line, `PLACE: PROBLEM; REMEDY`.

    `place`, `problem` and `remedy` are its parts, each "" where the line has none; `flag` is the option it is about.
    """

    @property
    def place(self) -> str:
        """The flag, file or row it is about."""
        return str(self).partition(": ")[0] if ": " in str(self) else ""

    @property
    def problem(self) -> str:
        """What is wrong."""
        rest = str(self).removeprefix(f"{self.place}: ")
        return rest.rpartition("; ")[0] or rest

    @property
    def remedy(self) -> str:
        """What to do."""
        rest = str(self).removeprefix(f"{self.place}: ")
        return rest.rpartition("; ")[2] if "; " in rest else ""

    @property
    def flag(self) -> str:
        """The option that is named first, such as `--base-model`."""
        found = _FLAG.search(str(self))
        return found[0] if found else ""


class DeviceError(RuntimeError):
    """The device failed, whatever the review: none may be rejected for it (`engine/device_faults.py`).

    `suspect`: it ends the process and a review may have caused it, so that a journal of deaths counts it.
    """

    suspect = False


def closest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or the list of what is known."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def check(condition: object, message: str) -> None:
    """Raises UserError(message) unless the condition holds."""
    if not condition:
        raise UserError(message)


def checked_token(token: str, place: str) -> str:
    """The token without the space around it. Raises UserError, which does not show it, where no header could carry it:
    the libraries' own messages would."""
    token = token.strip()
    check(token.isprintable(), f"{place}: a token is one line, without control characters in it")
    return token


def no_space(error: BaseException | None) -> str:
    """One line where a full disk is the cause of an error, else ""; libraries say so each in its own words."""
    while error is not None:
        text = str(error)
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(sign in text for sign in _FULL):
            place = getattr(error, "filename", None)
            return f"no space left on the disk{f' of {place}' if place else ''}: free some and run again"
        error = error.__cause__ or error.__context__
    return ""


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
