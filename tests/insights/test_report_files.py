"""What a report reads and leaves: unfinished analyses, its own database, tables whose columns the docs name."""

import re
from pathlib import Path

import pytest

from ray_app import storage
from ray_app.errors import UserError
from ray_app.insights import report, store
from ray_app.insights.report import Config
from tests.insights.test_report import made
from tests.support.page_data import rows, write_analyses
from tests.support.paths import ROOT


def test_a_store_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "o'clock"
    monkeypatch.setenv("NUNCHI_CACHE", str(cache))
    with store.Store() as one, store.Store() as other:
        one.attach(other, "other")
        assert one.rows("SELECT count(*) FROM other.reviews") == [(0,)]
        one.detach("other")
    with pytest.raises(UserError, match="database failed"), store.Store() as one:
        one.run("SELECT no_such_column FROM reviews")
    monkeypatch.setattr(store, "MEMORY", "no size")
    with pytest.raises(UserError, match="database failed"), store.Store():
        pass
    assert [path.name for path in (cache / "report").iterdir()] == ["lock"]


def test_what_a_killed_report_left_is_removed_and_what_one_at_work_uses_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUNCHI_CACHE", str(tmp_path))
    (tmp_path / "report" / "left").mkdir(parents=True)
    (tmp_path / "report" / "left" / "report.db").write_text("reviews")
    with store.Store() as one:
        assert not (tmp_path / "report" / "left").exists()
        with store.Store():
            assert Path(one.folder).exists()


def test_analyses_that_are_still_being_written_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "analyses"
    storage.write_json(str(folder / "_plan" / "0000.json"), {})
    storage.write_json(str(folder / "_lease" / "000000.json"), {"released": False})
    config = Config(analyses=str(folder), output=str(tmp_path / "report"))
    with pytest.raises(UserError, match="nothing is analyzed there yet; wait"):
        report.run(config)
    write_analyses(str(folder), rows(40))
    for released in (False, True):
        storage.write_json(str(folder / "_lease" / "000000.json"), {"released": released})
        caplog.clear()
        report.run(config)
        assert ("not all is analyzed there yet" in caplog.text) is not released


def test_every_column_is_in_the_docs(tmp_path: Path) -> None:
    kinds = {"string": "text", "int64": "int", "int32": "int", "double": "float", "date32[day]": "date"}
    kinds |= {"list<item: string>": "texts"}
    page = (ROOT / "docs" / "insights.md").read_text(encoding="utf-8")
    _, found = made(tmp_path, rows(60))
    for name, table in found.tables.each():
        told = re.search(rf"^- `{name}`: (.*)$", page, re.M)
        assert told, name
        columns = [
            f"{column} {part.rpartition(': ')[2]}"
            for part in told[1].split("; ")
            for column in part.rpartition(": ")[0].split(", ")
        ]
        assert columns == [f"{field.name} {kinds.get(str(field.type), str(field.type))}" for field in table.schema]
