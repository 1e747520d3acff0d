"""A Config becomes a command line: common options first, a YAML file under them, one clear line for a mistake.

In: the step's `Config` class (see `options.py`). Out: a validated instance, or exit code 2 and one line.
Results go to stdout; notes and progress go through `logging` to stderr, so that a library call prints nothing.
"""

import argparse
import dataclasses
import logging
import os
import shlex
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ray_app import yaml_text
from ray_app.errors import DeviceError, UserError, check, closest, interpreter, no_package, no_space
from ray_app.options import FORMER, REQUIRED, flag, former_names

T = TypeVar("T")
Verb = tuple[type[Any], Callable[[Any], object], str]  # a sub-command: its Config, what runs it, its description
FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130
FEW = 12  # a Config with no more options than this shows all of them at once


def parse(config_type: type[T], arguments: Sequence[str], program: str, description: str) -> T:
    """Command line -> config. `--config file.yaml` sets any option; flags win over it. Raises UserError."""
    parser = _parser(config_type, program, description)
    known = [f.name for f in dataclasses.fields(config_type)]  # type: ignore[arg-type]
    flags, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        name = unknown[0].split("=")[0].replace("_", "-")
        raise UserError(f"unknown argument {unknown[0]!r}{closest(name, ['--config', *map(flag, known)])}")
    values = {k: v for k, v in vars(flags).items() if k in known}
    if flags.config:
        values = _read_file(config_type, flags.config) | values
    missing = [
        f.name
        for f in dataclasses.fields(config_type)  # type: ignore[arg-type]
        if f.name not in values and f.default is REQUIRED
    ]
    check(not missing, f"missing {', '.join(flag(name) for name in missing)}; see {program} --help")
    return config_type(**values)


def read_options(config_type: type, text: str, place: str) -> dict[str, Any]:
    """YAML -> the options it sets, checked and converted as flags are. Errors name `place`."""
    content = yaml_text.read(text, place) or {}
    if not isinstance(content, dict):
        raise UserError(f"{place}: expected `name: value` lines")
    known = [field.name for field in dataclasses.fields(config_type)]
    former = former_names(config_type)
    arguments: list[str] = []
    for key, value in content.items():
        name = former.get(str(key).replace("-", "_"), str(key).replace("-", "_"))
        check(name in known, f"{place}: unknown option {key!r}{closest(name, known)}")
        arguments += _as_flags(name, value)
    try:
        values = vars(_parser(config_type, "", "").parse_args(arguments))
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    return {name: value for name, value in values.items() if name in known}


def main(config_type: type[T], run: Callable[[T], object], description: str, **verbs: Verb) -> None:
    """What every `jobs/x.py` does: parse, run, and turn a user's mistake into one line and a non-zero exit.

    `verbs` are sub-commands with options of their own: `python -m jobs.x NAME …`. `run` may return an int, which
    becomes the exit code; anything else exits 0.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # threads that spin for long stall on a shared machine
    log_to_stderr()
    try:
        code = _command(verbs, sys.argv[1:], (config_type, run, description))
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        sys.exit(BAD_USAGE)
    except ModuleNotFoundError as error:
        print(f"error: {no_package(error)}", file=sys.stderr)
        sys.exit(BAD_USAGE)
    except DeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except Exception as error:  # safetensors, DuckDB and Ray each have errors of their own for a full disk
        if isinstance(error, BrokenPipeError):  # `| head` closed our stdout: not a mistake, and no traceback at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if not no_space(error):
            raise
        print(f"error: {no_space(error)}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def log_to_stderr() -> None:
    """Notes and progress of this package as plain lines on stderr; once, however often it is called."""
    logger = logging.getLogger("ray_app")
    if not logger.handlers:
        logger.addHandler(_Stderr())
        logger.setLevel(logging.INFO)


def next_command(job: str, **options: object) -> str:
    """A command that works as printed: with the interpreter that runs, from the folder this was started in.

    `job` may name a sub-command too; options that are empty or False are left out.
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False and value != ""}
    flags = [
        flag(name) if value is True else f"{flag(name)} {shlex.quote(str(value))}" for name, value in given.items()
    ]
    return " ".join([interpreter(), "-m", f"jobs.{job}", *flags])


