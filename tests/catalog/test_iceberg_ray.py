"""--sink iceberg: an output's rows are in the table once, whatever is run again, and later nights add theirs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.catalog import analyze
from ray_app.errors import UserError
from tests.support.bundles import sample_texts
from tests.support.paths import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def write(path: Path, first: int, last: int) -> None:
    malls = ["가" if i % 3 else None for i in range(first, last)]
    pq.write_table(pa.table({"id": list(range(first, last)), "text": sample_texts(last)[first:], "mall": malls}), path)


def test_rows_are_appended_once_and_new_files_are_added(
    bundle_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__WAREHOUSE", f"file://{tmp_path}/warehouse")
    (tmp_path / "reviews").mkdir()
    settings: dict[str, Any] = {"placement": "here", "device": "cpu", "highlights": "off", "incremental": True}
    settings |= {"input": f"{tmp_path}/reviews", "output": f"{tmp_path}/out", "bundle": bundle_folder, "keep": "mall"}
    config = analyze.Config(sink="iceberg", table="shop.analyses", partition_by="mall", **settings)
    for night in (0, 1):
        write(tmp_path / "reviews" / f"{night}.parquet", 10 * night, 10 * night + 10)
        for _ in range(2):
            analyze.run(config)
        assert in_table() == {str(i): "가" if i % 3 else None for i in range(10 * night + 10)}


def in_table() -> dict[str, str | None]:
    from pyiceberg.catalog import load_catalog

    rows = load_catalog("default").load_table("shop.analyses").scan().to_arrow()
    ids = rows["review_id"].to_pylist()
    assert len(ids) == len(set(ids))
    return dict(zip(ids, rows["mall"].to_pylist(), strict=True))


def test_a_catalog_that_cannot_be_opened_is_one_line_before_any_work(bundle_folder: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.analyze", "--bundle", bundle_folder, "--sink", "iceberg"]
    done = subprocess.run(
        [*command, "--output", f"{tmp_path}/out"],
        cwd=ROOT,
        env={**os.environ, "PYICEBERG_CATALOG__DEFAULT__URI": f"sqlite:///{tmp_path}/no/such/folder/catalog.db"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --sink iceberg: the catalog 'default' cannot be opened (")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["analyses", ".x", "a..b", ""])
def test_a_table_is_named_with_its_namespace(name: str) -> None:
    with pytest.raises(UserError, match=r"write NAMESPACE\.TABLE"):
        analyze.Config(table=name)
