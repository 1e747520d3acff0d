"""jobs.evaluate compare: differences on shared rows, findings that change, and a pointer that moves or does not."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from ray_app import sample, storage
from ray_app.data.taxonomy import load
from ray_app.errors import UserError
from ray_app.evaluation import compare, paired
from ray_app.inference import bundle, bundle_pointer, known_texts
from tests.support.bundles import make_bundle
from tests.support.documents import configured


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles `a`, its copy `same`, `b` (finds nothing), `knows` (ten of the texts), and 40 labeled reviews."""
    folder = tmp_path_factory.mktemp("compared")
    texts = sample.written_reviews()[:40]
    lines = [json.dumps({**row, "split": None}, ensure_ascii=False) for row in texts]
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    make_bundle(folder / "a", score_form="joint")
    copytree(folder / "a", folder / "same")
    make_bundle(folder / "b", score_form="joint", threshold=1.1)
    copytree(folder / "a", folder / "knows")
    known_texts.write([row["text"] for row in texts[:10]], folder / "knows")
    bundle.seal(folder / "knows", bundle.load(str(folder / "a")).meta)
    return folder


def config(folder: Path, *names: str, **options: Any) -> compare.CompareConfig:
    given: dict[str, Any] = {"labels": str(folder / "labels.jsonl"), "device": "cpu", "draws": 100, **options}
    return compare.CompareConfig(bundle=tuple(str(folder / name) for name in names), **given)


def test_a_bundle_does_not_differ_from_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.run(config(folder, "a", "same", input=str(folder / "labels.jsonl"), reviews=20)) == 0
    printed = capsys.readouterr().out
    assert "verdict: no difference seen" in printed
    assert "findings of 0.0% change" in printed


def test_a_worse_bundle_is_not_promoted_and_a_better_one_is_and_back(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current, output = str(tmp_path / "current"), str(tmp_path / "out")
    options: dict[str, Any] = {"promote": current, "output": output, "input": str(folder / "labels.jsonl")}
    assert compare.run(config(folder, "b", "a", **options)) == 0
    report = storage.read_json(f"{output}/compare.json")
    assert (report["verdict"], report["promoted"], report["rows"]) == (paired.BETTER, current, 40)
    assert report["changes"]["keywords"]["배송"]["old"] == 0
    assert report["changes"]["examples"][0]["old"] == {}
    ids = {name: bundle.load(str(folder / name)).id for name in ("a", "b")}
    assert bundle.load(current).id == ids["a"]
    asked = replace(config(folder, "a", "b", **options), bundle=(current, str(folder / "b")))
    assert compare.run(asked) == compare.NOT_PROMOTED
    assert bundle.load(current).id == ids["a"]
    assert "was not moved; --force moves it" in capsys.readouterr().out
    assert compare.run(config(folder, "a", "b", force=True, **options)) == 0
    assert bundle.load(current).id == ids["b"]
    assert compare.run(compare.CompareConfig(promote=current, rollback=True)) == 0
    assert bundle.load(current).id == ids["a"]
    found = bundle_pointer.read(current)
    assert found is not None
    assert [move["id"] for move in found["moves"]] == [ids["b"], ids["a"], ids["b"], ids["a"]]
    assert compare.run(compare.CompareConfig(promote=current, rollback=True)) == 0
    assert bundle.load(current).id == ids["b"]  # what was in use before there was a pointer


def test_a_pointer_that_is_elsewhere_is_not_moved(folder: Path, tmp_path: Path, s3: str) -> None:
    current = str(tmp_path / "current")
    bundle_pointer.move(current, {"bundle": str(folder / "b"), "id": bundle.load(str(folder / "b")).id}, "", None)
    with pytest.raises(UserError, match=r"it is at bundle \w+, compared is \w+; compare with it: --bundle"):
        compare.run(config(folder, "a", "same", promote=current))
    with pytest.raises(UserError, match="a folder of this machine; copy the bundle to S3"):
        compare.run(config(folder, "a", "same", promote=f"{s3}/models/current"))
    with pytest.raises(UserError, match="a folder; name a file in it"):
        compare.run(config(folder, "a", "same", promote=str(tmp_path)))
    with pytest.raises(UserError, match="a pointer is a file, or on s3"):
        compare.run(config(folder, "a", "same", promote="hf://shop/current"))


def test_what_either_was_trained_on_is_left_out(folder: Path, tmp_path: Path) -> None:
    for names in (("a", "knows"), ("knows", "a")):
        compare.run(config(folder, *names, output=str(tmp_path / "out")))
        report = storage.read_json(f"{tmp_path}/out/compare.json")
        assert (report["rows"], report["left_out"]) == (30, 10)
        assert report["unsure"] == [bundle.load(str(folder / "a")).id]


def test_bundles_that_do_not_compare_are_told(folder: Path, tmp_path: Path) -> None:
    full = load()
    fewer = replace(full, keywords=full.keywords[:-1], rules=())
    other = replace(fewer, keywords=(*fewer.keywords, replace(full.keywords[-1], name="포장")))
    make_bundle(tmp_path / "fewer", score_form="joint", taxonomy=fewer)
    make_bundle(tmp_path / "other", score_form="joint", taxonomy=other)
    pairs = ((str(folder / "a"), str(tmp_path / "fewer")), (str(tmp_path / "fewer"), str(folder / "a")))
    for names in pairs:
        report = compare.compared(bundle.load(names[0]), bundle.load(names[1]), config(folder, "a", "a"))
        assert report["keywords"] == list(fewer.names)
    with pytest.raises(UserError, match="each have keywords that the other has not"):
        compare.compared(bundle.load(str(folder / "a")), bundle.load(str(tmp_path / "other")), config(folder, "a", "a"))
    with pytest.raises(UserError, match="name two, the one in use and the other"):
        compare.run(config(folder, "a"))


def test_a_flag_that_takes_several_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    _, parsed = configured("evaluate", ["compare", "--bundle", "x", "--bundle", "y,z"], monkeypatch)
    assert parsed.bundle == ("x", "y", "z")
