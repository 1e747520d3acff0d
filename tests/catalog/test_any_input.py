"""A run on the catalogs that people have: what comes in, what is said, and what is refused before anything starts."""

import csv
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from ray_app import cluster, storage
from ray_app.catalog import analyze, manifest
from ray_app.errors import UserError
from tests.support.catalog_run import config, verified
from tests.support.deaths import Death, dying_at_commit
from tests.support.full_disk import full_disk
from tests.support.small_catalogs import TEXTS, parquet


def run(folder: Path, bundle: str, **changes: Any) -> int:
    """A run over `folder`/in, without the kept column that the shared config names."""
    return analyze.run(config(folder / "in", bundle, **{"keep": "", **changes}))


def analyses(folder: Path) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pads.dataset(str(folder / "out" / "data"), partitioning="hive").to_table().to_pylist()
    return table


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = storage.read_json(f"{folder}/out/_run.json")
    return found


def test_csv_gives_the_analyses_that_parquet_gives(tmp_path: Path, bundle_folder: str) -> None:
    table = pa.table(
        {"리뷰번호": [f"r{i}" for i in range(40)], "리뷰내용": [f"{TEXTS[i % 3]}, {i}" for i in range(40)]}
    )
    for name in ("csv", "parquet"):
        (tmp_path / name / "in").mkdir(parents=True)
    pq.write_table(table, tmp_path / "parquet" / "in" / "a.parquet")
    table.to_pandas().to_csv(tmp_path / "csv" / "in" / "a.csv", index=False, encoding="cp949")
    found = []
    for name in ("csv", "parquet"):
        assert run(tmp_path / name, bundle_folder) == 0
        assert verified(tmp_path / name / "in") == 0
        found.append(sorted(analyses(tmp_path / name), key=lambda row: str(row["review_id"])))
    assert found[0] == found[1]


