"""A row that breaks the model is set aside, and its neighbours are analysed.

One that raises is found by halving. One that kills its process (a crash, out of memory) cannot be caught: a note says
what was being tried, so that whoever comes after the dead process tries smaller pieces, down to the one row.

    OUT/_tries/<unit>.<stages>.json    {"deaths", "trying": [first, rows], "alone": {row: deaths}}
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from ray_app import storage
from ray_app.errors import first_line

DEATHS = 2  # of a whole unit before it is tried in pieces, and of one row alone before it is given up
PIECE = 64  # rows: a unit of 2,000 takes some 30 notes to find the piece, and at most 64 more to find the row
PLAIN = "좋아요"  # a review no model fails on, unless it fails on all

Run = Callable[[pa.Table], pa.Table]
Bad = dict[int, str]  # row of the table -> why it was set aside


def run_isolating_failures(run: Run, table: pa.Table) -> tuple[list[pa.Table], Bad]:
    """`run` over the table's rows; those on which alone it raises are left out, with the reason.

    Raises whatever `run` raises where it fails on a plain review too: that is no fault of the rows.
    """
    try:
        return [run(table)], {}
    except Exception as error:
        if len(table) == 1:
            _plainly(run, table, error)
            return [], {0: f"the model fails on it: {first_line(error)}"}
    half = len(table) // 2
    first, bad = run_isolating_failures(run, table.slice(0, half))
    second, more = run_isolating_failures(run, table.slice(half))
    return first + second, {**bad, **{half + row: reason for row, reason in more.items()}}


def _plainly(run: Run, table: pa.Table, error: Exception) -> None:
    at = table.column_names.index("text")
    try:
        run(table.set_column(at, "text", pa.array([PLAIN])))
    except Exception:
        raise error from None


@dataclass
class CrashJournal:
    """What is known of a unit that processes died on; kept at `uri` while it is tried."""

    uri: str
    deaths: int = 0
    alone: dict[str, int] = field(default_factory=dict)

    def run(self, run: Run, table: pa.Table) -> tuple[list[pa.Table], Bad]:
        """`analysed`, whole at first; in pieces, each noted before it is tried, once processes died on the unit."""
        self._recall()
        if self.deaths < DEATHS:
            self._note([0, len(table)])
            found = run_isolating_failures(run, table)
        else:
            found = self._pieces(run, table)
        storage.remove(self.uri)
        return found

    def _pieces(self, run: Run, table: pa.Table) -> tuple[list[pa.Table], Bad]:
        tables: list[pa.Table] = []
        bad: Bad = {}
        for first, rows in self._ranges(len(table)):
            if rows == 1 and self.alone.get(str(first), 0) >= DEATHS:
                bad[first] = "the process that analyses it dies"
                continue
            self._note([first, rows])
            some, why = run_isolating_failures(run, table.slice(first, rows))
            tables += some
            bad |= {first + row: reason for row, reason in why.items()}
        return tables, bad

    def _ranges(self, total: int) -> list[tuple[int, int]]:
        """Pieces, and single rows where a process died on the piece."""
        ranges = []
        for first in range(0, total, PIECE):
            rows = min(PIECE, total - first)
            single = any(str(row) in self.alone for row in range(first, first + rows))
            ranges += [(row, 1) for row in range(first, first + rows)] if single else [(first, rows)]
        return ranges

    def _recall(self) -> None:
        """Reads what a dead process left: it died on what it was trying."""
        if not storage.exists(self.uri):
            return
        left = storage.read_json(self.uri)
        self.deaths, self.alone = left["deaths"] + 1, left["alone"]
        first, rows = left["trying"]
        if left["deaths"] >= DEATHS:
            died = {str(first): self.alone.get(str(first), 0) + 1} if rows == 1 else {str(first): 0}
            self.alone |= died

    def _note(self, trying: list[int]) -> None:
        note = {"deaths": self.deaths, "trying": trying, "alone": self.alone}
        storage.write_bytes(self.uri, json.dumps(note).encode())
