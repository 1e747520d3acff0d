"""The commands of README and docs, and what each of them would start."""

import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ray_app import cli
from tests.support.paths import ROOT

PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md"), ROOT / "SECURITY.md"])
_STARTS = r"(?:\.venv/bin/)?python -m jobs|python -c |ray |make |serve |streamlit |curl |pip |git |nunchi-reviews"


def commands() -> Iterator[tuple[str, str]]:
    """(page, command): the lines of indented blocks and the code in table cells that a reader would type."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        typed = re.findall(rf"^ {{4}}((?:{_STARTS}).*)$", text, re.M)
        in_line = re.findall(rf"`((?:{_STARTS})[^`]*)`", text)
        for command in dict.fromkeys([*typed, *in_line]):
            yield page.name, re.sub(r"\s+#.*$", "", command).strip()


def job_call(command: str) -> list[str] | None:
    """[job, argument, …] of a command that runs a job, whatever stands before it; None for another command."""
    found = re.search(r"(?:python -m jobs[. ]|nunchi-reviews )(.*)$", command)
    if not found or found[1].startswith("VERB") or command == "python -m jobs":
        return None
    return [word for word in shlex.split(found[1]) if word != "…"]


def configured(job: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[Any], object], Any]:
    """What a job would run, and the Config it would run with; raises UserError where an option or value is wrong."""
    caught: dict[str, Any] = {}

    def main(config_type: type, run: Callable[..., object], description: str, **verbs: cli.Verb) -> None:
        caught.update(default=(config_type, run), verbs={name: verb[:2] for name, verb in verbs.items()})

    monkeypatch.setattr(cli, "main", main)
    runpy.run_path(str(ROOT / "jobs" / f"{job}.py"), run_name="__main__")
    verb = arguments[0] if arguments and arguments[0] in caught["verbs"] else ""
    config_type, run = caught["verbs"][verb] if verb else caught["default"]
    return run, cli.parse(config_type, arguments[bool(verb) :], job, "")
