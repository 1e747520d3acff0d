"""config: a command line and a YAML file become a checked Config, and a mistake becomes one line."""

import json
import logging
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from jobs.__main__ import verbs
from ray_app import __version__
from ray_app.cli import _Stderr, log_to_stderr, main, next_command, parse, read_options, visible
from ray_app.errors import UserError, check
from ray_app.options import REQUIRED, Options, as_dict, option
from tests.support.paths import ROOT

JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("[a-z]*.py"))
WITHOUT_HEAVY = """
import runpy, sys
sys.argv = [{job!r}, "--help"]
try:
    runpy.run_module("jobs." + {job!r}, run_name="__main__")
except SystemExit as stop:
    assert not stop.code
assert not {{"torch", "ray", "transformers"}} & set(sys.modules)
"""


@dataclass(frozen=True)
class Config:
    labels: str = option(REQUIRED, "labelled reviews", "Data")
    output_folder: str = option("runs/x", "folder to write", "Data")
    epochs: int = option(4, "passes; 10% is warm-up", "Training")
    learning_rate: float | None = option(None, "peak rate", "Training")
    device: str = option("auto", "where to run", "Training", ("auto", "cpu"))
    compile: bool = option(True, "compile the model", "Training")

    def __post_init__(self) -> None:
        check(self.epochs > 0, f"--epochs {self.epochs}: at least 1")


def parsed(*arguments: str) -> Config:
    return parse(Config, arguments, "python -m jobs.x", "Labels -> x.\n\nexample: python -m jobs.x")


def yaml_file(folder: Path, content: str | bytes) -> str:
    path = folder / "x.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_defaults_fill_what_is_not_given() -> None:
    assert parsed("--labels", "a.parquet") == Config("a.parquet", "runs/x", 4, None, "auto", True)


def test_flags_become_values_of_the_declared_type() -> None:
    config = parsed("--labels=a", "--output-folder", "b", "--epochs=2", "--learning-rate", "3e-5", "--no-compile")
    assert config == Config("a", "b", 2, 3e-5, "auto", False)
    assert as_dict(config)["learning_rate"] == 3e-5


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = yaml_file(
        tmp_path, "labels: a\noutput-folder: 리뷰\nepochs: 9\nlearning_rate: 3e-5\ncompile: false\ndevice:\n"
    )
    assert parsed("--config", path, "--epochs", "2") == Config("a", "리뷰", 2, 3e-5, "auto", False)
    assert parsed("--config", path, "--compile").compile is True


@pytest.mark.parametrize("content", ["", "compile: true\n", "# nothing\n"])
def test_file_need_not_set_anything_the_flags_set(tmp_path: Path, content: str) -> None:
    assert parsed("--labels", "a", "--config", yaml_file(tmp_path, content)) == Config("a")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("lables: a", ["unknown option 'lables'", "did you mean 'labels'"]),
        ("zzz: a", ["unknown option 'zzz'", "known: labels, output_folder"]),
        ("labels: [a", ["expected ',' or ']'", "line 1"]),
        ("- labels", ["expected `name: value` lines"]),
        ("epochs: many", ["--epochs", "'many'"]),
        ("epochs: 2.5", ["--epochs", "2.5"]),
        ("compile: maybe", ["--compile", "maybe"]),
        ("epochs: true", ["--epochs"]),
        ("epochs: false", ["--no-epochs"]),
        ("device: tpu", ["--device", "'tpu'", "cpu"]),
        ("labels: 리뷰".encode("cp949"), ["utf-8"]),
    ],
)
def test_mistake_in_the_file_names_the_file(tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    path = yaml_file(tmp_path, content)
    with pytest.raises(UserError) as caught:
        parsed("--config", path)
    assert str(caught.value).startswith(f"--config {path}: ")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["missing --labels", "jobs.x --help"]),
        (["--labels", "a", "--epoch", "3"], ["'--epoch'", "did you mean '--epochs'"]),
        (["--labels", "a", "--output_foldr=3"], ["'--output_foldr=3'", "'--output-folder'"]),
        (["--labels", "a", "--zzz"], ["'--zzz'", "known: --config, --labels, --output-folder"]),
        (["a.parquet"], ["unknown argument 'a.parquet'"]),
        (["--labels"], ["--labels", "expected one argument"]),
        (["--labels", "a", "--epochs", "two"], ["--epochs", "'two'"]),
        (["--labels", "a", "--device", "tpu"], ["--device", "'tpu'"]),
        (["--labels", "a", "--epochs", "0"], ["--epochs 0: at least 1"]),
        (["--config", "nowhere.yaml"], ["--config nowhere.yaml", "No such file"]),
    ],
)
def test_mistake_on_the_command_line_is_one_line_with_the_remedy(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parsed(*arguments)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_help_lists_groups_defaults_and_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parsed("--help")
    usage, shown = capsys.readouterr().out.split("\n\n", 1)
    assert (stop.value.code, usage) == (0, "usage: python -m jobs.x [options]")
    assert shown.index("Data:") < shown.index("--output-folder") < shown.index("Training:") < shown.index("--epochs")
    assert "10% is warm-up (4)" in shown
    assert "(required)" in shown
    assert "(automatic)" in shown
    assert "--no-compile" in shown
    assert shown.rstrip().endswith("example: python -m jobs.x")


def failing(_: Config) -> int:
    raise UserError("labels.csv row 3: no labels")


def interrupted(_: Config) -> int:
    raise KeyboardInterrupt


def fills_the_disk(_: Config) -> int:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("arguments", "run", "code", "said"),
    [
        (["--labels", "a"], lambda config: None, 0, ""),
        (["--labels", "a"], fills_the_disk, 1, "error: no space left on the disk: free some and run again\n"),
        (["--labels", "a"], lambda config: 3, 3, ""),
        (["--labels", "a"], failing, 2, "error: labels.csv row 3: no labels\n"),
        (["--labels", "a"], interrupted, 130, "interrupted\n"),
        (["--labels", "a", "--epochs", "x"], failing, 2, "python -m jobs.x --help\n"),
    ],
)
def test_main_exits_with_a_code_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    run: object,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/x.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        main(Config, run, "x")  # type: ignore[arg-type]
    written = capsys.readouterr().err
    assert (stop.value.code, written.endswith(said), written.count("\n")) == (code, True, bool(said))


