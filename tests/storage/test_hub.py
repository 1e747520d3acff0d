"""Bundles on a model hub: read at one commit, verified, kept by the node; what goes wrong is one line."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_app import storage
from ray_app.engine.base_model import at_revision
from ray_app.errors import UserError
from ray_app.inference import bundle, bundle_names
from ray_app.storage import hub as hub_files
from tests.support.fake_hub import FakeHub, Files

NAME = "hf://shop/reviews"
COMMIT = "0123456789" * 4


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NUNCHI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_files, "FIRST_WAIT", 0.0)
    with FakeHub() as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        yield fake


@pytest.fixture
def files(bundle_folder: str) -> Files:
    """A bundle's files, and what a repository has beside them."""
    found = {path.relative_to(bundle_folder): path for path in Path(bundle_folder).rglob("*") if path.is_file()}
    own = {str(name): path.read_bytes() for name, path in found.items()}
    return {
        **own,
        "README.md": b"a card",
        ".gitattributes": b"",
        "pytorch_model.bin": b"\x80pickle",
        "notes/x.txt": b"",
    }


def refused(name: str) -> str:
    with pytest.raises(UserError) as raised:
        bundle.load(name)
    assert "\n" not in str(raised.value)
    assert FakeHub.token not in str(raised.value)
    return str(raised.value)


def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")


def test_a_bundle_is_fetched_at_one_commit_and_nothing_else_is(hub: FakeHub, files: Files, bundle_folder: str) -> None:
    first = hub.commit("shop/reviews", files)
    loaded = bundle.load(NAME)
    assert loaded.id == bundle.load(bundle_folder).id
    own = {str(path.relative_to(loaded.path)) for path in loaded.path.rglob("*") if path.is_file()}
    assert own == set(files) - {"README.md", ".gitattributes", "pytorch_model.bin", "notes/x.txt"}
    assert bundle_names.pinned(NAME) == f"{NAME}@{first}"
    hub.commit("shop/reviews", {**files, "more.txt": b""})
    assert bundle_names.pinned(NAME) != f"{NAME}@{first}"
    hub.requests.clear()
    assert bundle.load(f"{NAME}@{first}").path == loaded.path
    assert bundle.read_summary(f"{NAME}@{first}").taxonomy == loaded.meta.taxonomy
    assert hub.requests == []  # a commit never changes


def test_branches_and_folders_have_names(hub: FakeHub, files: Files) -> None:
    commit = hub.commit("shop/reviews", {f"v1/{name}": data for name, data in files.items()}, "tries/1")
    assert bundle_names.pinned(f"{NAME}@tries%2F1/v1") == f"{NAME}@{commit}/v1"
    assert bundle.load(f"{NAME}@tries%2F1/v1").id


def spoil(files: Files) -> Files:
    return {**files, "tokenizer/tokenizer.json": files["tokenizer/tokenizer.json"] + b" "}


def lose(files: Files) -> Files:
    return {name: data for name, data in files.items() if name != "scores/head.safetensors"}


def escape(files: Files) -> Files:
    content = json.loads(files["bundle.json"])
    return {**files, "bundle.json": json.dumps({**content, "files": {"../../x": "0", "/etc/x": "0"}}).encode()}


def no_index(files: Files) -> Files:
    return {"config.json": b"{}"}


def no_json(files: Files) -> Files:
    return {**files, "bundle.json": b"{"}


def a_list(files: Files) -> Files:
    return {**files, "bundle.json": b'{"files": ["x"]}'}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (spoil, "tokenizer/tokenizer.json was changed or cut short"),
        (lose, "scores/head.safetensors is missing"),
        (escape, "bundle.json was changed after it was written"),
        (no_index, "no bundle.json there; is it the name of a base model"),
        (no_json, "bundle.json: not JSON"),
        (a_list, "bundle.json is damaged"),
    ],
)
def test_what_is_wrong_with_a_repository_is_one_line(
    hub: FakeHub, files: Files, change: Callable[[Files], Files], line: str, tmp_path: Path
) -> None:
    hub.commit("shop/reviews", change(files))
    assert line in refused(NAME)
    assert not list(tmp_path.glob("x"))