@pytest.mark.parametrize("after", [False, True])
def test_a_run_over_csv_and_shared_units_that_died_is_resumed(
    tmp_path: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    lines = "".join(f'{i},"{TEXTS[i % 3]}\n{i}"\n' for i in range(30))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(f"id,text\n{lines}", encoding="utf-8")
    for i in range(20):
        parquet(tmp_path / "in" / f"tiny{i:02d}.parquet")
    with dying_at_commit(monkeypatch, 3, after):
        run(tmp_path, bundle_folder, unit_rows=24)
    assert run(tmp_path, bundle_folder, unit_rows=24) == 0
    found = [row["review_id"] for row in analyses(tmp_path)]
    assert len(found) == len(set(found)) == 30 + 60
    assert verified(tmp_path / "in") == 0
    loaded = manifest.load(f"{tmp_path}/out")
    assert loaded is not None
    assert max(len(unit.pieces) for unit in loaded.units) == 2


def test_what_was_rejected_is_said_with_counts_and_examples(
    tmp_path: Path, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet(tmp_path / "in" / "a.parquet", review_id=["a", "b", None, "d"], text=["굿", "&nbsp;", "굿", "x" * 20_001])
    assert run(tmp_path, bundle_folder) == 0
    shown = capsys.readouterr().out
    assert f"rejected 1 rows: empty text, such as {tmp_path}/in/a.parquet row 1 (id b): '&nbsp;'" in shown
    assert "rejected 1 rows: null id, such as" in shown
    assert "rejected 1 rows: text has … characters, over the limit of …, such as" in shown
    assert report(tmp_path)["reasons"]["null id"]["rows"] == 1


def test_a_run_that_rejected_everything_does_not_exit_0(tmp_path: Path, bundle_folder: str) -> None:
    parquet(tmp_path / "in" / "a.parquet", text=["", None, " "])
    for _ in range(2):
        assert run(tmp_path, bundle_folder) == analyze.REJECTS_EXIT
    assert verified(tmp_path / "in") == 0


def test_ids_that_repeat_are_counted_and_said(
    tmp_path: Path, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("p1", "p2"):
        parquet(tmp_path / "in" / f"{name}.parquet", review_id=[1, 2, 3])
    assert run(tmp_path, bundle_folder, source=True) == 0
    assert "3 ids are on more than one row" in capsys.readouterr().out
    places = {(Path(row["source_file"]).stem, row["source_row"], row["review_id"]) for row in analyses(tmp_path)}
    assert places == {(name, i, str(i + 1)) for name in ("p1", "p2") for i in range(3)}


def test_values_that_are_no_utf8_are_counted_and_said(
    tmp_path: Path, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mall = pa.array(["정상".encode(), "깨짐".encode("cp949"), b"\xff"], pa.binary()).view(pa.string())
    parquet(tmp_path / "in" / "a.parquet", mall=mall)
    assert run(tmp_path, bundle_folder, keep="mall") == 0
    assert "mall: 2 values are not UTF-8" in capsys.readouterr().out
    assert pd.read_parquet(tmp_path / "out" / "data")["mall"].tolist()[0] == "정상"


def test_the_text_is_kept_unless_told_otherwise(tmp_path: Path, bundle_folder: str) -> None:
    parquet(tmp_path / "in" / "a.parquet", review_id=None, text=None, 번호=[1, 2, 3], 후기=TEXTS)
    run(tmp_path, bundle_folder)
    assert [row["text"] for row in analyses(tmp_path)] == TEXTS
    run(tmp_path, bundle_folder, text=False, output=str(tmp_path / "other" / "out"))
    assert "text" not in analyses(tmp_path / "other")[0]
    with pytest.raises(UserError, match="was begun with --text True, now it is False"):
        run(tmp_path, bundle_folder, text=False)


def test_kept_columns_may_be_named_by_role(tmp_path: Path, bundle_folder: str) -> None:
    names = {
        "리뷰글번호": ["a"],
        "리뷰상세내용": TEXTS[:1],
        "상품명": ["가방"],
        "리뷰등록일": ["2026-01-01"],
        "구매자평점": [5],
    }
    parquet(tmp_path / "in" / "a.parquet", review_id=None, text=None, **names)
    run(tmp_path, bundle_folder, keep="text,product,date,rating")
    [row] = analyses(tmp_path)
    assert (row["text"], row["product"], row["date"], row["rating"]) == (TEXTS[0], "가방", "2026-01-01", 5)


def test_files_that_come_later_may_have_other_types(
    tmp_path: Path, bundle_folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ray_app")
    parquet(tmp_path / "in" / "a.parquet", rating=[5, 4, 3])
    assert run(tmp_path, bundle_folder, keep="rating", incremental=True) == 0
    parquet(tmp_path / "in" / "b.parquet", rating=[4.5, None, 1.0])
    parquet(tmp_path / "in" / "c.parquet", text=None, 후기=TEXTS)
    (tmp_path / "in" / "d.csv").write_text("리뷰번호,내용\nx,굿\n", encoding="cp949")
    assert run(tmp_path, bundle_folder, keep="rating", incremental=True) == 0
    whole = pd.read_parquet(tmp_path / "out" / "data").set_index("review_id")["rating"]
    assert sorted(whole.index) == ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2", "x"]
    assert whole[["a0", "a1", "b0", "b2"]].tolist() == [5.0, 4.0, 4.5, 1.0]
    assert set(pd.read_parquet(tmp_path / "out" / "findings").review_id) == set(whole.index)
    assert "rating: double in b.parquet" in caplog.text
    assert verified(tmp_path / "in") == 0


@pytest.mark.parametrize("death", [1, 2, 3, 4])
def test_types_that_grew_are_given_to_earlier_files_whatever_dies(
    tmp_path: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch, death: int
) -> None:
    options: dict[str, Any] = {"keep": "keyword,rating", "findings_table": "csv", "incremental": True}
    parquet(tmp_path / "in" / "a.parquet", rating=[5, 4, 3], keyword=[1, 2, 3])
    run(tmp_path, bundle_folder, **options)
    parquet(tmp_path / "in" / "b.parquet", rating=["*****"], keyword=[0.5])
    left = [death]

    def deadly(uri: str, *given: Any) -> None:
        left[0] -= "recast" in uri or uri.endswith(("part-000000.parquet", "000000.done.json"))
        if left[0] == 0:
            raise Death
        write(uri, *given)

    for name in ("write_bytes", "write_json"):
        write = getattr(storage, name)
        with monkeypatch.context() as patched, suppress(Death):
            patched.setattr(storage, name, deadly)
            run(tmp_path, bundle_folder, **options)
    assert run(tmp_path, bundle_folder, **options) == 0
    assert verified(tmp_path / "in") == 0
    table = pq.read_table(tmp_path / "out" / "data")
    assert table["rating"].to_pylist() == ["5", "4", "3", "*****"]
    assert pq.read_table(tmp_path / "out" / "findings").schema.field("kept_keyword").type == pa.float64()
    assert not list((tmp_path / "out" / "_files").glob("*.recast.json"))


def test_an_output_inside_the_input_is_refused(tmp_path: Path, bundle_folder: str) -> None:
    parquet(tmp_path / "in" / "a.parquet")
    for output in (tmp_path / "in" / "out", tmp_path / "in"):
        with pytest.raises(UserError, match=r"inside --input .*, whose next run would read it as reviews"):
            run(tmp_path, bundle_folder, output=str(output), incremental=True)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.parquet"]


def test_the_dry_run_shows_rows_as_they_are_read_and_what_is_left_out(
    tmp_path: Path, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    far = pa.array([-(2**62), 0, 0], pa.timestamp("us"))  # a year that Python's calendar does not reach
    columns = {
        "번호": [1, 2, 3],
        "내용": ["배송이 빨라요", "", "색이 예뻐요"],
        "상품명": ["가방", "신발", "모자"],
        "far": far,
    }
    parquet(tmp_path / "in" / "a.parquet", review_id=None, text=None, **columns)
    (tmp_path / "in" / "notes.md").write_text("notes")
    assert run(tmp_path, bundle_folder, keep="product,far", dry_run=True) == 0
    shown = capsys.readouterr().out
    assert f"left out {tmp_path}/in/notes.md: text without columns" in shown
    assert "row review_id='1' · text='배송이 빨라요' · product='가방' · far='-4611686018427387904'" in shown
    assert f"rejected {tmp_path}/in/a.parquet row 1 (id 2): empty text" in shown
    assert not (tmp_path / "out").exists()


def test_the_flat_table_has_a_row_per_finding_also_as_csv(tmp_path: Path, bundle_folder: str) -> None:
    parquet(
        tmp_path / "in" / "a.parquet", review_id=[f"r{i}" for i in range(12)], keyword=["=1+1"] * 12, tags=[["x"]] * 12
    )
    options: dict[str, Any] = {"highlights": "exact", "findings_table": "csv", "keep": "keyword,tags"}
    assert run(tmp_path, bundle_folder, **options) == 0
    nested = [
        (row["review_id"], f["keyword"], f["score"], f["highlight"] and f["highlight"]["word"])
        for row in analyses(tmp_path)
        for f in row["findings"]
    ]
    flat = pd.read_parquet(tmp_path / "out" / "findings")
    assert list(flat.columns) == [
        *("review_id", "kept_keyword", "tags", "keyword", "score", "probability", "highlight", "opinion")
    ]
    assert sorted(zip(flat.review_id, flat.keyword, flat.score, flat.highlight, strict=True)) == sorted(nested)
    assert len(flat) == report(tmp_path)["findings"]
    [sheet] = (tmp_path / "out" / "findings_csv").glob("*.csv")
    assert sheet.read_bytes().startswith(b"\xef\xbb\xbf")
    lines = list(csv.DictReader(io.StringIO(sheet.read_text(encoding="utf-8-sig"))))
    assert [(line["review_id"], line["keyword"], line["kept_keyword"], line["tags"]) for line in lines] == [
        (i, keyword, "'=1+1", '["x"]') for i, keyword in zip(flat.review_id, flat.keyword, strict=True)
    ]
    assert verified(tmp_path / "in") == 0
    sheet.write_bytes(sheet.read_bytes() + b"x")
    assert verified(tmp_path / "in") == 1


def test_verify_counts_the_rows_in_the_files(
    reviews: Path, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    analyze.run(config(reviews, bundle_folder))
    [marker, *_] = sorted((reviews.parent / "out" / "_units").glob("*.json"))
    record = storage.read_json(str(marker))
    storage.write_json(str(marker), {**record, "rows": 9, "analysed": record["analysed"] + 1})
    assert verified(reviews) == 1
    assert "data: its files stand for 50 rows, 51 were committed" in capsys.readouterr().out


def test_a_run_refuses_to_end_where_its_files_lack_a_row(
    reviews: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray_app.catalog import compaction

    whole = compaction._conformed
    monkeypatch.setattr(compaction, "_conformed", lambda table, schema: whole(table, schema).slice(1))
    with pytest.raises(UserError, match="50 rows analyzed, 43 in its files"):
        analyze.run(config(reviews, bundle_folder))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keep": "moll"}, "--keep moll: no such column"),
        ({"columns": "text=content"}, "no column 'content'"),
        ({"bundle": "nowhere"}, r"no bundle\.json there"),
        ({"input": "nowhere"}, "nowhere: no such file"),
        ({"keep": "tags", "partition_by": "tags"}, "which make no folder names"),
        ({"output": "in/out"}, "inside --input"),
        ({"output": "full"}, "not empty"),
        ({"output": "done", "unit_rows": 9}, "--unit-rows 8, now it is 9"),
        ({"output": "done", "resume": False}, "holds a run"),
    ],
)
def test_a_mistake_is_refused_before_ray_starts(
    tmp_path: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    parquet(tmp_path / "in" / "a.parquet", tags=[["x"]] * 3)
    parquet(tmp_path / "full" / "a.parquet")
    run(tmp_path, bundle_folder, output=str(tmp_path / "done"))
    paths = {name: str(tmp_path / value) for name, value in changes.items() if name in ("bundle", "input", "output")}
    given: dict[str, Any] = {
        "unit_rows": 8,
        "highlights": "off",
        "input": str(tmp_path / "in"),
        "bundle": bundle_folder,
        "output": str(tmp_path / "out"),
        **changes,
        **paths,
    }
    monkeypatch.setattr(cluster, "start", lambda: pytest.fail("Ray was started"))
    with pytest.raises(UserError, match=words):
        analyze.run(analyze.Config(**given))


def test_where_nothing_is_left_to_do_ray_is_not_started(
    reviews: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyze.run(config(reviews, bundle_folder))
    monkeypatch.setattr(cluster, "start", lambda: pytest.fail("Ray was started"))
    assert analyze.run(config(reviews, bundle_folder, placement="fused")) == 0
    assert analyze.run(config(reviews, bundle_folder, placement="fused", incremental=True)) == 0


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    tmp_path: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet(tmp_path / "in" / "a.parquet", text=TEXTS * 8)
    with monkeypatch.context() as full:
        full_disk(full, room=10_000)
        with pytest.raises(UserError, match="no space left on the disk; free some and run the same command again"):
            run(tmp_path, bundle_folder, unit_rows=6)
    assert run(tmp_path, bundle_folder, unit_rows=6) == 0
    assert verified(tmp_path / "in") == 0
    assert len(analyses(tmp_path)) == 24
