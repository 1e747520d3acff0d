"""A row group is read once for all of its units, within bounds of memory, and what is damaged costs itself only."""

import base64
import gc
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.data import reviews
from ray_app.data.reading import files
from ray_app.errors import UserError
from ray_app.storage import s3 as objects
from tests.support.small_catalogs import parquet, planned, rows, values


def large(path: Path, count: int = 30_000) -> Path:
    """One row group of distinct texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = [f"r{i:06d}" for i in range(count)]
    pq.write_table(
        pa.table({"review_id": ids, "text": [f"배송이 빨라요 {i * 7919 % count}" for i in range(count)]}), path
    )
    return path


def test_a_large_row_group_is_fetched_once(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = large(tmp_path / "a.parquet").stat().st_size
    storage.upload(str(tmp_path), f"{s3}/in")
    plan = planned(f"{s3}/in", unit_rows=500)
    fetched = [0]
    fetch = objects.Reader._fetch

    def counted(self: objects.Reader, start: int, stop: int) -> bytes:
        fetched[0] += stop - start
        return fetch(self, start, stop)

    monkeypatch.setattr(objects.Reader, "_fetch", counted)
    readings = list(reviews.readings(plan.units))
    assert (len(plan.units), len(readings)) == (60, 1)
    found = [
        unit.accepted["review_id"].to_pylist()
        for unit in reviews.read_units(readings[0], plan.columns)
        if unit.accepted
    ]
    assert [i for some in found for i in some] == [f"r{i:06d}" for i in range(30_000)]
    assert fetched[0] <= 1.2 * size


@pytest.mark.parametrize("left", [[0], [59], [3, 4, 5], [0, 2, 58], list(range(0, 60, 7))])
def test_what_is_left_of_a_row_group_is_read_after_a_death(tmp_path: Path, left: list[int]) -> None:
    plan = planned(large(tmp_path / "a.parquet"), unit_rows=500)
    units = [plan.units[i] for i in left]
    for reading in reviews.readings(units):
        for unit in reviews.read_units(reading, plan.columns):
            assert unit.accepted is not None
            assert unit.accepted["review_id"][0].as_py() == f"r{unit.unit.head.first:06d}"
            assert len(unit.accepted) == 500


def test_a_damaged_row_group_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"review_id": list("abcdef"), "text": [f"리뷰 {i}번" for i in range(6)]})
    pq.write_table(table, path, row_group_size=2, compression="none", write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[data.index("리뷰 2번".encode())] ^= 1
    path.write_bytes(data)
    plan = planned(path)
    assert len(list(reviews.readings(plan.units))) == 1
    accepted, [rejected] = rows(plan)
    assert [row["review_id"] for row in accepted] == list("abef")
    assert (rejected["row"], rejected["rows"]) == (2, 2)


def test_tiny_files_share_units_and_larger_ones_do_not(tmp_path: Path) -> None:
    for i in range(30):
        parquet(tmp_path / f"{i:02d}.parquet")
    parquet(tmp_path / "large.parquet", text=["굿"] * 50)
    plan = planned(tmp_path, unit_rows=100)
    assert [unit.rows for unit in plan.units] == [24, 24, 24, 18, 50]
    assert len(rows(plan)[0]) == 140
    gone = tmp_path / "03.parquet"
    gone.unlink()
    accepted, [rejected] = rows(plan)
    assert len(accepted) == 137
    assert (rejected["file"], rejected["rows"]) == (str(gone), 3)
    assert rejected["reason"] == "the file was changed or removed after the run was planned"


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_file_that_changes_while_it_is_read_gives_no_row_of_the_other_version(tmp_path: Path) -> None:
    path = large(tmp_path / "a.parquet", 4_000)
    plan = planned(path, unit_rows=500)
    found = reviews.read_units(plan.units, plan.columns)
    assert next(found).accepted is not None
    large(path, 4_100)
    assert all(unit.accepted is None for unit in found)
    del found
    gc.collect()


def test_a_text_that_all_rows_share_is_in_memory_once(tmp_path: Path) -> None:
    """3,000 references to a text of 10 MB: 30 GB if each row had its own."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000, pa.int32()), pa.array(["가나다라마바사" * 500_000]))
    table = pa.table({"id": [str(i) for i in range(3_000)], "text": text})
    pq.write_table(table, tmp_path / "a.parquet", store_schema=False)
    assert (tmp_path / "a.parquet").stat().st_size < 2_000_000
    before = pa.default_memory_pool().max_memory()
    accepted, rejected = rows(planned(tmp_path))
    assert accepted == []
    assert {row["reason"] for row in rejected} == {"text has 3500000 characters, over the limit of 20000"}
    assert pa.default_memory_pool().max_memory() < before + 1_000_000_000


def test_texts_beyond_all_limits_are_dropped_batch_by_batch(tmp_path: Path) -> None:
    texts = ["빨라요", *(f"{i}{'굿' * 350_000}" for i in range(60))]
    pq.write_table(pa.table({"id": [str(i) for i in range(61)], "text": texts}), tmp_path / "a.parquet")
    plan = planned(tmp_path)
    [(raw, bad)] = files.raw_tables(plan.units[0].pieces, plan.columns.layout(0))
    assert raw.nbytes < 10_000
    assert bad[1] == "text has 1050001 bytes, over the limit of 20000 characters"
    accepted, rejected = rows(plan)
    assert [row["review_id"] for row in accepted] == ["0"]
    assert len(rejected) == 60


def test_encrypted_columns_are_a_reject(tmp_path: Path) -> None:
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):  # type: ignore[misc, name-defined]
        """Keys that are what they are called."""

        def __init__(self, _: object) -> None:
            super().__init__()

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
            return base64.b64encode(key_bytes)

    parquet(tmp_path / "b.parquet")
    factory = encryption.CryptoFactory(Keys)
    options = encryption.EncryptionConfiguration(footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=True)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), options)
    table = pa.table({"review_id": ["a"], "text": ["굿"]})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    plan = planned(tmp_path)
    assert [one.reason for one in plan.unreadable] == ["unreadable Parquet file: its columns are encrypted; decrypt it"]
    assert len(rows(plan)[0]) == 3


def test_old_timestamps_beyond_nanoseconds_keep_their_year(tmp_path: Path) -> None:
    moment = datetime(2500, 1, 2, 3, 4, 5, 678_901)
    table = pa.table({"review_id": ["a"], "text": ["굿"], "t": pa.array([moment], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    assert values(tmp_path, "t", keep="t") == [moment]


def test_a_struct_with_two_fields_of_one_name_is_refused_where_it_is_kept(tmp_path: Path) -> None:
    twins = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    for of in (twins, pa.ListArray.from_arrays([0, 1], twins)):
        pq.write_table(pa.table({"review_id": ["a"], "text": ["굿"], "s": of}), tmp_path / "a.parquet")
        assert len(rows(planned(tmp_path))[0]) == 1
        with pytest.raises(UserError, match="--keep s: it has two fields of one name"):
            planned(tmp_path, keep="s")
