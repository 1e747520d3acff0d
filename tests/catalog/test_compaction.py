"""Compaction: at whatever moment a run dies, each committed row ends up in one file, and no reader sees it twice."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.catalog import commit as commits
from ray_app.catalog import compaction
from ray_app.catalog.commit import CommitRecord
from ray_app.catalog.compaction import Publisher
from ray_app.data import reviews
from ray_app.data.schema import rejected_unit
from ray_app.errors import UserError


def commit(out: Path, name: str, rows: int = 3, mall: str = "") -> CommitRecord:
    """A committed unit of `rows` analyzed rows."""
    piece = reviews.Piece(file="a.parquet", version="1", row_group=0, skip=0, first=0, rows=rows)
    unit = reviews.Unit(id=name, pieces=(piece,))
    analyzed = pa.table({"review_id": [f"{name}{i}" for i in range(rows)], "mall": [mall] * rows})
    facts: commits.UnitFacts = {"findings": 0, "work": {}}
    return commits.commit(str(out), unit, analyzed, rejected_unit("", 0, "").slice(0, 0), facts, "mall" if mall else "")


def seen(out: Path) -> list[str]:
    """Ids that a reader of the folder sees."""
    uri = f"{out}/data"
    return sorted(storage.read_parquet(uri)["review_id"].to_pylist()) if storage.exists(uri) else []


def ids(*names: str, rows: int = 3) -> list[str]:
    return sorted(f"{name}{i}" for name in names for i in range(rows))


def test_part_files_become_one_file_when_they_are_large_enough(tmp_path: Path) -> None:
    records = [commit(tmp_path, name) for name in "abc"]
    size = records[0]["parts"]["data"]["bytes"]
    publisher = Publisher(str(tmp_path), target_bytes=2 * size)
    publisher.add(records[0])
    assert seen(tmp_path) == []
    publisher.add(records[1])
    publisher.wait()
    assert seen(tmp_path) == ids("a", "b")
    publisher.add(records[2])
    publisher.finish()
    assert seen(tmp_path) == ids("a", "b", "c")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["part-000000.parquet", "part-000001.parquet"]
    assert not (tmp_path / "_parts").exists()
    done = [facts for _, facts in compaction.published(str(tmp_path)) if facts]
    assert [facts["rows"] for facts in done] == [6, 3]


def test_a_partition_has_files_of_its_own(tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path))
    for name, mall in (("a", "가"), ("b", "나"), ("c", "가")):
        publisher.add(commit(tmp_path, name, mall=mall))
    publisher.finish()
    assert [path.parent.name for path in sorted(tmp_path.glob("data/*/*.parquet"))] == [
        "mall=가",
        "mall=나",
    ]
    assert pq.read_table(f"{tmp_path}/data").num_rows == 9


class Death(BaseException):
    """As if the process had been killed: nothing cleans up after it."""


@pytest.mark.parametrize("when", range(1, 12))
def test_death_at_any_write_loses_no_row_and_shows_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    records = [commit(tmp_path, name) for name in "abcd"]
    left = [when]

    def dying(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Death
            return function(*arguments)

        return call

    with monkeypatch.context() as patched:
        for name in ("create", "write_bytes", "write_json", "remove", "remove_files"):
            patched.setattr(storage, name, dying(getattr(storage, name)))
        try:
            run(tmp_path, records)
        except Death:
            assert len(seen(tmp_path)) == len(set(seen(tmp_path)))
    run(tmp_path, records)
    assert seen(tmp_path) == ids(*"abcd")


def run(out: Path, records: list[CommitRecord]) -> None:
    publisher = Publisher(str(out), target_bytes=2 * records[0]["parts"]["data"]["bytes"])
    try:
        for record in records:
            publisher.add(record)
        publisher.finish()
    finally:
        publisher.close()


def test_a_file_is_written_beside_the_run_which_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, may_write, write = [commit(tmp_path, name) for name in "abcd"], threading.Event(), storage.write_bytes

    def waiting(*arguments: Any) -> None:
        assert may_write.wait(60)
        write(*arguments)

    monkeypatch.setattr(storage, "write_bytes", waiting)
    publisher = Publisher(str(tmp_path), target_bytes=2 * records[0]["parts"]["data"]["bytes"])
    for record in records:
        publisher.add(record)  # returns, though nothing can be written
    assert seen(tmp_path) == []
    may_write.set()
    publisher.finish()
    assert seen(tmp_path) == ids(*"abcd")


def test_what_a_run_ends_without_is_written_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, write = [commit(tmp_path, name) for name in "ab"], storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", refuse)
    with pytest.raises(UserError, match="no space"):
        run(tmp_path, records)
    assert seen(tmp_path) == []
    monkeypatch.setattr(storage, "write_bytes", write)
    run(tmp_path, records)
    assert seen(tmp_path) == ids(*"ab")


def refuse(*_: object) -> None:
    raise UserError("no space")


def test_a_run_that_was_taken_over_publishes_nothing(tmp_path: Path) -> None:
    old, record = Publisher(str(tmp_path)), commit(tmp_path, "a")
    old.add(record)
    new = Publisher(str(tmp_path))
    new.add(record)
    new.finish()
    with pytest.raises(UserError, match="another run took it over"):
        old.finish()
    assert seen(tmp_path) == ids("a")


def test_row_groups_are_large_however_small_the_part_files(tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path), group_rows=10)
    for name in "abcdef":
        publisher.add(commit(tmp_path, name, rows=4))
    publisher.finish()
    footer = pq.ParquetFile(tmp_path / "data" / "part-000000.parquet").metadata
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [10, 2, 10, 2]