def _command(verbs: dict[str, Verb], arguments: list[str], default: Verb) -> object:
    """Runs the sub-command that the first argument names, else the job itself."""
    program = f"python -m jobs.{Path(sys.argv[0]).stem}"
    first = arguments[0] if arguments else ""
    if first == "--version":
        from ray_app import __version__

        return print(f"nunchi {__version__}")
    if first in verbs:
        config_type, run, description = verbs[first]
        return run(parse(config_type, arguments[1:], f"{program} {first}", description))
    known = {name: verb[2].strip().partition("\n")[0] for name, verb in verbs.items()}
    check(not verbs or not first or first[0] == "-", f"unknown sub-command {first!r}{closest(first, known)}")
    config_type, run, description = default
    listed = "".join(f"\n  {program} {name} --help: {summary}" for name, summary in known.items())
    return run(parse(config_type, arguments, program, description.rstrip() + (f"\nalso:{listed}" if listed else "")))


def visible(line: str) -> str:
    """What a file's or an endpoint's own words cannot do to a terminal: control characters and such that turn the
    direction of writing are shown as escapes. New lines of ours stay."""
    return "".join(ch if ch.isprintable() or ch == "\n" else ch.encode("unicode_escape").decode() for ch in line)


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(visible(self.format(record)), file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


class _Listed(argparse.Action):
    """An option that takes several values: `--x a --x b` is `--x a,b`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, f"{before},{values}" if before else values)


class _Former(argparse.Action):
    """An option's old name: it still sets the option, and says the new name."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        logging.getLogger(__name__).warning("note: %s is now called %s", option_string, flag(self.dest))
        setattr(namespace, self.dest, values)


def _parser(config_type: type, program: str, description: str) -> argparse.ArgumentParser:
    summary, _, example = description.strip().partition("\n\n")
    fields = dataclasses.fields(config_type)
    parser = _Parser(
        prog=program,
        usage=f"{program} [options]" if program else None,
        description=summary,
        epilog=example,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    few = len(fields) <= FEW or not any(field.metadata["common"] for field in fields)
    hints = typing.get_type_hints(config_type)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for field in sorted(fields, key=lambda field: not (few or field.metadata["common"])):
        common = few or field.metadata["common"]
        name = field.metadata["group"] if few else "Common" if common else f"More: {field.metadata['group']}"
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        _add(groups[name], field, hints[field.name])
    parser.add_argument("--config", metavar="FILE.yaml", help="YAML file that sets any option; flags win over it")
    return parser


def _add(group: argparse._ArgumentGroup, field: dataclasses.Field[object], hint: object) -> None:
    shown = {REQUIRED: "required", None: "automatic", "": "none", (): "none"}.get(field.default, field.default)
    if isinstance(shown, bool):
        shown = "on" if shown else "off"
    elif isinstance(shown, tuple):
        shown = ",".join(map(str, shown))
    settings: dict[str, Any] = {
        "dest": field.name,
        "default": argparse.SUPPRESS,
        "help": f"{field.metadata['help']} ({shown})".replace("%", "%%"),
    }
    if field.metadata["group"] == FORMER:
        settings["help"] = argparse.SUPPRESS
    if hint is bool:
        group.add_argument(flag(field.name), action=argparse.BooleanOptionalAction, **settings)
        return
    several = typing.get_origin(hint) is tuple
    kind = str if several else next((t for t in (int, float) if t in (hint, *typing.get_args(hint))), str)
    choices = field.metadata["choices"]
    if several:
        settings["action"] = _Listed
    metavar = None if choices else "A,B,…" if several else {int: "N", float: "X", str: "TEXT"}[kind]
    group.add_argument(flag(field.name), type=kind, choices=choices, metavar=metavar, **settings)
    hidden = settings | {"help": argparse.SUPPRESS, "action": _Former}
    for old in field.metadata["formerly"]:
        group.add_argument(flag(old), type=kind, choices=choices, **hidden)


def _as_flags(name: str, value: object) -> list[str]:
    """A YAML value as the flag that says the same; none for null."""
    if isinstance(value, bool):
        return [flag(name) if value else "--no-" + flag(name)[2:]]
    if isinstance(value, list):
        return [f"{flag(name)}={','.join(map(str, value))}"]
    return [] if value is None else [f"{flag(name)}={value}"]


def _read_file(config_type: type, path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: {' '.join(str(error).split())}") from None
    return read_options(config_type, text, f"--config {path}")
