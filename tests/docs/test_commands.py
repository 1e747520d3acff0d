"""README and docs: every command that they show would start, every file and link that they name exists."""

import json
import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from ray_app.errors import UserError
from ray_app.options import FORMER
from tests.support.documents import PAGES, commands, configured, job_call
from tests.support.paths import ROOT

COMMANDS = list(commands())
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
REQUIRED = {
    "train_lm": ["--base-model", "b"],
    "evaluate_lm": ["--model", "m"],
    "publish": ["--bundle", "b", "--to", "hf://shop/b"],
}
ids = [f"{page}: {command[:60]}" for page, command in COMMANDS]


def test_there_are_commands_of_every_kind() -> None:
    shown = {call[0] for _, command in COMMANDS if (call := job_call(command))}
    assert shown >= {path.stem for path in (ROOT / "jobs").glob("[a-z]*.py")} - {"quickstart"}


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=ids)
def test_a_command_starts_as_written(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = job_call(command)
    if call:
        assert (ROOT / "jobs" / f"{call[0]}.py").exists()
        if len(call) > 1:
            configured(call[0], call[1:], monkeypatch)
        return
    words = shlex.split(command)
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert all(re.search(rf"^{target}:", MAKEFILE, re.M) for target in targets)
    elif words[0] == "pip":
        named = re.fullmatch(r"pip install -e \.(?:\[(\w+)\])?", " ".join(words))
        assert named, "only from the checkout, by path"
        assert named[1] is None or named[1] in EXTRAS
    elif words[0] == "curl":
        assert json.loads(words[words.index("-d") + 1])["reviews"]
    elif words[:2] in (["serve", "deploy"], ["streamlit", "run"], ["ray", "up"]):
        assert (ROOT / next(word for word in words[2:] if "." in word)).exists()
    elif words[:2] == ["python", "-c"]:
        compile(words[2], page, "exec")
    else:
        assert words[0] in ("git", "ray") or command in ("python -m jobs", "nunchi-reviews VERB")


def test_a_wrong_option_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="did you mean '--output'"):
        configured("analyze", ["--outptu", "x"], monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:ray_app|jobs|tests|deploy)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_snippets_compile(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"(?:^ {4}(?:from|import) .*\n(?:(?: {4}.*)?\n)*)", text, re.M):
        compile("\n".join(line[4:] for line in block.splitlines()), page.name, "exec")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8_192


@pytest.mark.parametrize(
    ("job", "old", "name", "value"),
    [
        ("acquire", "--labelled", "labels", "x"),
        ("acquire", "--reviews", "input", "x"),
        ("train_lm", "--data", "labels", "x"),
        ("evaluate_lm", "--data", "labels", "x"),
        ("pretrain", "--reviews", "input", ("x",)),
        ("pretrain", "--text-column", "columns", "text=x"),
        ("pretrain", "--rating-column", "columns", "rating=x"),
    ],
)
def test_former_names_of_options_are_understood(
    job: str, old: str, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    required = REQUIRED.get(job, [])
    _, config = configured(job, [*required, old, "x"], monkeypatch)
    assert getattr(config, name) == value


def test_one_thing_has_one_name_in_every_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reviews without labels are --input, labeled ones --labels, whatever is read of them --columns."""
    for path in (ROOT / "jobs").glob("[a-z]*.py"):
        required = REQUIRED.get(path.stem, [])
        _, config = configured(path.stem, required, monkeypatch)
        names = {field.name for field in fields(config) if field.metadata.get("group") != FORMER}
        assert not names & {"labelled", "labeled", "data", "reviews_path", "text_column", "rating_column"}, path
