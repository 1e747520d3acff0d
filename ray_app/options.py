"""What an option of a step is: its default, help, bounds and old names, declared in one line of a frozen dataclass.

In: `class Config(Options)` with fields made by `option`. Out: an instance whose bounds hold, however it was made.
"""

import dataclasses
import operator
import os
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ray_app.errors import UserError, check, closest

REQUIRED: Any = dataclasses.MISSING
SEEDS = 2**32  # what every source of random numbers takes
FORMER = "Former options"  # a group that --help leaves out
_BOUNDS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "least": (operator.ge, "at least {:g}"),
    "most": (operator.le, "at most {:g}"),
    "above": (operator.gt, "above {:g}"),
    "below": (operator.lt, "below {:g}"),
}


def option(
    default: Any,
    help: str,  # noqa: A002
    group: str = "Options",
    choices: Sequence[str] | None = None,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    each: Collection[str] | None = None,
    common: bool = False,
    formerly: tuple[str, ...] = (),
    earlier: Any = dataclasses.MISSING,
) -> Any:
    """A field of a Config.

    Args:
        default: its value where none is given; REQUIRED for none.
        group: the heading it is listed under. `choices`: the allowed values.
        least, most, above, below: bounds of a number (or of each number of a list), checked by `Options`.
        each: the allowed values of a list's items; the hint `tuple[str, ...]` makes a list of `a,b`.
        common: listed first by `--help`. `formerly`: old names, still understood for one release.
        earlier: what releases did that had no such option, where that is not the default.
    """
    bounds = {"least": least, "most": most, "above": above, "below": below}
    before = default if earlier is dataclasses.MISSING else earlier
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "group": group,
            "choices": choices,
            "bounds": {name: bound for name, bound in bounds.items() if bound is not None},
            "each": each,
            "common": common or default is REQUIRED,
            "formerly": formerly,
            "earlier": before,
        },
    )


class Options:
    """Base of a Config: checks declared bounds, however it was made, and takes lists as `a,b` or as a sequence."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, os.PathLike):
                value = os.fspath(value)
                object.__setattr__(self, field.name, value)
            if typing.get_origin(hints[field.name]) is tuple:
                value = _items(field, typing.get_args(hints[field.name])[0], value)
                object.__setattr__(self, field.name, value)
            _check_bounds(field, value)
            _check_choice(field, value)


def as_dict(config: Any) -> dict[str, Any]:
    """The config as plain values, as it is saved beside every output."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(config).items()}


def former_names(config_type: type) -> dict[str, str]:
    """Old name -> name of every renamed option: what an earlier release saved is read with it."""
    return {old: field.name for field in dataclasses.fields(config_type) for old in field.metadata.get("formerly", ())}


def earlier_values(config_type: type) -> dict[str, Any]:
    """Per option the value that a config saved before the option existed stands for, as `as_dict` has values."""
    values = {f.name: f.metadata.get("earlier", f.default) for f in dataclasses.fields(config_type)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def flag(name: str) -> str:
    """A field's name as it is typed: `cpus_per_worker` -> `--cpus-per-worker`."""
    return "--" + name.replace("_", "-")


def _plain(item: Any) -> Any:
    return os.fspath(item) if isinstance(item, os.PathLike) else item


def _items(field: dataclasses.Field[object], kind: Callable[[str], Any], value: str | Iterable[Any]) -> tuple[Any, ...]:
    """`a,b` or a sequence as a tuple of the declared type, empty items left out."""
    parts = value.split(",") if isinstance(value, str) else [_plain(item) for item in value]
    words = [part.strip() if isinstance(part, str) else part for part in parts]
    try:
        items = tuple(kind(word) for word in words if word != "")
    except ValueError:
        raise UserError(f"{flag(field.name)} {value}: write numbers, separated by commas") from None
    each = field.metadata["each"]
    for item in items if each else ():
        check(item in each, f"{flag(field.name)} {item}: unknown{closest(str(item), each)}")
    return items


def _check_choice(field: dataclasses.Field[object], value: object) -> None:
    """Raises UserError where a value is none of those that the option has, as the command line does."""
    choices: Sequence[str] = field.metadata.get("choices") or ()
    known = ", ".join(choice for choice in choices if choice)
    check(not choices or value in choices, f"{flag(field.name)} {value}: write one of {known}")


def _check_bounds(field: dataclasses.Field[object], value: object) -> None:
    """Raises UserError naming the flag, the value and what is asked of it."""
    bounds: Mapping[str, float] = field.metadata.get("bounds", {})
    said = " and ".join(_BOUNDS[name][1].format(bound) for name, bound in bounds.items())
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (int, float)):
            holds = all(_BOUNDS[name][0](number, bound) for name, bound in bounds.items())
            check(holds, f"{flag(field.name)} {number}: {said.replace('at least 0', '0 or more')}")
