"""Mistakes of the user, as one line that names the place and the remedy."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend: the message is one line that names the place and the remedy."""


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
