"""A frozen dataclass becomes a command line: flags in groups, a YAML file under them, one clear line for a mistake.

In: the step's `Config` class (fields made with `option`). Out: a validated instance, or exit code 2 and one line.
"""

import argparse
import dataclasses
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ray_app.errors import UserError, check, closest

T = TypeVar("T")
Verb = tuple[type[Any], Callable[[Any], object], str]  # a sub-command: its Config, what runs it, its description
REQUIRED: Any = dataclasses.MISSING
FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130


def option(default: Any, help: str, group: str = "Options", choices: Sequence[str] | None = None) -> Any:  # noqa: A002
    """A field of a Config: its default (REQUIRED for none), help line, the group it is listed in, allowed values."""
    return dataclasses.field(default=default, metadata={"help": help, "group": group, "choices": choices})


def as_dict(config: Any) -> dict[str, Any]:
    """The config as plain values, as it is saved beside every output."""
    return dataclasses.asdict(config)


def parse(config_type: type[T], arguments: Sequence[str], program: str, description: str) -> T:
    """Command line -> config. `--config file.yaml` sets any option; flags win over it. Raises UserError."""
    parser = _parser(config_type, program, description)
    known = [f.name for f in dataclasses.fields(config_type)]  # type: ignore[arg-type]
    flags, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        name = unknown[0].split("=")[0].replace("_", "-")
        raise UserError(f"unknown argument {unknown[0]!r}{closest(name, ['--config', *map(_flag, known)])}")
    values = {k: v for k, v in vars(flags).items() if k in known}
    if flags.config:
        values = _from_file(config_type, parser, flags.config) | values
    missing = [
        f.name
        for f in dataclasses.fields(config_type)  # type: ignore[arg-type]
        if f.name not in values and f.default is REQUIRED
    ]
    check(not missing, f"missing {', '.join(_flag(name) for name in missing)}; see {program} --help")
    return config_type(**values)


def main(config_type: type[T], run: Callable[[T], object], description: str, **verbs: Verb) -> None:
    """What every `jobs/x.py` does: parse, run, and turn a user's mistake into one line and a non-zero exit.

    `verbs` are sub-commands with options of their own: `python -m jobs.x NAME …`. `run` may return an int, which
    becomes the exit code; anything else exits 0.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # threads that spin for long stall on a shared machine
    try:
        code = _command(verbs, sys.argv[1:], (config_type, run, description))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_USAGE)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `| head` closed our stdout: not a mistake, and no traceback at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _command(verbs: dict[str, Verb], arguments: list[str], default: Verb) -> object:
    """Runs the sub-command that the first argument names, else the job itself."""
    program = f"python -m jobs.{Path(sys.argv[0]).stem}"
    first = arguments[0] if arguments else ""
    if first in verbs:
        config_type, run, description = verbs[first]
        return run(parse(config_type, arguments[1:], f"{program} {first}", description))
    known = {name: verb[2].strip().partition("\n")[0] for name, verb in verbs.items()}
    check(not verbs or not first or first[0] == "-", f"unknown sub-command {first!r}{closest(first, known)}")
    config_type, run, description = default
    listed = "".join(f"\n  {program} {name} --help: {summary}" for name, summary in known.items())
    return run(parse(config_type, arguments, program, description.rstrip() + (f"\nalso:{listed}" if listed else "")))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _parser(config_type: type, program: str, description: str) -> argparse.ArgumentParser:
    summary, _, example = description.strip().partition("\n\n")
    parser = _Parser(
        prog=program,
        description=summary,
        epilog=example,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE.yaml", help="YAML file that sets any option; flags win over it")
    groups: dict[str, Any] = {}
    hints = typing.get_type_hints(config_type)
    for field in dataclasses.fields(config_type):
        name = field.metadata["group"]
        group = groups.setdefault(name, parser.add_argument_group(name) if name not in groups else None)
        _add(group, field, hints[field.name])
    return parser


def _add(group: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    shown = {REQUIRED: "required", None: "automatic", "": "none"}.get(field.default, field.default)
    settings: dict[str, Any] = {
        "dest": field.name,
        "default": argparse.SUPPRESS,
        "help": f"{field.metadata['help']} ({shown})".replace("%", "%%"),
    }
    if hint is bool:
        group.add_argument(_flag(field.name), action=argparse.BooleanOptionalAction, **settings)
        return
    kind = next((t for t in (int, float) if t in (hint, *typing.get_args(hint))), str)
    choices = field.metadata["choices"]
    metavar = None if choices else {int: "N", float: "X", str: "TEXT"}[kind]
    group.add_argument(_flag(field.name), type=kind, choices=choices, metavar=metavar, **settings)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _from_file(config_type: type, parser: argparse.ArgumentParser, path: str) -> dict[str, Any]:
    """A YAML file's options, checked and converted by the same parser as the flags."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--config {path}: {' '.join(str(error).split())}") from None
    check(isinstance(content, dict), f"--config {path}: expected `name: value` lines")
    known = {f.name: f for f in dataclasses.fields(config_type)}
    arguments: list[str] = []
    for key, value in content.items():
        name = str(key).replace("-", "_")
        check(name in known, f"--config {path}: unknown option {key!r}{closest(name, known)}")
        if isinstance(value, bool):
            arguments.append(_flag(name) if value else "--no-" + _flag(name)[2:])
        elif value is not None:
            arguments.append(f"{_flag(name)}={value}")
    try:
        return {k: v for k, v in vars(parser.parse_args(arguments)).items() if k in known}
    except UserError as error:
        raise UserError(f"--config {path}: {error}") from None