@pytest.mark.parametrize(
    ("name", "token", "line"),
    [
        ("hf://shop/none", "", r"no such repository, or it is private: set HF_TOKEN to a token \(401\)"),
        ("hf://shop/none", FakeHub.token, r"no such repository, or the token of HF_TOKEN may not read it \(404\)"),
        ("hf://shop/secret", "", "it is private: set HF_TOKEN"),
        (f"{NAME}@v9", "", "shop/reviews has no branch, tag or commit v9; check the name"),
        ("hf://shop", "", "no model of a hub; write hf://OWNER/NAME"),
        ("hf://datasets/shop/reviews", "", "no model of a hub"),
        ("hf://shop/reviews/../x", "", "no model of a hub"),
        ("hf://", "", "no model of a hub"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line(
    hub: FakeHub, files: Files, name: str, token: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("shop/reviews", files)
    hub.commit("shop/secret", files, private=True)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=line):
        bundle.load(name)


def test_a_private_bundle_is_read_with_a_token(hub: FakeHub, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("shop/secret", files, private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert bundle.load("hf://shop/secret").id


def test_a_busy_hub_and_broken_downloads_are_asked_again(hub: FakeHub, files: Files, bundle_folder: str) -> None:
    hub.commit("shop/reviews", files)
    hub.busy = 2
    assert hub_files.pinned(NAME)
    hub.cut.extend([100, 7, 0])
    assert storage.read_bytes(f"{NAME}/bundle.json") == files["bundle.json"]
    hub.cut.extend([3, 3, 3, 3])
    with pytest.raises(UserError, match="broke off 4 times"):
        storage.read_bytes(f"{NAME}/bundle.json")


def test_without_a_network_the_copy_that_was_seen_last_is_taken_and_told(
    hub: FakeHub, files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint, commit = hub.endpoint, hub.commit("shop/reviews", files)
    loaded = bundle.load(NAME)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert bundle.load(NAME).path == loaded.path
    assert bundle_names.pinned(NAME) == f"{NAME}@{commit}"
    assert f"going on with {NAME}@{commit}, which this node saw last" in caplog.text
    assert "HF_HUB_OFFLINE is set, and this node has no copy; unset it once" in refused(f"{NAME}@other")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    without_network(monkeypatch)
    assert "check the network and HF_ENDPOINT" in refused(NAME)  # another hub's copy is not this one's
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    hub.repositories.clear()  # gone, or no longer ours: no copy is taken instead
    assert "no such repository" in refused(NAME)


def test_an_address_that_is_no_hub_is_told(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "no address")
    assert "check HF_ENDPOINT" in refused(NAME)
    monkeypatch.setattr(hub_files, "_get", lambda *_: type("Page", (), {"json": lambda _: {"sha": "x"}})())
    monkeypatch.setenv("HF_ENDPOINT", "http://elsewhere")
    assert "names no commit" in refused(NAME)


def test_nothing_is_written_to_a_hub_by_accident(hub: FakeHub) -> None:
    for write in (storage.write_bytes, storage.create, lambda uri, data: storage.swap(uri, data, data)):
        with pytest.raises(UserError, match=r"python -m jobs\.publish"):
            write(f"{NAME}/x", b"")


def test_a_base_model_is_pinned_by_its_commit_and_a_bundle_stays_one(
    hub: FakeHub, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    commit = hub.commit("shop/encoder", {"config.json": b"{}"})
    begun = bundle_names.pinned_base("hf://shop/encoder")
    assert begun == f"shop/encoder@{commit}"
    assert at_revision("hf://shop/encoder@v2") == ("shop/encoder", "v2")
    hub.commit("shop/encoder", {"config.json": b"{} "})
    with caplog.at_level(logging.WARNING):
        assert bundle_names.pinned_base("hf://shop/encoder", begun) == begun
    assert f"this run goes on with hf://{begun}, as it was begun" in caplog.text
    other = hub.commit("shop/reviews", files)
    assert bundle_names.is_bundle(NAME)
    assert bundle_names.pinned_base(NAME, begun) == f"{NAME}@{other}"
