"""The input of a run: two files of reviews."""

from pathlib import Path

import pytest

from tests.support.catalog_run import write


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    folder = tmp_path / "reviews"
    folder.mkdir()
    write(folder / "a.parquet", 0, 30)
    write(folder / "b.parquet", 30, 50)
    return folder
