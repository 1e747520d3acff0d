"""What the flat tree wrote opens in this one: a bundle, a catalog run that died, a training that died.

`fixtures/before_the_move` was made by version 0.1.0 when its modules lay in one folder: a bundle with random weights,
20 reviews of which three units of five were committed, and a training killed after two of its three epochs.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ray_app import serve, storage
from ray_app.catalog import analyze, verify
from ray_app.errors import UserError
from ray_app.inference.analyzer import Analyzer
from ray_app.training import train
from tests.support.paths import ROOT
from tests.support.releases import options_of_the_run, upload

OLD = ROOT / "tests" / "fixtures" / "before_the_move"


def expected() -> list[dict[str, Any]]:
    """The analyses of an undisturbed run of the flat tree, by review id."""
    return [json.loads(line) for line in (OLD / "expected.jsonl").read_text(encoding="utf-8").splitlines()]


def assert_same(found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> None:
    """Same rows, keywords, scores and words; probabilities within 1e-4."""
    assert len(found) == len(wanted)
    for row, other in zip(found, wanted, strict=True):
        assert [(f["keyword"], f["score"]) for f in row["findings"]] == [
            (f["keyword"], f["score"]) for f in other["findings"]
        ]
        assert [f["highlight"]["word"] for f in row["findings"]] == [f["highlight"]["word"] for f in other["findings"]]
        assert row["keyword_probabilities"] == pytest.approx(other["keyword_probabilities"], abs=1.1e-4)


def test_a_bundle_says_the_same() -> None:
    texts = [
        row["text"]
        for number in (0, 1)
        for row in storage.read_parquet(str(OLD / "reviews" / f"{number}.parquet")).to_pylist()
    ]
    wanted = {int(row["review_id"]): row for row in expected()}
    found = Analyzer(str(OLD / "bundle"), device="cpu")([texts[i] for i in wanted])
    assert_same(found, list(wanted.values()))


def test_an_unfinished_run_is_resumed(s3: str) -> None:
    """On S3, where a file's version is its content's and its name is the same everywhere."""
    upload(OLD / "bundle", OLD / "reviews", OLD / "out")
    code = analyze.run(options_of_the_run(s3, opinions=False))
    assert code == 0
    found = sorted(storage.read_parquet(f"{s3}/out/data").to_pylist(), key=lambda row: int(row["review_id"]))
    assert_same(found, expected())
    assert [row["mall"] for row in found] == [row["mall"] for row in expected()]
    assert storage.read_json(f"{s3}/out/_run.json")["rows_of_this_run"] == 8
    assert verify.run(verify.Config(output=f"{s3}/out")) == 0


def test_an_unfinished_training_is_resumed(tmp_path: Path) -> None:
    shutil.copytree(OLD / "training", tmp_path / "b.training")
    for name in ("base", "labels.jsonl", "taxonomy.yaml"):
        source = OLD / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    saved = tmp_path / "b.training" / "config.json"
    options = json.loads(saved.read_text(encoding="utf-8").replace("FOLDER", str(tmp_path)))
    saved.write_text(json.dumps(options), encoding="utf-8")
    with pytest.raises(UserError, match="--resume: score_form differ"):
        train.run(train.Config(**options, workers=0, device="cpu", resume=True))
    train.run(train.Config(**options, score_form="prompt", workers=0, device="cpu", resume=True))
    lines = (tmp_path / "b.training" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    wanted = (OLD / "expected_metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seen, calm = ([json.loads(line) for line in rows] for rows in (lines, wanted))
    assert [(row["model"], row["epoch"]) for row in seen] == [(row["model"], row["epoch"]) for row in calm]
    keywords = [[row["loss"] for row in rows if row["model"] == "keywords"] for rows in (seen, calm)]
    assert keywords[0] == pytest.approx(keywords[1], abs=1e-5)


def test_a_serve_yaml_that_names_the_old_path_learns_the_new_one() -> None:
    with pytest.raises(UserError, match=r"ray_app\.serve:app has moved; write ray_app\.serving\.serve:app"):
        serve.app({})
