"""What earlier releases left behind: it goes on in this one, or is refused in one line that says what to do.

`fixtures/releases` was made by `tests.operations.release_fixture` in checkouts of three earlier states, named by what
was new in them: scores by attention (commit 003febf), thresholds of one's own (b310bfb), pinned names (0724554).
`test_before_the_move.py` has the first release of all.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_app import storage
from ray_app.catalog import analyze, verify
from ray_app.errors import UserError
from ray_app.inference import bundle as bundles
from ray_app.inference.analyzer import Analyzer
from ray_app.insights import report
from ray_app.serving import serve
from ray_app.training import train
from tests.support.paths import ROOT
from tests.support.releases import options_of_the_run, upload

FIXTURES = ROOT / "tests" / "fixtures"
BASE = FIXTURES / "before_the_move"
RELEASES = sorted((FIXTURES / "releases").iterdir())
releases = pytest.mark.parametrize("old", RELEASES, ids=[folder.name for folder in RELEASES])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_same(found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> None:
    """Same rows, keywords and scores, and words where the release had them; probabilities within 1e-4."""
    assert len(found) == len(wanted)
    for row, other in zip(found, wanted, strict=True):
        for what in ("keyword", "score", "highlight"):
            assert [_plain(one[what]) for one in row["findings"]] == [_plain(one[what]) for one in other["findings"]]
        assert row["keyword_probabilities"] == pytest.approx(other["keyword_probabilities"], abs=1.1e-4)


def _plain(value: Any) -> Any:
    return value["word"] if isinstance(value, dict) else value


@releases
def test_a_bundle_says_the_same(old: Path) -> None:
    rows = storage.read_parquet(str(BASE / "reviews")).to_pylist()
    texts = {str(row["id"]): row["text"] for row in rows}
    wanted = lines(old / "expected.jsonl")
    assert_same(Analyzer(str(old / "bundle"), device="cpu")([texts[row["review_id"]] for row in wanted]), wanted)


@releases
def test_an_unfinished_run_goes_on(old: Path, s3: str, tmp_path: Path) -> None:
    upload(BASE / "reviews", old / "bundle", old / "out")
    assert analyze.run(options_of_the_run(s3)) == 0
    found = storage.read_parquet(f"{s3}/out/data").sort_by("review_id").to_pylist()
    assert_same(found, lines(old / "expected.jsonl"))
    assert storage.read_json(f"{s3}/out/_run.json")["rows_of_this_run"] == 8
    assert verify.run(verify.Config(output=f"{s3}/out")) == 0
    said = report.run(report.Config(analyses=f"{s3}/out", output=str(tmp_path / "report")))
    assert said.facts["findings"] == sum(len(row["findings"]) for row in found)


def open_training(old: Path, tmp_path: Path) -> dict[str, Any]:
    """A training that died, laid out in a folder; its options."""
    shutil.copytree(old / "training", tmp_path / "b.training")
    shutil.copytree(BASE / "base", tmp_path / "base")
    for name in ("labels.jsonl", "taxonomy.yaml"):
        shutil.copy(BASE / name, tmp_path / name)
    saved = tmp_path / "b.training" / "config.json"
    saved.write_text(saved.read_text(encoding="utf-8").replace("FOLDER", str(tmp_path)), encoding="utf-8")
    options: dict[str, Any] = json.loads(saved.read_text(encoding="utf-8"))
    return options


@releases
def test_an_open_training_goes_on(old: Path, tmp_path: Path) -> None:
    options = open_training(old, tmp_path)
    train.run(train.Config(**options, workers=0, device="cpu", resume=True))
    seen = {(row["model"], row["epoch"]): row["loss"] for row in lines(tmp_path / "b.training" / "metrics.jsonl")}
    calm = {(row["model"], row["epoch"]): row["loss"] for row in lines(old / "expected_metrics.jsonl")}
    died_at = (next(iter(calm))[0], 3)  # after its checkpoint was written, before the line was
    assert seen.keys() == calm.keys() - {died_at}
    went_on = {key: loss for key, loss in seen.items() if key[0] == died_at[0]}
    assert went_on == pytest.approx({key: calm[key] for key in went_on}, abs=1e-5)
    made, wanted = bundles.load(str(tmp_path / "b")).meta, bundles.load(str(old / "bundle")).meta
    assert made.score_form == wanted.score_form
    assert made.thresholds == pytest.approx(wanted.thresholds, abs=1e-3)


@releases
def test_a_serve_yaml_builds_the_endpoint(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUNCHI_TOKEN", "a-token-of-this-test-0123456789abcdef")
    application = yaml.safe_load((old / "serve.yaml").read_text(encoding="utf-8"))["applications"][0]
    module, _, name = application["import_path"].partition(":")
    assert (module, name) == ("ray_app.serving.serve", "app")
    assert serve.app({**application["args"], "token_file": ""})


def test_a_bundle_of_a_later_release_is_one_line(tmp_path: Path) -> None:
    shutil.copytree(RELEASES[0] / "bundle", tmp_path / "b")
    index = tmp_path / "b" / "bundle.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    index.write_text(json.dumps({**content, "format": 99, "nunchi": "9.0"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"format 99, written by nunchi 9.0; this is nunchi .* reads formats up to"):
        bundles.load(str(tmp_path / "b"))


def test_a_run_of_a_later_release_is_one_line(s3: str) -> None:
    old = FIXTURES / "releases" / "pinned"
    upload(BASE / "reviews", old / "bundle", old / "out")
    plan = json.loads((old / "out" / "_plan" / "0000.json").read_text(encoding="utf-8"))
    plan["settings"]["--dialects"] = "all"
    storage.write_json(f"{s3}/out/_plan/0000.json", plan)
    settings: dict[str, Any] = {
        "output": f"{s3}/out",
        "placement": "here",
        "device": "cpu",
        "unit_rows": 4,
        "keep": ("mall",),
    }
    with pytest.raises(UserError, match=r"--dialects 'all', now it is None; .*name another --output"):
        analyze.run(analyze.Config(input=f"{s3}/reviews", bundle=f"{s3}/bundle", **settings))


def test_a_training_of_a_later_release_is_one_line(tmp_path: Path) -> None:
    options = open_training(FIXTURES / "releases" / "pinned", tmp_path)
    (tmp_path / "b.training" / "config.json").write_text(json.dumps({**options, "gradient_fog": 2}), encoding="utf-8")
    with pytest.raises(UserError, match=r"gradient_fog"):
        train.run(train.Config(**options, workers=0, device="cpu", resume=True))
