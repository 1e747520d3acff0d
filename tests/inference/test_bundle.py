"""What is sealed loads again; what was changed, cut short or may hold code is refused."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from ray_app.data.taxonomy import load
from ray_app.errors import UserError
from ray_app.inference import bundle
from tests.support import bundles


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed")
    bundles.make_bundle(folder)
    return folder


@pytest.fixture
def copy(sealed: Path, tmp_path: Path) -> Path:
    return copytree(sealed, tmp_path / "copy")


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        bundle.load(str(folder))
    message = str(raised.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def change(**fields: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        (folder / "bundle.json").write_text(json.dumps({**content, **fields}), encoding="utf-8")

    return edit


def flip(name: str) -> Callable[[Path], None]:
    """Changes one byte in the middle of a file."""

    def edit(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return edit


def add(name: str) -> Callable[[Path], None]:
    """A pickle of None under this name."""

    def edit(folder: Path) -> None:
        (folder / name).write_bytes(b"\x80\x04N.")

    return edit


def test_what_was_sealed_is_loaded(tmp_path: Path) -> None:
    bundles.make_bundle(tmp_path, max_length=48)
    meta = bundle.BundleMeta(
        taxonomy=load(),
        thresholds=tuple(k / 20 for k in range(15)),
        max_length=48,
        score_prompt="{review} / {keyword}",
        pooling="mean",
        metrics={"keywords": {"select": 0.5}},
        support={"배송": 3},
        provenance={"base_model": "fake", "rows": 7},
    )
    identity = bundle.seal(tmp_path, meta)
    loaded = bundle.load(str(tmp_path))
    assert loaded.meta == meta
    assert loaded.id == identity
    assert loaded.path == tmp_path
    assert bundle.load(str(tmp_path) + "/").meta == meta


def test_the_id_follows_the_content(sealed: Path, copy: Path) -> None:
    meta = bundle.load(str(sealed)).meta
    identity = bundle.load(str(sealed)).id
    assert bundle.seal(copy, meta) == identity
    assert (
        bundle.seal(copy, bundle.BundleMeta(taxonomy=meta.taxonomy, thresholds=(0.4,) * 15, max_length=meta.max_length))
        != identity
    )
    flip("tokenizer/tokenizer.json")(copy)
    assert bundle.seal(copy, meta) != identity


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda folder: (folder / "bundle.json").unlink(), "no bundle.json there; make one with"),
        (lambda folder: (folder / "scores/head.safetensors").unlink(), "scores/head.safetensors is missing; copy"),
        (lambda folder: (folder / "tokenizer/tokenizer.json").unlink(), "tokenizer/tokenizer.json is missing; copy"),
        (flip("keywords/model.safetensors"), "keywords/model.safetensors was changed or cut short"),
        (flip("tokenizer/tokenizer.json"), "tokenizer/tokenizer.json was changed or cut short"),
        (add("keywords/pytorch_model.bin"), "keywords/pytorch_model.bin.* is not part of it; remove it"),
        (add("evil.pkl"), "evil.pkl.* is not part of it; remove it"),
        (change(max_length=9), "bundle.json was changed after it was written"),
        (change(thresholds=[0.0] * 15), "bundle.json was changed after it was written"),
        (change(format=9), "format 9, written by nunchi .*; this is nunchi .*, which reads formats up to 5"),
        (lambda folder: (folder / "bundle.json").write_text("{"), "bundle.json is damaged"),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "bundle.json is damaged"),
        (lambda folder: (folder / "bundle.json").write_text("{}"), "bundle.json is damaged"),
        (lambda folder: (folder / "bundle.json").write_bytes(b"\xff\xfe"), "bundle.json is damaged"),
    ],
)
def test_a_bundle_that_is_not_as_it_was_written_is_refused(
    copy: Path, edit: Callable[[Path], object], message: str
) -> None:
    edit(copy)
    assert re.search(message, refused(copy))


@pytest.mark.parametrize(
    "name",
    ["evil.pkl", "keywords/pytorch_model.bin", "keywords/code.py", "a.pt", "a.pth", "a.joblib", "a.npy", "a.onnx", "a"],
)
def test_a_pickle_or_code_is_refused_even_where_it_was_sealed_in(copy: Path, name: str) -> None:
    add(name)(copy)
    bundle.seal(copy, bundle.BundleMeta(taxonomy=load(), thresholds=(0.5,) * 15))
    assert f"{name} may hold code" in refused(copy)


@pytest.mark.parametrize("name", ["keywords/head.safetensors", "scores/head.safetensors"])
def test_a_bundle_sealed_without_a_classifier_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    bundle.seal(copy, bundle.BundleMeta(taxonomy=load(), thresholds=(0.5,) * 15))
    assert f"{name} is missing" in refused(copy)


def test_thresholds_must_fit_the_keywords(copy: Path) -> None:
    bundle.seal(copy, bundle.BundleMeta(taxonomy=load(), thresholds=(0.5,) * 14))
    assert "14 thresholds for 15 keywords" in refused(copy)


def test_a_taxonomy_that_is_none_is_refused(copy: Path) -> None:
    content = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    content["taxonomy"]["keyword"] = content["taxonomy"].pop("keywords")
    del content["id"]
    (copy / "bundle.json").write_text(json.dumps(content), encoding="utf-8")
    assert "bundle.json" in refused(copy)


def test_a_home_folder_is_understood(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(sealed.parent))
    assert bundle.load(f"~/{sealed.name}").path == sealed


@pytest.fixture
def remote(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that is loaded by its URI, and a cache of its own."""
    monkeypatch.setenv("NUNCHI_CACHE", str(tmp_path / "cache"))
    return copytree(sealed, tmp_path / "remote")


