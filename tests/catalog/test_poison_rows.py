"""Poison rows: one that breaks the model or its process is rejected, and its neighbors are analyzed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app import storage
from ray_app.catalog.pipeline import StageWorker
from ray_app.catalog.poison_rows import BARREN, DEATHS, PIECE, PLAIN, CrashJournal, run_isolating_failures
from ray_app.errors import DeviceError, UserError
from tests.support.paths import ROOT


def table(texts: list[str]) -> pa.Table:
    return pa.table({"review_id": [str(i) for i in range(len(texts))], "text": texts})


def fails_on(*bad: str) -> Any:
    def run(rows: pa.Table) -> pa.Table:
        present = set(bad) & set(rows["text"].to_pylist())
        if present:
            raise ValueError(f"cannot read {sorted(present)[0]}\nand more")
        return rows

    return run


def texts(tables: list[pa.Table]) -> list[str]:
    return [text for each in tables for text in each["text"].to_pylist()]


@given(st.lists(st.sampled_from(["굿", "독", "별로"]), max_size=40))
def test_rows_that_raise_are_found_and_the_others_stay_in_order(all_texts: list[str]) -> None:
    tables, bad = run_isolating_failures(fails_on("독"), table(all_texts))
    assert texts(tables) == [text for text in all_texts if text != "독"]
    assert sorted(bad) == [i for i, text in enumerate(all_texts) if text == "독"]
    assert set(bad.values()) <= {"the model fails on it: cannot read 독"}


def test_the_plain_review_that_tells_model_from_rows_is_read_anew() -> None:
    """A pool's table brings tokens along: those of a bad row must not stand for the plain review's."""
    from ray_app.inference.graph_columns import TOKENS

    def run(rows: pa.Table) -> pa.Table:
        if TOKENS in rows.column_names and 666 in pc.list_flatten(rows[TOKENS]).to_pylist():
            raise ValueError("cannot read it")
        return rows

    rows = table(["굿", "독"]).append_column(TOKENS, pa.array([[1], [666]]))
    tables, bad = run_isolating_failures(run, rows)
    assert texts(tables) == ["굿"]
    assert list(bad) == [1]


def test_a_model_that_fails_on_everything_is_no_fault_of_the_rows() -> None:
    def broken(rows: pa.Table) -> pa.Table:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run_isolating_failures(broken, table(["굿", "별로"]))


def test_a_unit_that_nothing_died_on_leaves_no_note(tmp_path: Path) -> None:
    tables, bad = CrashJournal(f"{tmp_path}/note.json").run(fails_on("독"), table(["굿", "독"]))
    assert (texts(tables), list(bad)) == (["굿"], [1])
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_kills_its_process_is_given_up_after_a_few_deaths_and_no_other_row_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.killer_row", f"{tmp_path}/note.json"]
    deaths = 0
    while (done := subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)).returncode == 139:
        deaths += 1
        assert deaths <= DEATHS + 1 + DEATHS  # whole, the piece, the row alone
    assert done.stdout.strip() == "149 {100: 'the process that analyzes it dies'}", done.stderr
    assert deaths == DEATHS + 1 + DEATHS
    assert list(tmp_path.iterdir()) == []


def test_a_death_from_outside_in_a_piece_costs_no_row(tmp_path: Path) -> None:
    note = f"{tmp_path}/note.json"
    for trying in ([0, PIECE], [3, 1]):
        storage.write_json(note, {"deaths": DEATHS, "trying": trying, "alone": {}})
        tables, bad = CrashJournal(note).run(fails_on(), table(["굿"] * 150))
        assert (len(texts(tables)), bad) == (150, {})


class LostError(DeviceError):
    """A GPU is lost; with `suspect` a review may have done it."""

    def __init__(self, suspect: bool) -> None:
        super().__init__("lost")
        self.suspect = suspect


def processes(note: str, run: Any, rows: pa.Table, count: int) -> tuple[list[pa.Table], dict[int, str]] | None:
    """What the first of `count` processes returns that does not end by a lost GPU, one after the other on one unit."""
    for _ in range(count):
        try:
            return CrashJournal(note).run(run, rows)
        except DeviceError:
            continue
    return None


@pytest.mark.parametrize("error", [LostError(suspect=False), RuntimeError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [0, 1, DEATHS])
def test_what_no_row_causes_is_no_death(error: BaseException, before: int, tmp_path: Path) -> None:
    note = f"{tmp_path}/note.json"
    alone = {"3": DEATHS - 1} if before == DEATHS else {}
    if before:
        storage.write_json(note, {"deaths": before, "trying": [], "alone": alone})

    def lost(rows: pa.Table) -> pa.Table:
        raise error

    for _ in range(4 * DEATHS):
        with pytest.raises(type(error)):
            CrashJournal(note).run(lost, table(["굿"] * 150))
    assert storage.exists(note) == bool(before)
    journal = CrashJournal(note)
    journal._recall()
    assert (journal.deaths, journal.alone) == (before, alone)
    tables, bad = CrashJournal(note).run(fails_on(), table(["굿"] * 150))
    assert (len(texts(tables)), bad, list(tmp_path.iterdir())) == (150, {}, [])


def test_a_row_that_makes_a_kernel_fail_is_given_up(tmp_path: Path) -> None:
    """A token beyond the vocabulary: an assert on the device, which the process does not survive."""

    def run(rows: pa.Table) -> pa.Table:
        if "독" in rows["text"].to_pylist():
            raise LostError(suspect=True)
        return rows

    rows = table(["독" if i == 100 else "굿" for i in range(150)])
    done = processes(f"{tmp_path}/note.json", run, rows, DEATHS + 1 + DEATHS + 1)
    assert done is not None
    assert (len(texts(done[0])), done[1]) == (149, {100: "the process that analyzes it dies"})


def test_a_gpu_whose_kernels_fail_on_everything_makes_no_row_be_given_up(tmp_path: Path) -> None:
    tried: list[str] = []

    def run(rows: pa.Table) -> pa.Table:
        tried.extend(rows["text"].to_pylist())
        raise LostError(suspect=True)

    note, rows = f"{tmp_path}/note.json", table(["굿"] * 3)
    with pytest.raises(UserError, match="fails on a plain review"):
        processes(note, run, rows, 30)
    assert tried.count(PLAIN) == BARREN
    assert processes(note, run, rows, 1) is None  # the same command again tries again
    tables, bad = CrashJournal(note).run(fails_on(), rows)  # in a process whose GPU works
    assert (len(texts(tables)), bad) == (3, {})


def test_a_process_that_ends_for_no_row_leaves_no_note_of_any_unit_under_way(tmp_path: Path) -> None:
    """Beside a GPU two units are under way: the one that did not meet the error has a note too."""
    worker = StageWorker.__new__(StageWorker)
    worker.trying = [CrashJournal(str(tmp_path / f"{name}.json")) for name in "ab"]
    for journal in worker.trying:
        journal._note([0, 9])
    worker.blame_none()
    assert not list(tmp_path.iterdir())
