"""An audit whose models train as Ray tasks, one per fold: complete, and resumed after it was killed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ray_app import sample, storage
from ray_app.audit import audit, cross_validation
from ray_app.audit.fold_training import FoldTraining
from ray_app.audit.suspects import SUSPECTS
from ray_app.errors import UserError
from ray_app.labels import reader
from tests.support.bundles import encoder, hf_tokenizer

pytestmark = pytest.mark.ray

OPTIONS = {"epochs": 1, "learning_rate": 0.001}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    encoder("bert").save_pretrained(folder)
    hf_tokenizer("bert").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("labels")
    rows = [row for row in sample.written_reviews() if row["split"] in ("train", "validation")][:80]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "options.yaml").write_text(json.dumps(OPTIONS), encoding="utf-8")
    return str(folder)


@pytest.mark.usefixtures("ray_cluster")
def test_an_audit_by_encoders_ends_with_suspects_and_nothing_left_over(base: str, written: str, tmp_path: Path) -> None:
    config = audit.Config(
        labels=f"{written}/labels.jsonl",
        output=str(tmp_path / "out"),
        folds=2,
        base_model=base,
        train_config=f"{written}/options.yaml",
        device="cpu",
    )
    audit.run(config)
    assert storage.read_parquet(str(tmp_path / "out" / "suspects.parquet")).schema.equals(SUSPECTS)
    assert not (tmp_path / "out" / "folds").exists()


@pytest.mark.usefixtures("ray_cluster")
def test_finished_folds_are_not_trained_again_and_a_failure_is_one_line(
    base: str, written: str, tmp_path: Path
) -> None:
    labels = reader.read_labels(f"{written}/labels.jsonl")
    copy = tmp_path / "base"
    shutil.copytree(base, copy)
    training = FoldTraining(base_model=str(copy), options=OPTIONS, device="cpu")
    cache = str(tmp_path / "folds")
    first = cross_validation.out_of_fold_predictions(labels.table, labels.taxonomy, 2, 0, training, cache)
    shutil.rmtree(copy)
    again = cross_validation.out_of_fold_predictions(labels.table, labels.taxonomy, 2, 0, training, cache)
    assert (first.keywords == again.keywords).all()
    assert (first.words == again.words).all()
    assert np.abs(first.scores.sum(1) - 1).max() < 1e-3
    with pytest.raises(UserError, match=r"fold \d: .*base.*; run the same command to resume"):
        cross_validation.out_of_fold_predictions(labels.table, labels.taxonomy, 2, 1, training, cache)