def test_a_remote_bundle_is_fetched_once(sealed: Path, remote: Path, tmp_path: Path) -> None:
    first = bundle.load(remote.as_uri())
    assert first.id == bundle.load(str(sealed)).id
    assert tmp_path / "cache" in first.path.parents
    (remote / "keywords" / "model.safetensors").unlink()
    assert bundle.load(remote.as_uri()) == first


@pytest.mark.parametrize(
    "damage", [flip("keywords/model.safetensors"), lambda folder: (folder / "bundle.json").unlink()]
)
def test_a_damaged_copy_of_a_remote_bundle_is_fetched_again(remote: Path, damage: Callable[[Path], object]) -> None:
    first = bundle.load(remote.as_uri())
    damage(first.path)
    assert bundle.load(remote.as_uri()) == first
    assert not list(first.path.parent.glob("*.partial")) + list(first.path.parent.glob("*.old"))


def test_a_damaged_remote_bundle_is_refused_until_it_is_mended(sealed: Path, remote: Path) -> None:
    flip("keywords/model.safetensors")(remote)
    for _ in range(2):
        with pytest.raises(UserError, match=r"^bundle file://.*kept in .*model.safetensors was changed or cut short"):
            bundle.load(remote.as_uri())
    copytree(sealed, remote, dirs_exist_ok=True)
    assert bundle.load(remote.as_uri()).id == bundle.load(str(sealed)).id


def test_a_remote_place_without_a_bundle_is_refused(remote: Path) -> None:
    with pytest.raises(UserError, match=r"no bundle\.json there; make one with"):
        bundle.load(f"{remote.as_uri()}/keywords")


def test_a_cache_that_others_may_write_is_refused(remote: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(UserError, match="others may write there; set NUNCHI_CACHE"):
        bundle.load(remote.as_uri())


def test_the_cache_is_nobody_elses(remote: Path, tmp_path: Path) -> None:
    bundle.load(remote.as_uri())
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["tokenizer/tokenizer.json", "tokenizer"])
def test_a_link_out_of_a_bundle_is_refused(copy: Path, tmp_path: Path, name: str) -> None:
    """Its hash would fit now, and the file may be another a moment later."""
    (copy / name).rename(tmp_path / "outside")
    (copy / name).symlink_to(tmp_path / "outside")
    assert f"{name} links out of the bundle" in refused(copy)


def test_a_link_within_a_bundle_is_a_file_of_it(copy: Path) -> None:
    (copy / "scores/head.safetensors").rename(copy / "head.safetensors")
    (copy / "scores/head.safetensors").symlink_to(copy / "head.safetensors")
    identity = bundle.seal(copy, bundle.BundleMeta(taxonomy=load(), thresholds=(0.5,) * 15))
    assert bundle.load(str(copy)).id == identity


def test_a_path_out_of_the_bundle_in_its_list_of_files_is_refused(copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    content = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    content["files"]["../outside.json"] = hashlib.sha256(b"{}").hexdigest()
    del content["id"]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    content["id"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    (copy / "bundle.json").write_text(json.dumps(content), encoding="utf-8")
    assert "../outside.json is missing" in refused(copy)


def test_a_second_bundle_json_deeper_down_is_refused(copy: Path) -> None:
    add("keywords/bundle.json")(copy)
    assert "keywords/bundle.json" in refused(copy)
