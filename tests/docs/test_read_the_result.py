"""docs/catalog.md, "Read the result": every line of Python gives an answer on a run's output."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from ray_app.catalog import analyze
from tests.support.documents import commands
from tests.support.small_catalogs import TEXTS, parquet

LINES = [
    shlex.split(command)[2] for page, command in commands() if page == "catalog.md" and command.startswith("python -c")
]


@pytest.mark.parametrize("reader", ["pandas", "duckdb", "pyspark"])
def test_there_is_a_line_for_each_reader(reader: str) -> None:
    assert any(line.startswith((f"import {reader}", f"from {reader}")) for line in LINES)


@pytest.mark.parametrize("line", LINES)
def test_a_line_runs(
    line: str,
    bundle_folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if "pyspark" in line:
        pytest.importorskip("pyspark")
    monkeypatch.chdir(tmp_path)
    parquet(tmp_path / "reviews" / "a.parquet", text=TEXTS)
    here: dict[str, Any] = {"placement": "here", "device": "cpu", "highlights": "off"}
    config = analyze.Config(input="reviews", bundle=bundle_folder, output="runs/analyses", **here)
    assert analyze.run(config) == 0
    capfd.readouterr()
    exec(line, {})
    assert len(capfd.readouterr().out.splitlines()) > 3
