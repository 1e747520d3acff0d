"""Texts that analyses do not hold come from the catalog: by file and row, or by id where an id has one text."""

from pathlib import Path

import numpy as np
import pytest

from ray_app.active_learning import candidates
from ray_app.catalog import analyze
from ray_app.data import analyses
from ray_app.errors import UserError
from tests.support.catalog_run import config
from tests.support.small_catalogs import TEXTS, parquet

OTHERS = ["다른 리뷰 하나", "둘", "셋"]


def analyzed(folder: Path, bundle: str, ids: tuple[list[int], list[int]], source: bool) -> analyses.Analyses:
    """Analyses without texts of two files of Korean columns."""
    for name, some, texts in zip(("p1", "p2"), ids, (TEXTS, OTHERS), strict=True):
        parquet(folder / "in" / f"{name}.parquet", review_id=None, text=None, 번호=some, 내용=texts)
    assert analyze.run(config(folder / "in", bundle, keep="", text=False, source=source)) == 0
    return analyses.open_analyses(str(folder / "out"))


@pytest.mark.parametrize(("ids", "source"), [(([1, 2, 3], [1, 2, 3]), True), (([1, 2, 3], [4, 5, 6]), False)])
def test_each_row_gets_its_own_text(
    tmp_path: Path, bundle_folder: str, ids: tuple[list[int], list[int]], source: bool
) -> None:
    found = analyzed(tmp_path, bundle_folder, ids, source)
    texts = candidates.read_texts(found, np.arange(6, dtype=np.int64), str(tmp_path / "in"), "")
    assert texts == [*TEXTS, *OTHERS]


def test_ids_with_several_texts_are_refused_with_the_way_out(tmp_path: Path, bundle_folder: str) -> None:
    found = analyzed(tmp_path, bundle_folder, ([1, 2, 3], [1, 2, 3]), source=False)
    with pytest.raises(UserError, match="id '1' has several texts; analyze with --source, or keep the text"):
        candidates.read_texts(found, np.arange(6, dtype=np.int64), str(tmp_path / "in"), "")
