"""reviews: a catalog is planned from its footers, read unit by unit, and no row of it is ever lost."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app import storage
from ray_app.catalog import commit
from ray_app.data import reviews
from ray_app.data.columns import Columns
from ray_app.data.schema import FILES, UNITS
from ray_app.errors import UserError


def write(path: Path, groups: list[int], texts: list[str | None] | None = None, **names: str) -> Path:
    """A Parquet file with row groups of these sizes; ids are unique in the file."""
    rows = sum(groups)
    table = pa.table(
        {
            names.get("review_id", "review_id"): [f"{path.stem}{i}" for i in range(rows)],
            names.get("text", "text"): pa.array(texts or [f"리뷰 {i}번" for i in range(rows)], pa.string()),
            "mall": pa.array(range(rows), pa.int32()),
        }
    )
    with pq.ParquetWriter(path, table.schema, write_page_checksum=True, compression="none") as writer:
        for end, size in zip(itertools.accumulate(groups), groups, strict=True):
            writer.write_table(table.slice(end - size, size), row_group_size=max(size, 1))
    return path


def plan(path: Path | str, unit_rows: int = 4, limit: int = 0, **options: str) -> reviews.Plan:
    settings: dict[str, Any] = {"mapping": "", "fingerprint": "bundle", **options}
    settings["keep"] = tuple(filter(None, options.get("keep", "").split(",")))
    return reviews.plan(str(path), unit_rows=unit_rows, limit=limit, **settings)


def shape(planned: reviews.Plan) -> list[tuple[str, int, int, int, int]]:
    return [(Path(u.head.file).name, u.head.row_group, u.head.skip, u.head.first, u.rows) for u in planned.units]


def test_plan_cuts_every_row_group_of_every_file_into_units(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", [3])
    write(tmp_path / "a.parquet", [5, 0, 4])
    planned = plan(tmp_path)
    assert shape(planned) == [
        ("a.parquet", 0, 0, 0, 4),
        ("a.parquet", 0, 4, 4, 1),
        ("a.parquet", 2, 0, 5, 4),
        ("b.parquet", 0, 0, 0, 3),
    ]
    assert (planned.rows, planned.unreadable, planned.columns) == (12, [], Columns(review_id="review_id", text="text"))


def test_a_plans_tables_have_a_column_per_field() -> None:
    assert FILES.names == [field.name for field in dataclasses.fields(reviews.Source)]
    assert UNITS.names == ["id", *(field.name for field in dataclasses.fields(reviews.Piece))]


def test_plan_of_a_file_without_rows_has_no_units(tmp_path: Path) -> None:
    assert plan(write(tmp_path / "a.parquet", [0])).units == ()


def test_ids_are_unique_and_the_same_for_the_same_catalog(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [5, 4])
    write(tmp_path / "b.parquet", [5, 4])
    ids = [unit.id for unit in plan(tmp_path).units]
    assert ids == [unit.id for unit in plan(tmp_path).units]
    assert len(set(ids)) == len(ids) == 6


def test_ids_depend_on_the_file_and_on_what_analyzes_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [4])
    before = {unit.id for unit in plan(path).units}
    assert before.isdisjoint(unit.id for unit in plan(path, fingerprint="other").units)
    assert before.isdisjoint(unit.id for unit in plan(path, unit_rows=3).units)
    write(path, [4], ["다른", "글", "이", "긴 것"])
    assert before.isdisjoint(unit.id for unit in plan(path).units)


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 9, 11, 12, 99])
def test_limit_takes_exactly_the_first_rows(tmp_path: Path, limit: int) -> None:
    write(tmp_path / "a.parquet", [5, 4])
    write(tmp_path / "b.parquet", [3])
    whole, limited = plan(tmp_path), plan(tmp_path, limit=limit)
    assert limited.rows == min(limit, 12)
    assert all(unit.rows for unit in limited.units)
    assert [u.head.first for u in limited.units] == [u.head.first for u in whole.units][: len(limited.units)]
    full = {unit.id: unit.rows for unit in whole.units}
    assert all(full.get(unit.id, unit.rows) == unit.rows for unit in limited.units)
    texts = [text for u in limited.units for text in accepted(u, limited.columns)["text"].to_pylist()]
    assert texts == [f"리뷰 {i}번" for i in [*range(9), *range(3)]][:limit]


def accepted(unit: reviews.Unit, columns: Columns) -> pa.Table:
    table, _ = reviews.read(unit, columns)
    assert table is not None
    return table


def test_columns_are_found_mapped_and_kept(tmp_path: Path) -> None:
    planned = plan(write(tmp_path / "a.parquet", [2], text="말", review_id="번호"), mapping="text=말", keep="mall")
    assert planned.columns == Columns(review_id="번호", text="말", keep=("mall",))
    file = str(tmp_path / "a.parquet")
    assert accepted(planned.units[0], planned.columns).to_pylist() == [
        {"review_id": "a0", "text": "리뷰 0번", "mall": 0, "source_file": file, "source_row": 0},
        {"review_id": "a1", "text": "리뷰 1번", "mall": 1, "source_file": file, "source_row": 1},
    ]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all", None])
def test_file_that_cannot_be_read_is_set_aside_with_its_reason(tmp_path: Path, data: bytes | None) -> None:
    whole = write(tmp_path / "b.parquet", [2]).read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2] if data is None else data)
    planned = plan(tmp_path)
    assert planned.rows == 2
    [source] = planned.unreadable
    assert source.file == str(tmp_path / "a.parquet")
    assert source.reason is not None
    assert source.reason.startswith("unreadable Parquet file: ")
    assert "\n" not in source.reason


@pytest.mark.parametrize("name", ["a", "c"])
def test_file_that_lacks_the_text_is_set_aside_wherever_it_is_sorted(tmp_path: Path, name: str) -> None:
    whole = pq.read_table(write(tmp_path / "b.parquet", [2]))
    pq.write_table(whole.drop_columns(["text"]), tmp_path / f"{name}.parquet")
    planned = plan(tmp_path)
    assert planned.rows == 2
    [source] = planned.unreadable
    assert (source.file, source.reason) == (
        str(tmp_path / f"{name}.parquet"),
        "no text column among review_id, mall",
    )


def test_a_kept_column_never_costs_a_row(tmp_path: Path) -> None:
    whole = pq.read_table(write(tmp_path / "a.parquet", [2]))
    at = whole.column_names.index("mall")
    for name, values in (("b", pa.array(["x", "y"])), ("c", pa.array([1, None], pa.int64()))):
        pq.write_table(whole.set_column(at, "mall", values), tmp_path / f"{name}.parquet")
    pq.write_table(whole.drop_columns(["mall"]), tmp_path / "d.parquet")
    planned = plan(tmp_path, keep="mall")
    assert not planned.unreadable
    kinds = "int32 in a.parquet, string in b.parquet, int64 in c.parquet, null (no such column) in d.parquet"
    assert planned.notes[-1] == f"mall: {kinds} -> string"
    tables = [accepted(unit, planned.columns) for unit in planned.units]
    assert {table.schema.field("mall").type for table in tables} == {pa.string()}
    assert [table["mall"].to_pylist() for table in tables] == [["0", "1"], ["x", "y"], ["1", None], [None, None]]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no reviews there"),
        ({"a.csv": b"x"}, "no review_id column among x"),
        ({"a.feather": b"ARROW1.."}, r"no reviews there; a\.feather: a Feather .*read_feather"),
        ({"a.parquet": b"x", "b.parquet": b""}, r"no readable file; the first: unreadable Parquet file: "),
    ],
)
def test_catalog_without_a_readable_file_is_refused(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words):
        plan(tmp_path)


def test_catalog_without_a_text_column_is_refused_with_the_flag_to_name_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.parquet: no text column among .*--columns text=NAME"):
        plan(write(tmp_path / "a.parquet", [2], text="말"))


def test_rejects_carry_their_row_in_the_file(tmp_path: Path) -> None:
    texts = ["굿"] * 12
    path = write(tmp_path / "a.parquet", [5, 7], [None if i in (0, 4, 6, 11) else text for i, text in enumerate(texts)])
    planned = plan(path)
    rejects = [reject for unit in planned.units for reject in reviews.read(unit, planned.columns)[1].to_pylist()]
    assert [(r["row"], r["review_id"], r["reason"]) for r in rejects] == [
        (i, f"a{i}", "null text") for i in (0, 4, 6, 11)
    ]
    assert {r["file"] for r in rejects} == {str(path)}


def test_corrupt_page_rejects_its_units_and_the_others_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [4, 4])
    data = bytearray(path.read_bytes())
    data[data.index("리뷰 5번".encode())] ^= 1
    path.write_bytes(data)
    planned = plan(path, unit_rows=2)
    results = [reviews.read(unit, planned.columns) for unit in planned.units]
    assert [table is None for table, _ in results] == [False, False, True, True]
    for unit, (_, rejected) in list(zip(planned.units, results, strict=True))[2:]:
        [reject] = rejected.to_pylist()
        assert (reject["file"], reject["row"]) == (str(path), unit.head.first)
        assert reject["reason"].startswith("unreadable rows: ")


def test_file_that_vanishes_after_the_plan_rejects_its_units(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [2])
    planned = plan(path)
    path.unlink()
    table, rejected = reviews.read(planned.units[0], planned.columns)
    assert table is None
    assert rejected["reason"].to_pylist() == ["the file was changed or removed after the run was planned"]


def test_file_that_becomes_a_folder_after_the_plan_rejects_its_units(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [2])
    planned = plan(path)
    path.unlink()
    path.mkdir()
    table, rejected = reviews.read(planned.units[0], planned.columns)
    assert table is None
    assert rejected["reason"].to_pylist() == [reviews.CHANGED]


def test_file_that_changes_after_the_plan_rejects_its_units(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [2])
    planned = plan(path)
    write(path, [2], ["다른", "글입니다"])
    table, rejected = reviews.read(planned.units[0], planned.columns)
    assert table is None
    assert rejected["reason"].to_pylist() == ["the file was changed or removed after the run was planned"]


FACTS: commit.UnitFacts = {"findings": 0, "work": {"seconds": 1.5}}


def commit_all(out: str, planned: reviews.Plan) -> list[commit.CommitRecord]:
    return [commit.commit(out, unit, *reviews.read(unit, planned.columns), FACTS) for unit in planned.units]


def test_catalog_on_s3_gives_the_same_rows_as_on_disk(tmp_path: Path, s3: str) -> None:
    path = write(tmp_path / "리뷰 1.parquet", [5, 4], ["굿", None] * 4 + [""])
    storage.upload(str(tmp_path), f"{s3}/catalog")
    records = [commit_all(out, plan(uri)) for uri, out in ((path, f"{tmp_path}/out"), (f"{s3}/catalog", f"{s3}/out"))]
    counts = [[(r["first"], r["analysed"], r["rejected"]) for r in each] for each in records]
    assert counts[0] == counts[1] == [(0, 2, 2), (4, 1, 0), (5, 1, 3)]
    assert len(storage.read_parquet(f"{s3}/out/_parts/data")) == 4


TEXTS = st.sampled_from(["굿", "배송 빨라요", "", "\u200b", None])


@settings(max_examples=40, deadline=None)
@given(
    files=st.lists(st.lists(st.lists(TEXTS, max_size=5), min_size=1, max_size=3), min_size=1, max_size=3),
    unit_rows=st.integers(1, 6),
    limit=st.integers(0, 12),
)
def test_rows_in_are_rows_analyzed_and_rows_rejected(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[list[str | None]]], unit_rows: int, limit: int
) -> None:
    folder = tmp_path_factory.mktemp("catalog")
    for i, groups in enumerate(files):
        write(folder / f"{i}-.parquet", [len(group) for group in groups], [text for group in groups for text in group])
    planned = plan(folder, unit_rows, limit)
    records = commit_all(f"{folder}/out", planned)
    rows = [(f"{i}-{n}", text) for i, groups in enumerate(files) for n, text in enumerate(itertools.chain(*groups))]
    rows = rows[: limit or len(rows)]
    good = [review_id for review_id, text in rows if text and text != "\u200b"]
    assert sum(record["rows_in"] for record in records) == len(rows) == planned.rows
    assert sum(record["analysed"] + record["rejected"] for record in records) == len(rows)
    kept, refused = (
        ([], []) if not rows else (written(f"{folder}/out/_parts/data"), written(f"{folder}/out/_parts/rejected"))
    )
    assert sorted(kept) == sorted(good)
    assert sorted(kept + refused) == sorted(review_id for review_id, _ in rows)


def written(folder: str) -> list[str]:
    return list(storage.read_parquet(folder)["review_id"].to_pylist()) if storage.exists(folder) else []
