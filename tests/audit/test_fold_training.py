"""fold_training: options of jobs.train for the models of an audit, checked before anything trains."""

from pathlib import Path

import pytest

from ray_app import sample
from ray_app.audit.fold_training import FoldTraining, read_fold_training
from ray_app.errors import UserError
from ray_app.labels import reader
from tests.support.bundles import encoder, hf_tokenizer


def test_options_come_from_the_file_and_what_depends_on_the_fold_does_not(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("epochs: 3\noutput: elsewhere\nworkers: 4\nstorage_path: shared\n", encoding="utf-8")
    config = read_fold_training("starter", str(path), "cpu").config(tmp_path / "fold")
    assert (config.epochs, config.base_model, config.workers) == (3, "starter", 0)
    assert config.output == f"{tmp_path}/fold/bundle"
    assert config.storage == f"{tmp_path}/fold/bundle.training"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("epoch: 3", "options.yaml: unknown option 'epoch'; did you mean 'epochs'"),
        ("epochs: 0", "options.yaml: --epochs 0: at least 1"),
    ],
)
def test_a_mistake_in_the_options_is_found_before_training(tmp_path: Path, options: str, message: str) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(options, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_fold_training("starter", str(path), "cpu")


def test_a_fold_trains_without_a_summary_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder("bert").save_pretrained(tmp_path / "base")
    hf_tokenizer("bert").save_pretrained(tmp_path / "base")
    options = {"epochs": 1, "learning_rate": 0.001}
    labels = reader.read_labels(str(sample.FOLDER / "reviews.jsonl"))
    training = FoldTraining(base_model=str(tmp_path / "base"), options=options, device="cpu")
    (tmp_path / "fold").mkdir()
    runtime = training.bundle(labels.split("train").slice(0, 40), labels.taxonomy, tmp_path / "fold")
    assert runtime.meta.taxonomy == labels.taxonomy
    assert capsys.readouterr().out == ""
