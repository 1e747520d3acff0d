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
from ray_app.catalog.poison_rows import DEATHS, PIECE, CrashJournal, run_isolating_failures
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
