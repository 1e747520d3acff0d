"""Rows are grouped by the folder that they will lie in: whatever the values, none is lost."""

import math
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.catalog import analyze, commit, verify
from ray_app.catalog.compaction import Publisher
from ray_app.catalog.output import partitions
from ray_app.data import reviews
from ray_app.data.schema import REJECTED
from ray_app.errors import UserError
from tests.support import hostile
from tests.support.catalog_run import config
from tests.support.small_catalogs import parquet


@pytest.mark.parametrize("block", range(4))
def test_no_row_is_lost_whatever_the_values(block: int) -> None:
    for seed in range(block * 600, block * 600 + 600):
        values = pa.chunked_array([hostile.column(seed)])
        folders = partitions.rows_by_folder(values, "mall")
        rows = [row for some in folders.values() for row in some.to_pylist()]
        assert sorted(rows) == list(range(len(values))), seed
        for folder in folders:
            assert folder.startswith("mall=")
            assert len(folder.encode()) <= 255
            assert not set(folder) & set("/\0\n*?[]")


@pytest.mark.parametrize("seed", range(40))
def test_committed_and_published_rows_are_the_rows_that_went_in(tmp_path: Path, seed: int) -> None:
    mall = hostile.column(seed)
    if not len(mall):
        return
    piece = reviews.Piece(file="a", version="1", row_group=0, skip=0, first=0, rows=len(mall))
    table = pa.table({"review_id": [str(i) for i in range(len(mall))], "mall": mall})
    facts: commit.UnitFacts = {"findings": 0, "work": {}}
    unit = reviews.Unit(id="u", pieces=(piece,))
    record = commit.commit(str(tmp_path), unit, table, REJECTED.empty_table(), facts, "mall")
    publisher = Publisher(str(tmp_path))
    publisher.add(record)
    publisher.finish()
    files = tmp_path.glob("data/*/*.parquet")
    found = [i for path in files for i in pq.read_table(path, partitioning=None)["review_id"].to_pylist()]
    assert sorted(found, key=int) == [str(i) for i in range(len(mall))]


def test_null_nan_and_the_empty_text_share_hives_folder() -> None:
    for values in (pa.array(["", None]), pa.array([math.nan, None])):
        assert list(partitions.rows_by_folder(pa.chunked_array([values]), "mall")) == [f"mall={storage.EMPTY}"]
    assert partitions.folder_name(storage.EMPTY) == "%5F_HIVE_DEFAULT_PARTITION__"


def test_a_value_that_is_too_long_is_cut_and_stays_distinct() -> None:
    names = {partitions.folder_name("가" * 80 + end) for end in "abc"}
    assert len(names) == 3
    assert all(unquote(name).startswith("가" * 40) for name in names)
    assert partitions.shortened(pa.chunked_array([["가" * 80, "b"]]), "mall") == {
        partitions.folder_name("가" * 80): "가" * 40
    }


def test_a_long_name_of_a_column_leaves_less_room_for_values() -> None:
    column = "상품명과옵션을합친이름" * 5
    [folder] = partitions.rows_by_folder(pa.chunked_array([["가" * 60]]), column)
    assert len(folder.encode()) <= 255
    with pytest.raises(UserError, match="a name too long for a folder's"):
        partitions.check_partition(column * 2, pa.string())


def test_names_of_columns_are_safe_too(tmp_path: Path) -> None:
    [folder] = partitions.rows_by_folder(pa.chunked_array([["A"]]), "x=y/z")
    storage.write_parquet(f"{tmp_path}/{folder}/a.parquet", pa.table({"a": [1]}))
    [file] = storage.list_files(str(tmp_path))
    assert storage.partition(file.uri, str(tmp_path)) == {"x=y/z": "A"}


def test_commit_writes_nothing_where_a_folder_would_lose_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grouped = partitions.rows_by_folder

    def losing(values: pa.ChunkedArray, name: str) -> dict[str, pa.Array]:
        return dict(list(grouped(values, name).items())[1:])

    monkeypatch.setattr(partitions, "rows_by_folder", losing)
    piece = reviews.Piece(file="a", version="1", row_group=0, skip=0, first=0, rows=2)
    unit = reviews.Unit(id="u", pieces=(piece,))
    table = pa.table({"review_id": ["a", "b"], "mall": ["A", "B"]})
    facts: commit.UnitFacts = {"findings": 0, "work": {}}
    with pytest.raises(RuntimeError, match="2 rows analyzed, 1 to be written"):
        commit.commit(str(tmp_path / "out"), unit, table, REJECTED.empty_table(), facts, "mall")
    assert not (tmp_path / "out").exists()


def test_a_partitioned_run_keeps_every_row_and_verifies(
    tmp_path: Path, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    malls = [value for value in hostile.TEXTS if value is None or "\0" not in value]
    parquet(tmp_path / "in" / "a.parquet", mall=malls)
    out = tmp_path / "out"
    assert analyze.run(config(tmp_path / "in", bundle_folder, partition_by="mall", output=str(out))) == 0
    hive = pads.partitioning(pa.schema([("mall", pa.string())]), flavor="hive")
    table = pads.dataset(str(out / "data"), partitioning=hive).to_table()
    assert sorted(table["review_id"].to_pylist()) == sorted(f"a{i}" for i in range(len(malls)))
    assert verify.run(verify.Config(output=str(out))) == 0
    assert "a value is too long for a folder's name: 가가" in capsys.readouterr().out


@pytest.mark.parametrize("values", [[["x"]], [{"a": 1}], [b"x"]])
def test_types_without_folder_names_are_refused_before_anything_runs(
    tmp_path: Path, bundle_folder: str, values: list[object]
) -> None:
    parquet(tmp_path / "in" / "a.parquet", mall=values)
    with pytest.raises(UserError, match=r"--partition-by mall: its values are .*, which make no folder names"):
        analyze.run(config(tmp_path / "in", bundle_folder, partition_by="mall", output=str(tmp_path / "out")))
    assert not list(tmp_path.glob("out/_plan/*"))
