"""Tuning through `train.run`: what is refused before anything trains, a bundle per kind, resuming, adapters put on."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_app import Analyzer
from ray_app.data.taxonomy import load
from ray_app.engine.encoder import load_keyword_scorer
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError
from ray_app.inference import bundle, known_texts
from ray_app.training import base_checks, checkpoints, train
from tests.support.bundles import ODD_TEXTS
from tests.support.families import save_family, train_family


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("bert", tmp_path_factory.mktemp("base"))


def probabilities(folder: Path) -> np.ndarray[Any, Any]:
    return np.array([row["keyword_probabilities"] for row in Analyzer(str(folder), "cpu")(ODD_TEXTS)])


def test_an_adapter_on_its_base_is_what_its_bundle_is(base: Path, tmp_path: Path) -> None:
    train_family(base, tmp_path / "one", tune="prefix", learning_rate=1e-2)
    index = json.loads((tmp_path / "one" / "bundle.json").read_text(encoding="utf-8"))
    assert (index["format"], "joint/prefix.safetensors" in index["files"]) == (4, True)
    adapter = tmp_path / "one.training" / "adapter"
    given: dict[str, Any] = {"base_model": str(base), "adapter": (str(adapter),), "output": str(tmp_path / "two")}
    opened = base_checks.start("joint", train.Config(**given).resolved(), load(), ODD_TEXTS, "cpu")
    sealed = load_keyword_scorer(tmp_path / "one" / "joint")
    assert opened.head is not None
    assert opened.thresholds == list(bundle.load(str(tmp_path / "one")).meta.thresholds)
    for found, part in ((opened.encoder.state_dict(), sealed.encoder), (opened.head, sealed.head)):
        expected = part.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_tuned_bundle_and_an_adapter_are_tuned_further(base: Path, tmp_path: Path) -> None:
    train_family(base, tmp_path / "one", tune="head")
    adapter = str(tmp_path / "one.training" / "adapter")
    assert (Path(adapter) / known_texts.FILE).read_bytes() == (tmp_path / "one" / known_texts.FILE).read_bytes()
    known_texts.write(["다른 라벨의 글"], Path(adapter))
    train_family(base, tmp_path / "two", tune="prompt", adapter=adapter, virtual_tokens=2)
    found = known_texts.known(["다른 라벨의 글"], tmp_path / "two")
    assert found is not None
    assert found.all()  # what the adapter learned from is left out of evaluations of what is built on it
    prefix = Tokenizer.load(tmp_path / "two" / "tokenizer").prefix
    assert len(prefix) == len(Tokenizer.load(tmp_path / "one" / "tokenizer").prefix) + 2
    given: dict[str, Any] = {"labels": str(base / "labels.jsonl"), "epochs": 1, "max_length": 96, "workers": 0}
    two: dict[str, Any] = {"base_model": str(tmp_path / "two"), "output": str(tmp_path / "three"), "device": "cpu"}
    again = train.run(train.Config(**given, **two, tune="embeddings"))  # a bundle has a head
    assert bundle.load(str(tmp_path / "three")).id == again


def test_an_interrupted_tuning_resumes(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {"tune": "lora", "epochs": 3, "patience": 0, "learning_rate": 1e-2}
    train_family(base, tmp_path / "calm", **told)
    whole = checkpoints.MetricsLog.__call__

    def dies(self: checkpoints.MetricsLog, metrics: Any) -> None:
        whole(self, metrics)
        if metrics["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.MetricsLog, "__call__", dies)
        with pytest.raises(KeyboardInterrupt):
            train_family(base, tmp_path / "hit", **told)
    train_family(base, tmp_path / "hit", resume=True, **told)
    assert probabilities(tmp_path / "hit") == pytest.approx(probabilities(tmp_path / "calm"), abs=2e-4)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"tune": "embeddings"},
            "--tune embeddings: the head stays as it is, and this one is new; write embeddings-head",
        ),
        ({"tune_scores": "lora"}, "--tune-scores: a joint model has no classifier of its own for it"),
        ({"base_model": "scratch", "tune": "head"}, "--tune head: the weights of --base-model scratch are random"),
        ({"tune": "prompt", "virtual_tokens": 48}, "--virtual-tokens 48: they are among the 96 tokens of --max-length"),
        (
            {"tune": "prompt", "tune_scores": "lora", "score_form": "attention"},
            "--tune prompt --tune-scores lora: a bundle has one tokenizer",
        ),
        ({"tune": "head", "rank": 4}, "--rank: it does nothing with --tune head, only with lora, dora; leave it out"),
        ({"tune": "lora", "virtual_tokens": 4}, "--virtual-tokens: it does nothing with --tune lora, only with prefix"),
        ({"adapter": "nowhere"}, "nowhere: no joint/adapter.json there; give the folder adapter/ of a training"),
    ],
)
def test_what_cannot_be_tuned_is_refused(told: dict[str, Any], said: str, base: Path, tmp_path: Path) -> None:
    given = {"base_model": str(base), "labels": "sample", "output": str(tmp_path / "o"), "workers": 0, "limit": 20}
    with pytest.raises(UserError) as refused:
        train.run(train.Config(**{**given, "max_length": 96, **told}))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "o").exists()


def test_a_family_without_the_parts_of_a_kind_is_refused(tmp_path: Path) -> None:
    for family, kinds in (("distilbert", ("ia3", "prefix")), ("ibert", ("lora", "prompt"))):
        base = save_family(family, tmp_path / family)
        for kind in kinds:
            with pytest.raises(UserError, match=rf"^--tune {kind}: .*{family} encoders"):
                train_family(base, tmp_path / "o", tune=kind)


def test_two_classifiers_are_tuned_each_in_its_own_way(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train_family(base, tmp_path / "b", score_form="prompt", tune="embeddings", tune_scores="ia3", learning_rate=1e-3)
    said = [record.getMessage() for record in caplog.records if "trains" in record.getMessage()]
    assert [line.partition(" trains")[0] for line in said] == ["keywords: --tune embeddings", "scores: --tune ia3"]
    kept = sorted(path.name for path in (tmp_path / "b.training" / "adapter").iterdir())
    assert kept == ["keywords", known_texts.FILE, "scores"]
    assert probabilities(tmp_path / "b").shape == (len(ODD_TEXTS), 15)


def test_what_virtual_tokens_cut_is_said(base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train_family(base, tmp_path / "b", tune="p-tuning", max_length=40, virtual_tokens=16)
    (line,) = [message for record in caplog.records if "are virtual" in (message := record.getMessage())]
    assert line.startswith(
        "--tune p-tuning: 16 of the 40 tokens of --max-length are virtual, 22 are left for a review; "
    )
    cut, whole = line.rpartition("; ")[2].split()[0], line.split(" of ")[-1].split()[0]
    assert 0 < int(cut) <= int(whole) < 24
