"""--sink iceberg of a report: every table is there as it is on disk, and the next report takes its place."""

from pathlib import Path

import pytest

from ray_app.errors import UserError
from ray_app.insights import report
from ray_app.insights.report import Config
from tests.support.page_data import rows, write_analyses


def use_catalog(uri: str, warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes it pyiceberg's default, which reads the environment when it is imported."""
    from pyiceberg.utils.config import Config as Settings

    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__URI", uri)
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__WAREHOUSE", f"file://{warehouse}")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Settings())


def test_tables_are_those_of_the_last_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.catalog import load_catalog

    use_catalog(f"sqlite:///{tmp_path}/catalog.db", tmp_path / "warehouse", monkeypatch)
    for count in (60, 30):
        folder = str(tmp_path / f"{count}")
        write_analyses(folder, rows(count))
        found = report.run(Config(analyses=folder, output=f"{folder}/report", sink="iceberg", table="shop.report"))
        for name, table in found.tables.each():
            there = load_catalog("default").load_table(f"shop.report_{name}").scan().to_arrow()
            order = [(column, "ascending") for column in table.column_names if column != "forms"]
            assert there.sort_by(order).to_pylist() == table.sort_by(order).to_pylist(), name


def test_a_catalog_that_cannot_be_opened_is_one_line_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_catalog(f"sqlite:///{tmp_path}/no/such/folder/catalog.db", tmp_path, monkeypatch)
    with pytest.raises(UserError, match="--sink iceberg: the catalog 'default' cannot be opened"):
        report.run(Config(analyses=str(tmp_path), output=str(tmp_path / "report"), sink="iceberg"))
