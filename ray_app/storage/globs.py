"""Names and patterns of files, by the rules of the shell. In: paths. Out: whether they match, and what is hidden."""

import fnmatch
from collections.abc import Sequence

ANY_DEPTH = "**"


def split(uri: str) -> tuple[str, str]:
    """`folder/*.parquet` -> (`folder`, `*.parquet`); a path without wildcards has an empty pattern."""
    segments = uri.split("/")
    first = next((i for i, segment in enumerate(segments) if any(c in segment for c in "*?[")), len(segments))
    return "/".join(segments[:first]) or ("/" if uri.startswith("/") else "."), "/".join(segments[first:])


def select(names: Sequence[str], pattern: str) -> list[str]:
    """The names below a folder that match a pattern: `*` and `[12]` stay in their folder, `**` is any number of them.

    A pattern that matches no file but folders stands for all that lies below those, as a folder's name does.
    """
    parts = [part for part in pattern.split("/") if part]
    whole = [name for name in names if _matches(name.split("/"), parts, below=False)]
    if any(not hidden(pattern, name) for name in whole):
        return whole
    return [name for name in names if _matches(name.split("/"), parts, below=True)]


def hidden(uri: str, name: str) -> bool:
    """Whether a name of `filesystem.walk(uri)` is one that readers skip: a part begins with `.` or `_`.

    A part that a pattern spells out, such as `_x*`, is not hidden.
    """
    parts = [part for part in name.split("/") if part.startswith((".", "_"))]
    if not parts:
        return False
    spelled = [part for part in split(uri)[1].split("/") if part.startswith((".", "_"))]
    return any(not any(fnmatch.fnmatchcase(part, pattern) for pattern in spelled) for part in parts)


def _matches(names: Sequence[str], patterns: Sequence[str], below: bool) -> bool:
    """`below`: whether it is enough that a folder of the name matches."""
    if not patterns:
        return below or not names
    if patterns[0] == ANY_DEPTH:
        return len(patterns) == 1 or any(_matches(names[i:], patterns[1:], below) for i in range(len(names)))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:], below)
