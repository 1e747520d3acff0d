"""Which files are the input: told by content, by the shell's rules, once each, and what is left out is said."""

import base64
import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.data import reviews
from ray_app.data.reading import inputs
from ray_app.errors import UserError
from tests.support.small_catalogs import TEXTS, parquet, planned, rows

if TYPE_CHECKING:
    from pyiceberg.table import Table


def names(uri: object) -> list[str]:
    return [Path(file.info.uri).name for file in inputs.find(str(uri)).files]


def left_out(uri: object) -> dict[str, str]:
    return {Path(one.file).name: one.reason for one in inputs.find(str(uri)).left_out}


def test_parquet_is_known_by_its_content(tmp_path: Path) -> None:
    data = parquet(tmp_path / "a.parquet").read_bytes()
    for name in ("000000_0", "b.snappy", "c.parquet.gz", "d.PARQUET", "e.pq", "f"):
        (tmp_path / name).write_bytes(data)
    for name in ("_SUCCESS", ".a.crc", "_committed_1"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "README.md").write_text("# What this is\n")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    assert sorted(names(tmp_path)) == ["000000_0", "a.parquet", "b.snappy", "c.parquet.gz", "d.PARQUET", "e.pq", "f"]
    assert set(left_out(tmp_path)) == {"_SUCCESS", ".a.crc", "_committed_1", "README.md", "empty.txt", "image.png"}
    lines = list(inputs.find(str(tmp_path)).describe())
    assert lines[0] == "7 files (7 parquet); 6 left out"
    assert any("README.md: text without columns" in line for line in lines)


def test_a_single_file_without_ending_is_read(tmp_path: Path) -> None:
    parquet(tmp_path / "20240701_144951_00037_v74wa")
    assert len(rows(planned(tmp_path))[0]) == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pickle.dumps([1]), "a pickle, which can run code; convert it: .*read_pickle"),
        (b"ORC....", "an ORC file; convert it: .*read_orc"),
        (b"PK\x03\x04....", "a zip archive; unpack it"),
        (b"\xd0\xcf\x11\xe0....", r"old Excel .*read_excel"),
        (b"<html><table>", "save it as xlsx or CSV"),
        (b'[{"id": 1}]', "one JSON document; write one object per line"),
        (gzip.compress(b'[{"id": 1}]', mtime=0), "one JSON document"),
        (b"\0\1\2\3", "neither a table nor text"),
        (b"", "empty"),
    ],
)
def test_a_file_of_another_kind_is_one_line_with_the_way_out(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "r.dat").write_bytes(data)
    for uri in (tmp_path / "r.dat", tmp_path):
        with pytest.raises(UserError, match=words):
            inputs.find(str(uri))


def test_feather_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    pyarrow.feather.write_feather(pa.table({"id": [1]}), tmp_path / "r.feather")
    with pytest.raises(UserError, match=r"Feather .*read_feather\('r.feather'\)"):
        inputs.find(str(tmp_path / "r.feather"))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("r.xlsx", b"\xd0\xcf\x11\xe0....", "with a password, or one of old Excel"),
        ("r.ods", b"PK\x03\x04....", "an OpenDocument sheet; save it as xlsx"),
        ("r.docx", b"PK\x03\x04....[Content_Types].xml", "a document without a table"),
    ],
)
def test_a_document_is_told_from_a_table_by_its_ending(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words):
        inputs.find(str(tmp_path / name))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "a.parquet",
        "b1.parquet",
        "b2.parquet",
        "b3.parquet",
        "dt=1/p.parquet",
        "dt=2/p.parquet",
        "old/x/a.parquet",
    ):
        parquet(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    ["*.parquet", "*", "b[12].parquet", "b[!1].parquet", "?1.parquet", "**/*.parquet", "dt=*/*.parquet", "**/x/*"],
)
def test_globs_follow_the_shell(tree: Path, pattern: str) -> None:
    script = f'shopt -s globstar; for f in {pattern}; do [ -f "$f" ] && echo $f; done; true'
    shell = subprocess.run(["bash", "-c", script], cwd=tree, capture_output=True, text=True, check=True).stdout.split()
    found = inputs.find(f"{tree}/{pattern}").files
    assert [file.info.uri.removeprefix(f"{tree}/") for file in found] == sorted(shell)


@pytest.mark.parametrize(("pattern", "count"), [("dt=[12]", 2), ("old", 1), ("**", 7), ("dt=*", 2)])
def test_a_folder_that_a_pattern_names_stands_for_all_below_it(tree: Path, pattern: str, count: int) -> None:
    assert len(inputs.find(f"{tree}/{pattern}").files) == count


