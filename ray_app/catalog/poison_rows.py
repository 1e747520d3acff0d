"""A row that breaks the model is rejected, and its neighbors are analyzed.

A row that raises is found by halving. One that kills its process (a crash, out of memory) cannot be caught: a journal
records what is being tried, so that the process that replaces a dead one tries smaller pieces, down to the one row.
What no row causes (a lost GPU, an interrupt, a model that fails on everything) takes its note back.

    OUT/_tries/<unit>.<stages>.json    {"deaths", "trying": [first, rows] or [], "alone": {row: deaths}, "ended"}
"""

import json
from dataclasses import dataclass, field

import pyarrow as pa

from ray_app import storage
from ray_app.data.halving import Reasons, Run, isolate
from ray_app.errors import DeviceError, check, first_line

DEATHS = 2  # of a whole unit before it is tried in pieces, and of a row on its own before it is given up
PIECE = 64  # rows: a unit of 2,000 takes some 30 writes to find the piece, and at most 64 more to find the row
BARREN = 5  # processes, one after the other, that a plain review ends: the next would fare no better
PLAIN = "좋아요"  # a review that only a broken model fails on


def run_isolating_failures(run: Run, table: pa.Table) -> tuple[list[pa.Table], Reasons]:
    """Runs `run` over the table's rows; rows on which it raises even alone are left out.

    Returns what `run` returned, in pieces and in order, and the reason for each row left out. Raises whatever `run`
    raises where it fails on a plain review too: then the rows are not at fault.
    """

    def failed(row: pa.Table, error: BaseException) -> str:
        _raise_if_model_is_broken(run, row, error)
        return f"the model fails on it: {first_line(error)}"

    return isolate(run, table, failed)


def _raise_if_model_is_broken(run: Run, table: pa.Table, error: BaseException) -> None:
    """Raises `error` where `run` fails on a plain review in place of the table's one text."""
    try:
        run(_with_plain_text(table))
    except DeviceError:  # nor is this review
        raise
    except Exception:
        raise error from None


def _with_plain_text(row: pa.Table) -> pa.Table:
    from ray_app.inference.graph_columns import without_tokens  # not for processes that only read and write

    return without_tokens(row.set_column(row.column_names.index("text"), "text", pa.array([PLAIN])))


@dataclass
class CrashJournal:
    """How often processes died on a unit, and on what; kept at `uri` while the unit is tried.

    `ended`: how many in a row a plain review ended, which no row is blamed for.
    """

    uri: str
    deaths: int = 0
    alone: dict[str, int] = field(default_factory=dict)
    ended: int = 0

    def run(self, run: Run, table: pa.Table) -> tuple[list[pa.Table], Reasons]:
        """`run_isolating_failures` over the whole table or, once processes died on it, over one piece at a time.

        Raises UserError where BARREN processes in a row ended on a plain review.
        """
        self._recall()
        try:
            if self.deaths < DEATHS:
                self._note([0, len(table)])
                result = run_isolating_failures(run, table)
            else:
                result = self._run_pieces(run, table)
        except (Exception, KeyboardInterrupt) as error:  # this process lives, or ends for what no row did
            if not getattr(error, "suspect", False):
                self.ended = 0
                self.take_back()
            raise
        storage.remove_files([self.uri])
        return result

    def in_pieces(self) -> bool:
        """Whether so many processes died on the unit that it will be tried in pieces."""
        self._recall()
        return self.deaths >= DEATHS

    def _run_pieces(self, run: Run, table: pa.Table) -> tuple[list[pa.Table], Reasons]:
        tables: list[pa.Table] = []
        bad: Reasons = {}
        proven = False
        for first, rows in self._ranges(len(table)):
            if rows == 1 and self.alone.get(str(first), 0) >= DEATHS:
                bad[first] = "the process that analyzes it dies"
                continue
            if rows == 1 and not proven:  # a bad GPU, say, ends this process here, and no row is blamed
                self._prove(run, table.slice(first, 1))
                proven = True
            self._note([first, rows])
            some, reasons = run_isolating_failures(run, table.slice(first, rows))
            tables += some
            bad |= {first + row: reason for row, reason in reasons.items()}
        return tables, bad

    def _prove(self, run: Run, row: pa.Table) -> None:
        """Runs a plain review; that the process may end by it is noted before, for a crash leaves no time."""
        check(
            self.ended < BARREN,
            f"the device fails on a plain review, {BARREN} times in a row; try another GPU, another bundle or "
            "--device cpu",
        )
        self.ended += 1
        self.take_back()
        run(_with_plain_text(row))
        self.ended = 0

    def _ranges(self, total: int) -> list[tuple[int, int]]:
        """(first row, rows) of each piece; single rows where a process died on the piece."""
        ranges = []
        for first in range(0, total, PIECE):
            rows = min(PIECE, total - first)
            single = any(str(row) in self.alone for row in range(first, first + rows))
            ranges += [(row, 1) for row in range(first, first + rows)] if single else [(first, rows)]
        return ranges

    def _recall(self) -> None:
        """Reads what a dead process left: it died on what it was trying."""
        try:
            left = storage.read_json(self.uri)
        except storage.MissingError:
            return
        self.deaths, self.alone = left["deaths"], left["alone"]
        self.ended = left.get("ended", 0)
        if not left["trying"]:
            return
        self.deaths += 1
        first, rows = left["trying"]
        if left["deaths"] >= DEATHS:
            died = {str(first): self.alone.get(str(first), 0) + 1} if rows == 1 else {str(first): 0}
            self.alone |= died

    def take_back(self) -> None:
        """From here on nothing is tried that a death could be blamed on."""
        if self.deaths:
            self._note([])
        else:
            storage.remove_files([self.uri])

    def _note(self, trying: list[int]) -> None:
        note = {"deaths": self.deaths, "trying": trying, "alone": self.alone, "ended": self.ended}
        storage.write_bytes(self.uri, json.dumps(note).encode())
