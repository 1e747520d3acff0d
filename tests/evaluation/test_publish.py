"""jobs.publish: a bundle goes to a hub and comes back equal, with a card; what goes wrong is one line."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from ray_app import storage
from ray_app.errors import UserError
from ray_app.evaluation import hub_upload, model_card, publish
from ray_app.evaluation.metrics import keyword_report
from ray_app.inference import bundle
from tests.support.fake_hub import FakeHub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[FakeHub]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NUNCHI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", FakeHub.token)
    with FakeHub(hang=getattr(request, "param", False)) as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        yield fake


def config(folder: str, **options: Any) -> publish.Config:
    return publish.Config(bundle=folder, to="hf://shop/reviews", **options)


def test_a_bundle_comes_back_equal_and_what_it_replaces_is_gone(
    hub: FakeHub, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = b'{"files": {"old/model.safetensors": "0", "tokenizer/tokenizer.json": "0"}}'
    old = {"bundle.json": before, "old/model.safetensors": b"0", "tokenizer/tokenizer.json": b"0", "logo.png": b"0"}
    hub.commit("shop/reviews", old, private=True)
    name = publish.run(config(bundle_folder, license="apache-2.0", message="The first"))
    assert name in capsys.readouterr().out
    loaded, given = bundle.load(name), bundle.load(bundle_folder)
    assert loaded.id == given.id
    sent = hub.files("shop/reviews")
    own = {file.uri[len(bundle_folder) + 1 :] for file in storage.list_files(bundle_folder)}
    assert set(sent) == {"logo.png", "README.md", *own}
    assert any("xet-write-token" in path for path in hub.requests)  # a hub that has none gets the files by LFS
    card = sent["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0"
    assert "python -m jobs.analyze --bundle hf://shop/reviews" in card


@pytest.mark.parametrize("hub", [True], indirect=True)
def test_an_upload_that_hangs_is_ended(hub: FakeHub, bundle_folder: str) -> None:
    with pytest.raises(UserError, match=r"no end after 3 s \(--timeout\).*HF_HUB_DISABLE_XET=1"):
        publish.run(config(bundle_folder, timeout=3))


def test_a_dry_run_prints_the_card_and_sends_nothing(
    hub: FakeHub, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish.run(config(bundle_folder, dry_run=True)) == ""
    printed = capsys.readouterr().out
    for heading in ("## How to use", "## How good it is", "## Data and license", "## Limits"):
        assert heading in printed
    assert "nothing was sent" in printed
    assert hub.requests == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (401, r"the hub refuses \(401\); set HF_TOKEN"),
        (403, r"the hub refuses \(403\); set HF_TOKEN"),
        (500, "the hub answered 500"),
        (0, r"no answer from http://.* \(OSError\); check the network and HF_ENDPOINT"),
    ],
)
def test_what_a_hub_answers_is_one_line(
    hub: FakeHub, error: int, line: str, bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = OSError("first\nsecond")
    if error:
        raised.response = SimpleNamespace(status_code=error)  # type: ignore[attr-defined]

    def fail(_: object) -> str:
        raise raised

    answers: list[tuple[str, str]] = []
    monkeypatch.setattr(hub_upload, "_pushed", fail)
    hub_upload._child(SimpleNamespace(send=answers.append), None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=line):
        raise UserError(answers[0][1])
    assert "\n" not in answers[0][1]


def test_where_it_cannot_go_is_told_first(
    hub: FakeHub, bundle_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="a bundle is a whole repository"):
        publish.run(publish.Config(bundle=bundle_folder, to="hf://shop/reviews/folder"))
    with pytest.raises(UserError, match="no model of a hub"):
        publish.run(publish.Config(bundle=bundle_folder, to="s3://shop/reviews"))
    with pytest.raises(UserError, match="a commit is never written again"):
        publish.run(publish.Config(bundle=bundle_folder, to=f"hf://shop/reviews@{'a1' * 20}"))
    storage.write_json(str(tmp_path / "report.json"), {"keywords": {}, "bundle": "0" * 12})
    with pytest.raises(UserError, match="of bundle 000000000000, not of"):
        publish.run(config(bundle_folder, report=str(tmp_path / "report.json")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set; unset it to publish"):
        publish.run(config(bundle_folder))


def test_a_card_says_what_a_bundle_is(bundle_folder: str) -> None:
    loaded = bundle.load(bundle_folder)
    names = loaded.meta.taxonomy.names
    found = np.eye(len(names), dtype=bool)
    report: Any = {"keywords": keyword_report(found, found, names, {}), "reviews": 15, "left_out": 3}
    text = model_card.card(loaded, "hf://shop/reviews", "", report)
    assert "3 that it was trained on were left out" in text
    assert "| 배송 | 1.000 | 1.000 | 1.000 | 1 | 0 |" in text
    assert "Its maker names no license" in text
    assert "Fewer than 30 training reviews had" in text
    front = yaml.safe_load(text.split("---")[1])
    assert "license" not in front
    assert "base_model" not in front  # unknown; a hub refuses a card that names a folder
    ready = model_card.card(bundle.load("ready"), "hf://shop/ready", "apache-2.0", None)
    assert "It was not measured on reviews that it does not know" in ready
    assert "multilingual-e5-small" in ready  # its own notes go along
    assert "| 배송 | 621 |" in ready


def test_paths_of_a_machine_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bundle.json").write_text('{"labels": "/home/kim/labels.csv", "x": "a/b"}', encoding="utf-8")
    publish._warn_of_paths(SimpleNamespace(path=tmp_path))  # type: ignore[arg-type]
    assert "['/home/kim/labels.csv']" in caplog.text