def test_several_paths_are_one_input_and_commas_may_be_in_names(tree: Path) -> None:
    assert len(names(f"{tree}/dt=1, {tree}/old")) == 2
    parquet(tree / "가격,리뷰.parquet")
    assert names(f"{tree}/가격,리뷰.parquet") == ["가격,리뷰.parquet"]
    with pytest.raises(UserError, match="nowhere: no such file"):
        inputs.find(f"{tree}/dt=1,{tree}/nowhere")


def test_links_and_loops_are_read_once(tree: Path) -> None:
    (tree / "again").symlink_to(tree / "old")
    (tree / "dt=1" / "loop").symlink_to(tree)
    (tree / "same.parquet").symlink_to(tree / "a.parquet")
    (tree / "gone.parquet").symlink_to(tree / "nothing")
    found = inputs.find(str(tree))
    assert len(found.files) == 7
    assert left_out(tree) == {
        "gone.parquet": "a link to a file that does not exist",
        "same.parquet": f"the same file as {tree}/a.parquet",
    }
    assert len(storage.list_files(str(tree))) == 8


@pytest.mark.parametrize(
    ("uri", "out", "inside"),
    [
        ("in", "in/analyses", True),
        ("in", "in", True),
        ("in/**", "in/a/b", True),
        ("in/*", "in/analyses", False),
        ("in/*.parquet", "in/analyses", False),
        ("in", "in2", False),
        ("other,in", "in/out", True),
    ],
)
def test_an_output_inside_the_input_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, out: str, inside: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in", "other"):
        parquet(tmp_path / name / "a.parquet")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert bool(inputs.holds(uri, str(tmp_path / out))) == inside
    assert bool(inputs.holds(uri, out.replace("in", "link", 1))) == (inside and "link" in out.replace("in", "link", 1))


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    assert names(tmp_path) == ["a.parquet"]
    assert left_out(tmp_path) == {
        "pipe.csv": "no file: a pipe, socket or device",
        "loop.csv": "a link to a file that does not exist",
    }
    with pytest.raises(UserError, match=r"pipe\.csv: neither a file nor a folder"):
        inputs.find(f"{tmp_path}/pipe.csv")


def test_s3_lists_the_same(tree: Path, s3: str) -> None:
    storage.upload(str(tree), f"{s3}/in")
    for pattern in ("", "/*.parquet", "/dt=*", "/**/*.parquet"):
        here, there = (inputs.find(f"{root}{pattern}").files for root in (tree, f"{s3}/in"))
        assert [f.info.uri.removeprefix(str(tree)) for f in here] == [
            f.info.uri.removeprefix(f"{s3}/in") for f in there
        ]


def test_a_delta_table_is_read_through_its_log(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    for texts, mode in ((TEXTS, "append"), (TEXTS[:1], "overwrite")):
        deltalake.write_deltalake(
            str(tmp_path / "t"), pa.table({"review_id": [str(i) for i in range(len(texts))], "text": texts}), mode=mode
        )
    assert len(list((tmp_path / "t").glob("*.parquet"))) == 2
    assert len(rows(planned(tmp_path / "t"))[0]) == 1
    assert len(rows(planned(tmp_path))[0]) == 1


def test_a_delta_table_on_s3_is_read_through_its_log(s3: str) -> None:
    deltalake = pytest.importorskip("deltalake")
    options = {f"AWS_{name}": os.environ[f"AWS_{name}"] for name in ("ENDPOINT_URL", "ACCESS_KEY_ID")}
    options |= {"AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    for texts, mode in ((TEXTS, "append"), (TEXTS[:1], "overwrite")):
        table = pa.table({"review_id": [str(i) for i in range(len(texts))], "text": texts, "dt": ["가/1"] * len(texts)})
        deltalake.write_deltalake(f"{s3}/t", table, mode=mode, storage_options=options, partition_by="dt")
    assert sum(name.endswith(".parquet") for name, _ in storage.walk(f"{s3}/t")) == 2
    accepted, rejected = rows(planned(f"{s3}/t", keep="dt"))
    assert accepted == [{"review_id": "0", "text": TEXTS[0], "dt": "가/1"}]
    assert rejected == []


def deletion_vector(row: int) -> dict[str, Any]:
    """A vector that deletes one row, as Delta's log holds a small one: a roaring bitmap in Z85."""
    bitmap = struct.pack("<IIHHIH", 12_346, 1, 0, 0, 16, row)
    data = struct.pack("<IQI", 1_681_511_377, 1, 0) + bitmap
    z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    b85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    text = base64.b85encode(data + b"\0" * (-len(data) % 4)).decode().translate(str.maketrans(b85, z85))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data), "cardinality": 1}


