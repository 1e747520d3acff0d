"""Reports as Markdown: tables, and figures out of a nested report. Cells are escaped: review text stays text."""

import re
from collections.abc import Iterable, Sequence

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_SPECIAL = str.maketrans(
    {c: f"\\{c}" for c in "\\|`*_[]!#~@$"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\0": ""}
    | dict.fromkeys(_LINE_ENDS, " ")
)
_LINK = re.compile(r"(?i)(?<=\bwww)\.|:(?=//)")  # what some renderers make a link of without being told to
_LIST = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+=](?:[-+=\s]|$)))")  # begins a list, or underlines a heading


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table; a float has three decimals, None is an empty cell. Cells are Markdown already: see `escape`."""
    lines = [header, *([number(cell) for cell in row] for row in rows)]
    shown = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    return [shown[0], "|" + " --- |" * len(header), *shown[1:]]


def number(value: object) -> str:
    """A cell: three decimals for a float, thousands for an integer, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def look_up(report: object, path: Sequence[str]) -> object:
    """The value under these keys of nested dicts, None where one is missing."""
    for key in path:
        report = report.get(key) if isinstance(report, dict) else None
    return report


def escape(text: str) -> str:
    """Text of strangers as plain words of a line: no markup, no new cell, no new line."""
    line = _LINK.sub(r"\\\g<0>", text.translate(_SPECIAL)).strip()
    return _LIST.sub(r"\1\\", line)
