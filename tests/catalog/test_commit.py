"""A unit's rows are written, then the marker that makes them count; of two commits the first stands."""

from pathlib import Path

import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.catalog import commit
from ray_app.data import reviews
from tests.data.test_reviews import FACTS, commit_all, plan, write


def test_commit_writes_data_rejects_and_the_marker(tmp_path: Path) -> None:
    planned = plan(write(tmp_path / "a.parquet", [3], ["굿", None, "별로"]))
    [record] = commit_all(f"{tmp_path}/out", planned)
    [unit] = planned.units
    assert storage.read_json(f"{tmp_path}/out/_units/{unit.id}.json") == record
    assert record.items() >= {"file": unit.head.file, "rows_in": 3, "analysed": 2, "rejected": 1, **FACTS}.items()
    assert storage.read_parquet(commit.part(f"{tmp_path}/out", "data", record["parts"]["data"]["name"]))[
        "text"
    ].to_pylist() == ["굿", "별로"]
    assert storage.read_parquet(commit.part(f"{tmp_path}/out", "rejected", record["parts"]["rejected"]["name"]))[
        "row"
    ].to_pylist() == [1]


@pytest.mark.parametrize(("texts", "there"), [(["굿"], ["data"]), ([None], ["rejected"])])
def test_commit_writes_no_empty_tables(tmp_path: Path, texts: list[str | None], there: list[str]) -> None:
    commit_all(f"{tmp_path}/out", plan(write(tmp_path / "a.parquet", [1], texts)))
    assert sorted(path.name for path in (tmp_path / "out" / "_parts").iterdir()) == there


def test_unit_that_could_not_be_read_counts_all_its_rows_as_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [3])
    planned = plan(path)
    path.write_bytes(b"")
    [record] = commit_all(f"{tmp_path}/out", planned)
    assert (record["rows_in"], record["analysed"], record["rejected"]) == (3, 0, 3)
    assert len(storage.read_parquet(f"{tmp_path}/out/_parts/rejected")) == 1


def test_a_partition_has_a_folder_for_every_value(tmp_path: Path) -> None:
    planned = plan(write(tmp_path / "a.parquet", [3], ["굿", None, "별로"]), keep="mall")
    table, rejected = reviews.read(planned.units[0], planned.columns)
    assert table is not None
    table = table.set_column(2, "mall", pa.array(["../가", None]))
    record = commit.commit(f"{tmp_path}/out", planned.units[0], table, rejected, FACTS, "mall")
    folders = ["data/mall=%2E.%2F가", "data/mall=__HIVE_DEFAULT_PARTITION__"]
    assert sorted(record["parts"]) == [*folders, "rejected"]
    for folder, text in zip(folders, ["굿", "별로"], strict=True):
        rows = storage.read_parquet(commit.part(f"{tmp_path}/out", folder, record["parts"][folder]["name"])).to_pylist()
        assert [(row["text"], "mall" in row) for row in rows] == [(text, False)]


def test_the_first_commit_of_a_unit_stands(tmp_path: Path) -> None:
    planned = plan(write(tmp_path / "a.parquet", [3]))
    [first] = commit_all(f"{tmp_path}/out", planned)
    [second] = commit_all(f"{tmp_path}/out", planned)
    assert second == first == storage.read_json(commit.marker(f"{tmp_path}/out", first["id"]))


@pytest.mark.parametrize("change", [-1, 1])
def test_commit_refuses_to_lose_or_invent_rows_and_writes_nothing(tmp_path: Path, change: int) -> None:
    planned = plan(write(tmp_path / "a.parquet", [3]))
    table, rejected = reviews.read(planned.units[0], planned.columns)
    assert table is not None
    wrong = table.slice(1) if change < 0 else pa.concat_tables([table, table.slice(2)])
    with pytest.raises(RuntimeError, match=rf"3 in, {3 + change} analyzed, 0 rejected"):
        commit.commit(f"{tmp_path}/out", planned.units[0], wrong, rejected, FACTS)
    assert not (tmp_path / "out").exists()
