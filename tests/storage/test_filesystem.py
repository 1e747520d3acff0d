"""storage: the same calls on local disk and on a real S3 protocol server."""

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import boto3
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import FileSelector

from ray_app import storage
from ray_app.errors import UserError
from tests.support.full_disk import full_disk

FILES = ("a.parquet", "b.csv", "sub/c.parquet", "sub/리뷰 1%.parquet")
HIDDEN = (".git/x.parquet", "_units/x.parquet", "_run.json", "sub/.d.parquet", "sub/_e.parquet")


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder, once on disk and once in a bucket."""
    return f"{request.getfixturevalue('s3') if request.param == 's3' else tmp_path}/reviews"


@pytest.fixture
def folder(root: str) -> str:
    for name in (*FILES, *HIDDEN):
        storage.write_bytes(storage.join(root, name), name.encode())
    return root


def listed(uri: str, suffix: str = "") -> list[str]:
    return [file.uri for file in storage.list_files(uri, suffix)]


@pytest.mark.parametrize("slash", ["", "/"])
def test_folder_stands_for_its_files_by_name_without_hidden_ones(folder: str, slash: str) -> None:
    assert listed(folder + slash) == [f"{folder}/{name}" for name in FILES]


def test_suffix_filters_a_folder_but_not_a_named_file(folder: str) -> None:
    assert listed(folder, ".csv") == [f"{folder}/b.csv"]
    assert listed(f"{folder}/b.csv", ".parquet") == [f"{folder}/b.csv"]


@pytest.mark.parametrize("name", ["_run.json", "sub/.d.parquet"])
def test_hidden_file_is_read_where_it_is_named(folder: str, name: str) -> None:
    assert listed(f"{folder}/{name}") == [f"{folder}/{name}"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("sub/*.parquet", ["sub/c.parquet", "sub/리뷰 1%.parquet"]),
        ("?.csv", ["b.csv"]),
        ("[ab].*", ["a.parquet", "b.csv"]),
        ("s*/c.*", ["sub/c.parquet"]),
        ("*.json", []),
        ("*.PARQUET", []),
    ],
)
def test_glob_stands_for_the_files_it_matches(folder: str, pattern: str, names: list[str]) -> None:
    assert listed(f"{folder}/{pattern}") == [f"{folder}/{name}" for name in names]


def test_name_with_brackets_is_a_name_where_it_exists(root: str) -> None:
    storage.write_bytes(f"{root}/[최종] 리뷰.csv", b"")
    assert listed(f"{root}/[최종] 리뷰.csv") == [f"{root}/[최종] 리뷰.csv"]


def test_listed_files_carry_their_size_and_can_be_read(folder: str) -> None:
    for file in storage.list_files(folder):
        name = file.uri[len(folder) + 1 :].encode()
        assert (file.size, storage.read_bytes(file.uri)) == (len(name), name)


def test_relative_paths_mean_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.write_bytes("in/a.txt", b"1")
    assert listed("in") == ["in/a.txt"]
    assert listed("in/*.txt") == ["in/a.txt"]
    assert listed("*/a.txt") == ["./in/a.txt"]
    assert storage.absolute("in") == str(tmp_path / "in")
    assert storage.absolute("s3://shop/in") == "s3://shop/in"


def test_file_uri_means_the_local_path(tmp_path: Path) -> None:
    path = tmp_path / "리뷰 1.txt"
    storage.write_bytes(path.as_uri(), b"1")
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("read", [storage.list_files, storage.read_bytes, storage.read_json, storage.read_parquet])
def test_missing_path_is_one_line_that_names_it(root: str, read: object) -> None:
    with pytest.raises(UserError) as caught:
        read(f"{root}/nowhere")  # type: ignore[operator]
    assert str(caught.value).startswith(f"{root}/nowhere: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://nobucket/x", "ftp://host/x"])
@pytest.mark.parametrize("act", [storage.read_bytes, lambda uri: storage.write_bytes(uri, b"")])
def test_uri_that_cannot_be_reached_is_one_line_that_names_it(s3: str, uri: str, act: object) -> None:
    with pytest.raises(UserError) as caught:
        act(uri)  # type: ignore[operator]
    assert str(caught.value).startswith(f"{uri}: ")
    assert "\n" not in str(caught.value)


def test_exists_and_is_empty_tell_what_is_there(folder: str) -> None:
    assert [storage.exists(f"{folder}{end}") for end in ("", "/a.parquet", "/nowhere")] == [True, True, False]
    assert [storage.is_empty(f"{folder}{end}") for end in ("", "/a.parquet", "/nowhere")] == [False, False, True]


def test_folder_without_entries_is_empty_but_not_one_with_hidden_entries(tmp_path: Path) -> None:
    assert storage.is_empty(str(tmp_path))
    (tmp_path / "_units").mkdir()
    assert not storage.is_empty(str(tmp_path))


def test_write_replaces_the_whole_and_leaves_nothing_beside_it(root: str) -> None:
    for data in (b"long first", b"2"):
        storage.write_bytes(f"{root}/a.bin", data)
    assert storage.read_bytes(f"{root}/a.bin") == b"2"
    filesystem, path = storage.resolve(root)
    assert [info.base_name for info in filesystem.get_file_info(FileSelector(path))] == ["a.bin"]


def test_create_writes_only_where_nothing_is(root: str) -> None:
    assert storage.create(f"{root}/a.bin", b"first")
    assert not storage.create(f"{root}/a.bin", b"second")
    assert not storage.create(f"{root}/a.bin", b"first")  # the same bytes of another writer are another's
    assert storage.read_bytes(f"{root}/a.bin") == b"first"
    storage.remove(f"{root}/a.bin")
    assert storage.create(f"{root}/a.bin", b"second")
    assert [name.uri for name in storage.list_files(root)] == [f"{root}/a.bin"]


def test_a_disk_without_links_creates_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    assert [storage.create(f"{tmp_path}/a", data) for data in (b"first", b"second")] == [True, False]
    assert storage.read_bytes(f"{tmp_path}/a") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_of_many_writers_at_once_one_creates(root: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: storage.create(f"{root}/a.bin", bytes([i])), range(24)))
    assert sum(made) == 1
    assert storage.read_bytes(f"{root}/a.bin") == bytes([made.index(True)])
    assert listed(root) == [f"{root}/a.bin"]


def test_a_version_changes_with_the_content(root: str) -> None:
    storage.write_bytes(f"{root}/a", b"1")
    (before,) = storage.list_files(root)
    assert storage.stat(f"{root}/a") == before
    assert before.version
    storage.write_bytes(f"{root}/a", b"2")
    assert storage.stat(f"{root}/a").version != before.version
    with (
        pytest.raises(storage.ChangedError, match="changed since it was listed"),
        storage.open_input(f"{root}/a", before.version),
    ):
        pytest.fail("another version was opened")


def test_a_local_file_that_changes_while_it_is_read_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")

    def read_and_change() -> None:
        with storage.open_input(str(path), storage.stat(str(path)).version) as source:
            assert source.read() == b"1"
            path.write_bytes(b"22")

    with pytest.raises(storage.ChangedError):
        read_and_change()


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1, 300_000])
def test_open_input_reads_anywhere(root: str, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    storage.write_bytes(f"{root}/a", data)
    with storage.open_input(f"{root}/a") as source:
        assert source.size() == size
        for start, count in ((0, 10), (size // 2, 100), (max(size - 70_000, 0), 10_000), (max(size - 5, 0), 50)):
            source.seek(start)
            assert source.read(count) == data[start : start + count]
        source.seek(0)
        assert source.read() == data


def test_what_a_reader_raises_passes_open_input_as_it_is(root: str) -> None:
    storage.write_bytes(f"{root}/a", b"PAR1" * 10)
    with pytest.raises(pa.ArrowInvalid), storage.open_input(f"{root}/a") as source:
        pq.ParquetFile(source)


def test_missing_input_cannot_be_opened(root: str) -> None:
    for act in (storage.stat, lambda uri: storage.open_input(uri).__enter__()):
        with pytest.raises(storage.MissingError, match="reviews/a: no such file"):
            act(f"{root}/a")


def test_remove_takes_a_folder_with_hidden_files_and_nothing_beside_it(folder: str) -> None:
    storage.write_bytes(f"{folder}-old/a", b"")
    storage.remove(folder)
    storage.remove(folder)
    assert storage.is_empty(folder)
    assert listed(f"{folder}-old") == [f"{folder}-old/a"]


def test_files_are_removed_many_at_once_and_a_folder_is_no_file(folder: str) -> None:
    names = listed(folder)
    assert not storage.is_file(folder)
    assert all(storage.is_file(name) for name in names)
    storage.remove_files([names[0]])
    storage.remove_files([*names[1:], f"{folder}/none"])
    storage.remove_files([])
    assert listed(folder) == []
    assert not storage.is_file(names[0])


@given(st.text(max_size=20))
def test_a_safe_name_is_one_visible_name_and_can_be_read_back(value: str) -> None:
    name = storage.safe_name(value)
    assert Path("/out", name).resolve().parent == Path("/out")
    assert not name.startswith(("_", ".") if value else ".")
    assert not set(name) & set("/\\*?[]=:\0\n")
    assert name == name.strip("\r\t")
    assert unquote(name) == (value or storage.EMPTY)


@given(st.text(max_size=20), st.text(max_size=20))
def test_two_texts_never_share_a_safe_name(one: str, other: str) -> None:
    assert (storage.safe_name(one) == storage.safe_name(other)) == (one == other)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("", "__HIVE_DEFAULT_PARTITION__"),
        ("__HIVE_DEFAULT_PARTITION__", "%5F_HIVE_DEFAULT_PARTITION__"),
        ("..", "%2E."),
        ("../../etc", "%2E.%2F..%2Fetc"),
        ("신세계 몰", "신세계 몰"),
        ("a=b%", "a%3Db%25"),
        ("_x", "%5Fx"),
    ],
)
def test_safe_names(value: str, name: str) -> None:
    assert storage.safe_name(value) == name


def test_a_safe_name_holds_what_a_file_may_be_called(root: str) -> None:
    value = "가" * 66
    storage.write_bytes(storage.join(root, f"mall={storage.safe_name(value)}", "a"), b"1")
    assert [unquote(uri.split("=")[1].split("/")[0]) for uri in listed(root)] == [value]
    with pytest.raises(UserError, match="too long for a folder's name"):
        storage.safe_name("가" * 67)


def test_parquet_partitioned_by_odd_values_is_read_back(tmp_path: Path) -> None:
    values = ["../../etc", "a=b", "신세계 몰", ".hidden", "50%"]
    for i, value in enumerate(values):
        storage.write_parquet(f"{tmp_path}/mall={storage.safe_name(value)}/a.parquet", pa.table({"i": [i]}))
    read = ds.dataset(str(tmp_path), partitioning="hive").to_table().sort_by("i")
    assert read["mall"].to_pylist() == values


def test_a_key_that_leads_out_of_the_folder_is_not_downloaded(s3: str, tmp_path: Path) -> None:
    client = boto3.client("s3")
    for key in ("in/a", "in/sub/../../../evil.txt"):
        client.put_object(Bucket="shop", Key=key, Body=b"")
    storage.download(f"{s3}/in", tmp_path / "to" / "in")
    client.put_object(Bucket="shop", Key=f"in/{tmp_path}/evil.txt", Body=b"")
    with pytest.raises(UserError, match="points outside"):
        storage.download(f"{s3}/in", tmp_path / "to" / "in")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a"]


def test_json_keeps_korean_readable(root: str) -> None:
    storage.write_json(f"{root}/a.json", {"이름": [1, None]})
    assert storage.read_json(f"{root}/a.json") == {"이름": [1, None]}
    assert "이름" in storage.read_bytes(f"{root}/a.json").decode()


@pytest.mark.parametrize("data", [b"{", b"", b"\xff"])
def test_broken_json_names_the_file(root: str, data: bytes) -> None:
    storage.write_bytes(f"{root}/a.json", data)
    with pytest.raises(UserError, match=r"a\.json: not JSON"):
        storage.read_json(f"{root}/a.json")


def test_parquet_files_of_a_folder_are_one_table(root: str) -> None:
    storage.write_parquet(f"{root}/a.parquet", pa.table({"x": [1], "y": ["가"]}))
    storage.write_parquet(f"{root}/b.parquet", pa.table({"x": [2]}))
    assert storage.read_parquet(root).to_pylist() == [{"x": 1, "y": "가"}, {"x": 2, "y": None}]


@pytest.mark.parametrize("data", [b"PAR1", b"x" * 100])
def test_broken_parquet_names_the_file(root: str, data: bytes) -> None:
    storage.write_bytes(f"{root}/a.parquet", data)
    with pytest.raises(UserError, match=r"reviews/a\.parquet: "):
        storage.read_parquet(root)


def test_folder_without_parquet_is_refused(folder: str) -> None:
    with pytest.raises(UserError, match="no Parquet files"):
        storage.read_parquet(f"{folder}/*.json")


def test_upload_then_download_gives_the_same_files(folder: str, tmp_path: Path) -> None:
    storage.download(folder, tmp_path / "first", leave=("b.csv",))
    storage.upload(str(tmp_path / "first"), f"{folder}-copy", last="a.parquet")
    storage.download(f"{folder}-copy", tmp_path / "second")
    kept = {name: name.encode() for name in FILES if name != "b.csv"}
    for copy in ("first", "second"):
        found = (path for path in (tmp_path / copy).rglob("*") if path.is_file())
        assert {path.relative_to(tmp_path / copy).as_posix(): path.read_bytes() for path in found} == kept


def test_upload_writes_the_last_file_last(tmp_path: Path) -> None:
    for name in ("bundle.json", "weights.bin", "z.txt"):
        storage.write_bytes(f"{tmp_path}/from/{name}", name.encode())
    storage.upload(f"{tmp_path}/from", f"{tmp_path}/to", last="bundle.json")
    newest = max(storage.list_files(f"{tmp_path}/to"), key=lambda file: file.modified)
    assert newest.uri.endswith("/bundle.json")


def test_json_is_json_though_a_figure_is_none(root: str) -> None:
    storage.write_json(f"{root}/a.json", {"f1": float("nan"), "all": [1.5, float("-inf"), ("옷", None)]})
    assert b"NaN" not in storage.read_bytes(f"{root}/a.json")
    assert storage.read_json(f"{root}/a.json") == {"f1": None, "all": [1.5, None, ["옷", None]]}


def test_what_stands_in_the_way_of_writing_is_said_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert storage.obstacle(str(tmp_path / "new" / "deep")) == ""
    assert storage.obstacle("s3://shop/out") == ""
    assert storage.obstacle(str(tmp_path / "file")).endswith("file is no folder")
    assert storage.obstacle(str(tmp_path / "file" / "out")).endswith("file is no folder")
    assert storage.obstacle(str(tmp_path / "link" / "out")).endswith("link is a link to nothing")
    assert "255 bytes" in storage.obstacle(str(tmp_path / ("가" * 100)))


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(str(tmp_path / "a"), b"old")
    full_disk(monkeypatch, room=2)
    for call in (storage.write_bytes, storage.create):
        with pytest.raises(UserError, match="a: no space left on the disk; free some"):
            call(str(tmp_path / "a"), b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"old")]
