"""Pointers to bundles, on disk and on S3: moved by one at a time, followed by whoever names them, kept with history."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ray_app import storage
from ray_app.catalog import analyze
from ray_app.errors import UserError
from ray_app.inference import bundle, bundle_names, bundle_pointer
from ray_app.inference.bundle_pointer import Target
from tests.support.bundles import make_bundle
from tests.support.faulty_s3 import FaultyS3

IDS = ("a" * 12, "b" * 12, "c" * 12)


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where pointers are kept."""
    return str(tmp_path) if request.param == "disk" else str(request.getfixturevalue("s3"))


def target(number: int) -> Target:
    return {"bundle": f"s3://shop/bundles/{number}", "id": IDS[number]}


def test_it_moves_from_where_it_was_thought_to_be_and_back(place: str) -> None:
    uri = f"{place}/models/current"
    assert bundle_pointer.read(uri) is None
    for number, expected in enumerate((None, *IDS[:2])):
        bundle_pointer.move(uri, target(number), f"step {number}", expected)
    with pytest.raises(UserError, match=f"it is at bundle {IDS[2]}, not at {IDS[0]}, which was compared"):
        bundle_pointer.move(uri, target(1), "", IDS[0])
    assert [bundle_pointer.roll_back(uri)["id"] for _ in range(2)] == [IDS[1], IDS[0]]
    with pytest.raises(UserError, match="nothing to go back to"):
        bundle_pointer.roll_back(uri)
    bundle_pointer.move(uri, target(2), "again", IDS[0])
    assert bundle_pointer.roll_back(uri)["id"] == IDS[0]
    found = bundle_pointer.read(uri)
    assert found is not None
    whys = ["step 0", "step 1", "step 2", "rollback", "rollback", "again", "rollback"]
    assert [move["why"] for move in found["moves"]] == whys


def test_of_all_who_swap_a_file_one_does(place: str) -> None:
    uri = f"{place}/swapped"
    storage.write_bytes(uri, b"0")
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: storage.swap(uri, b"0", f"by {number}".encode()), range(8)))
    assert sum(done) == 1
    assert storage.read_bytes(uri) == f"by {done.index(True)}".encode()


def test_a_swap_whose_answer_is_lost_is_known_to_be_done(
    s3: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(f"{s3}/lost", b"0")
    with FaultyS3(s3_server, share=0) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.endpoint)
        faulty.ahead.extend(["", "lost"])
        assert storage.swap(f"{s3}/lost", b"0", b"1")
        assert faulty.faults["lost"] == 1
        assert not storage.swap(f"{s3}/lost", b"0", b"2")


def test_two_who_move_it_at_once_are_told(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"{place}/models/at-once"
    bundle_pointer.move(uri, target(0), "", None)
    real = storage.swap

    def late(uri: str, before: bytes, after: bytes) -> bool:
        storage.write_bytes(uri, before + b" ")
        return real(uri, before, after)

    monkeypatch.setattr(storage, "swap", late)
    with pytest.raises(UserError, match="another process moved it at this moment"):
        bundle_pointer.move(uri, target(1), "", IDS[0])


@pytest.fixture
def current(place: str, bundle_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A pointer at a bundle beside it."""
    monkeypatch.setenv("NUNCHI_CACHE", str(tmp_path / "cache"))
    if not storage.exists(f"{place}/bundles/1/bundle.json"):
        storage.upload(bundle_folder, f"{place}/bundles/1", last="bundle.json")
    storage.remove(f"{place}/current")
    identity = bundle.load(bundle_folder).id
    bundle_pointer.move(f"{place}/current", {"bundle": f"{place}/bundles/1", "id": identity}, "", None)
    return f"{place}/current"


def test_it_is_a_bundles_name(current: str, bundle_folder: str) -> None:
    loaded = bundle.load(bundle_folder)
    assert bundle.load(current).id == loaded.id
    assert bundle.read_summary(current).taxonomy == loaded.meta.taxonomy
    assert bundle_names.moves(current)
    assert bundle_names.is_bundle(current)
    assert bundle_names.pinned(current) == current.replace("current", "bundles/1")


def test_it_may_be_at_the_shipped_bundle(place: str) -> None:
    ready = bundle.load("ready")
    bundle_pointer.move(f"{place}/models/shipped", {"bundle": "ready", "id": ready.id}, "", None)
    assert bundle.load(f"{place}/models/shipped").path == ready.path
    assert bundle.read_summary(f"{place}/models/shipped").taxonomy == ready.meta.taxonomy
    assert bundle_names.is_bundle(f"{place}/models/shipped")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"pointer": 1}', b'{"pointer": 2, "bundle": "x", "id": "1"}', b"[]"])
def test_a_file_that_is_no_pointer_is_told(place: str, content: bytes) -> None:
    storage.write_bytes(f"{place}/file", content)
    with pytest.raises(UserError, match="neither a bundle's folder nor a pointer to one"):
        bundle.load(f"{place}/file")


def test_a_bundle_that_was_replaced_or_removed_behind_it_is_told(current: str) -> None:
    index = current.replace("current", "bundles/1/bundle.json")
    content = storage.read_json(index)
    storage.write_json(index, {**content, "id": "0" * 12})
    with pytest.raises(UserError, match=r"it points to bundle .* where 0{12} is now"):
        bundle.load(current)
    storage.remove(index)
    with pytest.raises(UserError, match="where none is now"):
        bundle.load(current)


def test_a_run_that_was_begun_goes_on_with_its_bundle_though_the_pointer_moved(
    bundle_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, current = tmp_path / "old", tmp_path / "new", str(tmp_path / "current")
    shutil.copytree(bundle_folder, old)
    make_bundle(new, threshold=0.6)
    ids = [bundle.load(str(folder)).id for folder in (old, new)]
    bundle_pointer.move(current, {"bundle": str(old), "id": ids[0]}, "", None)
    (tmp_path / "in.csv").write_text("review_id,text\n1,옷이 예뻐요\n2,배송이 늦어요\n", encoding="utf-8")
    config = analyze.Config(
        input=str(tmp_path / "in.csv"),
        bundle=current,
        output=str(tmp_path / "out"),
        placement="here",
        device="cpu",
        highlights="off",
    )
    assert analyze.run(config) == 0
    report = storage.read_json(f"{config.output}/_run.json")
    assert (report["bundle"], report["bundle_named"], report["config"]["bundle"]) == (ids[0], current, str(old))
    bundle_pointer.move(current, {"bundle": str(new), "id": ids[1]}, "", ids[0])
    assert analyze.run(config) == 0
    assert f"--bundle {current}: now {new}; this run goes on with {old}, as it was begun" in caplog.text
    other = analyze.Config(**{**vars(config), "output": str(tmp_path / "other")})
    assert analyze.run(other) == 0
    assert json.loads((tmp_path / "other" / "_run.json").read_text(encoding="utf-8"))["bundle"] == ids[1]