@dataclass(frozen=True)
class Other:
    rounds: int = option(2, "rounds to play", "Play")


def play(config: Other) -> int:
    return 10 + config.rounds


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--labels", "a"], 3, ""),
        (["play"], 12, ""),
        (["play", "--rounds", "5"], 15, ""),
        (["play", "--labels", "a"], 2, "unknown argument '--labels'; known: --config, --rounds\n"),
        (["play", "--rounds", "x"], 2, "python -m jobs.x play --help\n"),
        (["plya", "--rounds", "5"], 2, "error: unknown sub-command 'plya'; did you mean 'play'?\n"),
        ([], 2, "missing --labels; see python -m jobs.x --help\n"),
    ],
)
def test_a_sub_command_has_options_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/x.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        main(Config, lambda config: 3, "x", play=(Other, play, "Rounds -> a code."))
    written = capsys.readouterr().err
    assert (stop.value.code, written.endswith(said), written.count("\n")) == (code, True, bool(said))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "\nalso:\n  python -m jobs.x play --help: Rounds -> a code.\n"),
        (["play", "--help"], "usage: python -m jobs.x play [options]"),
    ],
)
def test_help_lists_the_sub_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], shown: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/x.py", *arguments])
    with pytest.raises(SystemExit):
        main(Config, failing, "x\n\nexample: x\n", play=(Other, play, "Rounds -> a code.\n\nexample: y"))
    assert shown in capsys.readouterr().out


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--labels", "a"])
    with pytest.raises(ZeroDivisionError):
        main(Config, lambda config: 1 // 0, "x")


def test_closed_pipe_is_no_error() -> None:
    script = (
        "import sys\nfrom tests.test_cli import Config\nfrom ray_app.cli import main\n"
        "sys.argv = ['x', '--labels', 'a']\nmain(Config, lambda c: [print('x' * 9999) for _ in range(999)], 'x')"
    )
    shell = f'"{sys.executable}" -c "$SCRIPT" | head -c 1'
    done = subprocess.run(
        ["bash", "-c", shell], cwd=ROOT, env={"SCRIPT": script, "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert (done.stdout, done.stderr) == (b"x", b"")


@pytest.mark.parametrize("job", JOBS)
def test_help_of_a_job_needs_neither_torch_nor_ray(job: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HEAVY.format(job=job)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.match(rf"usage: python -m jobs\.{job} ", done.stdout)
    assert f"example: python -m jobs.{job}" in done.stdout


@dataclass(frozen=True, kw_only=True)
class Declared(Options):
    """A Config whose fields say what is allowed."""

    rounds: int = option(2, "rounds", least=1, most=9, formerly=("turns",), common=True)
    share: float = option(0.5, "share", above=0, below=1)
    names: tuple[str, ...] = option(("a",), "names", each=("a", "b"))
    sizes: tuple[int, ...] = option((), "sizes", least=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "--rounds 0: at least 1 and at most 9"),
        ({"rounds": 10}, "--rounds 10: at least 1 and at most 9"),
        ({"share": 1.0}, "--share 1.0: above 0 and below 1"),
        ({"names": ("a", "c")}, "--names c: unknown; known: a, b"),
        ({"names": "a,bb"}, "--names bb: unknown; did you mean 'b'?"),
        ({"sizes": "1,x"}, "--sizes 1,x: write numbers, separated by commas"),
        ({"sizes": (3, 0)}, "--sizes 0: at least 1"),
    ],
)
def test_declared_bounds_hold_however_a_config_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        Declared(**options)


def test_a_list_is_written_with_commas_in_yaml_as_a_list_and_in_python_as_either(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, "names: [a, b]\nsizes: 3, 4\n")
    config = parse(Declared, ["--config", path], "x", "")
    assert (
        config == Declared(names=("a", "b"), sizes=(3, 4)) == parse(Declared, ["--names=a, b,", "--sizes=3,4"], "x", "")
    )
    assert as_dict(config) == {"rounds": 2, "share": 0.5, "names": ["a", "b"], "sizes": [3, 4]}
    assert read_options(Declared, json.dumps(as_dict(config)), "saved") == {
        "rounds": 2,
        "share": 0.5,
        "names": "a,b",
        "sizes": "3,4",
    }


def test_an_old_name_is_understood_and_says_the_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    assert parse(Declared, ["--turns", "5"], "x", "").rounds == 5
    assert "note: --turns is now called --rounds" in capsys.readouterr().err
    assert parse(Declared, ["--config", yaml_file(tmp_path, "turns: 7")], "x", "").rounds == 7
    with pytest.raises(UserError, match="--rounds 0"):
        parse(Declared, ["--turns", "0"], "x", "")


@dataclass(frozen=True, kw_only=True)
class Large(Options):
    """More options than one looks at."""

    first: int = option(0, "first of all", "Data", common=True)
    rest: int = option(0, "seldom", "Data", formerly=("remains",))
    a: int = option(0, "a", "Model")
    b: int = option(0, "b", "Model")
    c: int = option(0, "c", "Model")
    d: int = option(0, "d", "Model")
    e: int = option(0, "e", "Model")
    f: int = option(0, "f", "Model")
    g: int = option(0, "g", "Model")
    h: int = option(0, "h", "Model")
    i: int = option(0, "i", "Model")
    j: int = option(0, "j", "Model")
    k: int = option(0, "k", "Model")


def test_help_shows_the_common_options_first_and_no_old_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Large, ["--help"], "x", "")
    shown = capsys.readouterr().out
    assert shown.index("Common:") < shown.index("--first") < shown.index("More: Data:") < shown.index("--rest")
    assert "--remains" not in shown


def test_the_verbs_are_listed_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobs", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    listed = run()
    assert [line.split()[0] for line in listed.stdout.splitlines()[2:-2]] == verbs()
    assert set(verbs()) == set(JOBS)
    assert run("--version").stdout == f"nunchi {__version__}\n"
    unknown = run("analyse")
    assert (unknown.returncode, unknown.stderr) == (2, "error: unknown verb 'analyse'; did you mean 'analyze'?\n")
    assert run("train-lm", "--help").stdout.startswith("usage: python -m jobs.train_lm [options]")


@pytest.mark.parametrize("verb", verbs())
def test_another_python_gets_one_line(verb: str) -> None:
    """An interpreter without our dependencies, as a system's own."""
    command = [sys.executable, "-S", "-m", f"jobs.{verb.replace('-', '_')}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error: \S+ has no package \w+: run `make setup` once, then use .*\n", done.stderr)


def test_a_next_command_names_the_interpreter_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(Path.cwd() / ".venv" / "bin" / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    line = next_command("serve", bundle="my runs/b", page=True, page_port=9, host="", insecure=False)
    assert line == ".venv/bin/python -m jobs.serve --bundle 'my runs/b' --page --page-port 9"


def test_what_a_file_says_does_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Its names may clear the screen, begin a line that looks like ours, or turn the direction of writing."""
    assert visible("열 \x1b[2J\r\u202e배송\tx") == "열 \\x1b[2J\\r\\u202e배송\\tx"
    handler = _Stderr()
    handler.emit(logging.LogRecord("ray_app", logging.WARNING, "", 0, "a file named %s", ("\x1b]0;x\x07",), None))
    assert capsys.readouterr().err == "a file named \\x1b]0;x\\x07\n"


def test_an_option_from_python_is_checked_as_a_flag_is() -> None:
    from ray_app.training.classifier_options import Config as TrainConfig

    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"precision": "fp16"}, "--precision fp16: write one of auto, fp32, bf16"),
        ({"seed": -1}, "--seed -1: 0 or more"),
        ({"seed": 2**70}, "--seed .*below"),
    )
    for wrong, words in cases:
        with pytest.raises(UserError, match=words):
            TrainConfig(**wrong)
