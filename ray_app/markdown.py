"""Reports as Markdown: tables, and figures out of a nested report. Cells are escaped: review text stays text."""

from collections.abc import Iterable, Sequence

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\|`*_[]!#"} | {"<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "})


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
    return text.translate(_SPECIAL)
