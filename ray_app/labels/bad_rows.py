"""What is wrong with the rows of a file, all of it at once. In: bad rows. Out: the text of one error.

A problem that many rows have is said once, with the first of them; at most SHOWN problems are listed.
"""

from collections.abc import Sequence
from typing import NamedTuple

SHOWN = 10  # problems that are listed
PLACES = 5  # rows of one problem that are named
DROP = " (or --on-bad-label drop)"


class BadRow(NamedTuple):
    """A row, `FILE row N`, and what is wrong with it."""

    location: str
    problem: str


def report(bad: Sequence[BadRow], unknown: str = "", remedy: str = DROP) -> str:
    """The first bad row as one line with the remedy; below it the others, problem by problem.

    `unknown`: what to add for an unknown keyword.
    """
    first = bad[0]
    hint = unknown if first.problem.startswith("unknown keyword") else ""
    lines = [f"{first.location}: {first.problem}{hint}{remedy}"]
    if len(bad) == 1:
        return lines[0]
    places: dict[tuple[str, str], list[str]] = {}
    for each in bad:
        file, _, number = each.location.rpartition(" row ")
        places.setdefault((file, each.problem), []).append(number)
    lines.append(f"all {len(bad):,} bad rows:")
    listed = list(places.items())
    lines += [f"  {file} row {_numbers(rows)}: {problem}" for (file, problem), rows in listed[:SHOWN]]
    left = sum(len(rows) for _, rows in listed[SHOWN:])
    return "\n".join([*lines, *([f"  and {left:,} more rows"] if left else [])])


def _numbers(rows: Sequence[str]) -> str:
    """`3, 7, 9 and 12 more`."""
    more = f" and {len(rows) - PLACES:,} more" if len(rows) > PLACES else ""
    return ", ".join(rows[:PLACES]) + more