def test_rows_that_a_delta_table_deleted_by_vectors_are_not_read(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    table = pa.table({"review_id": list("abc"), "text": TEXTS})
    properties = {"delta.enableDeletionVectors": "true"}
    deltalake.write_deltalake(str(tmp_path), table, configuration=properties)
    assert len(rows(planned(tmp_path))[0]) == 3
    log = tmp_path / "_delta_log"
    lines = map(json.loads, (log / f"{0:020}.json").read_text().splitlines())
    added = next(line["add"] for line in lines if "add" in line)
    removed = {"path": added["path"], "deletionTimestamp": 1, "dataChange": True}
    added["deletionVector"] = deletion_vector(1)
    (log / f"{1:020}.json").write_text(f"{json.dumps({'remove': removed})}\n{json.dumps({'add': added})}\n")
    with pytest.raises(UserError, match="a Delta table with deletion vectors; run REORG"):
        planned(tmp_path)


def test_a_delta_table_with_other_names_in_its_files_is_refused(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    deltalake.write_deltalake(str(tmp_path), pa.table({"review_id": ["a"], "text": TEXTS[:1]}))
    log = tmp_path / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "metaData" in line:
            line["metaData"]["configuration"]["delta.columnMapping.mode"] = "name"
    log.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(UserError, match="a Delta table"):
        planned(tmp_path)


def test_a_delta_table_without_its_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    parquet(tmp_path / "part-0.parquet")
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / "0.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"a Delta table, whose files also hold deleted rows; .*\[tables\]"):
        inputs.find(str(tmp_path))


def test_a_hudi_table_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "t" / "a.parquet")
    (tmp_path / "t" / ".hoodie").mkdir()
    (tmp_path / "t" / ".hoodie" / "hoodie.properties").write_text("")
    with pytest.raises(UserError, match="a Hudi table"):
        inputs.find(str(tmp_path))


@pytest.mark.parametrize("mark", ["_delta_log/0.json", ".hoodie/x", "metadata/v1.metadata.json"])
@pytest.mark.parametrize("part", ["t/dt=1", "t/dt=1/a.parquet", "t/*/*.parquet", "t/dt=*"])
def test_a_part_of_a_table_is_refused(tmp_path: Path, mark: str, part: str) -> None:
    parquet(tmp_path / "t" / "dt=1" / "a.parquet")
    (tmp_path / "t" / mark).parent.mkdir()
    (tmp_path / "t" / mark).write_text("")
    with pytest.raises(UserError, match=r"a part of an? \w+ table; name its folder, .*/t$"):
        inputs.find(f"{tmp_path}/{part}")


def iceberg(folder: Path, warehouse: str, **properties: str) -> "Table":
    """A table of two reviews that became one."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("c", uri=f"sqlite:///{folder}/c.db", warehouse=warehouse, **properties)
    catalog.create_namespace("n")
    two = pa.table({"review_id": ["a", "b"], "text": TEXTS[:2], "mall": ["가", "나"]})
    table = catalog.create_table("n.t", two.schema)
    table.append(two)
    table.overwrite(two.slice(0, 1))
    return table


def test_an_iceberg_table_is_read_through_its_metadata(tmp_path: Path) -> None:
    root = iceberg(tmp_path, f"file://{tmp_path}/w").location().removeprefix("file://")
    assert len(list(Path(root).glob("data/*.parquet"))) > 1
    assert len(rows(planned(root))[0]) == 1


def test_an_iceberg_table_on_s3_is_read_through_its_metadata(tmp_path: Path, s3: str) -> None:
    keys = {"s3.access-key-id": "test", "s3.secret-access-key": "test", "s3.region": "us-east-1"}
    root = iceberg(tmp_path, f"{s3}/w", **keys, **{"s3.endpoint": os.environ["AWS_ENDPOINT_URL"]}).location()
    assert len([name for name, _ in storage.walk(f"{root}/data") if name.endswith(".parquet")]) > 1
    assert [row["review_id"] for row in rows(planned(root))[0]] == ["a"]


def test_an_iceberg_table_whose_columns_changed_hands_is_refused(tmp_path: Path) -> None:
    table = iceberg(tmp_path, f"file://{tmp_path}/w")
    root = table.location().removeprefix("file://")
    from pyiceberg.types import IntegerType

    with table.update_schema() as change:
        change.add_column("score", IntegerType())
    assert len(rows(planned(root))[0]) == 1
    with table.update_schema() as change:
        change.rename_column("mall", "shop")
    with pytest.raises(UserError, match="an Iceberg table whose columns were renamed or replaced"):
        planned(root)


def test_bytes_of_a_file_decide_before_its_name(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": ["a"], "text": ["굿"]}), sink)
    (tmp_path / "r.csv").write_bytes(sink.getvalue())
    assert len(rows(planned(tmp_path / "r.csv"))[0]) == 1


def test_files_of_other_rules_for_globs_are_still_found(tree: Path) -> None:
    """An unfinished run may have been planned when `*` crossed folders."""
    assert f"{tree}/old/x/a.parquet" in reviews.input_versions(f"{tree}/*.parquet")
