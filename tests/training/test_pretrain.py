"""A small encoder from unlabeled reviews, with and without a teacher; jobs.pretrain in process."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.engine.encoder import load_base_model
from ray_app.errors import UserError
from ray_app.storage.lease import Lease
from ray_app.training import distillation, pretrain
from tests.support import bundles

TEXTS = bundles.sample_texts(80)
SMALL: dict[str, Any] = {
    "vocabulary": 600,
    "layers": 1,
    "hidden": 32,
    "intermediate": 64,
    "epochs": 4,
    "batch_tokens": 512,
    "max_length": 40,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eighty reviews of which every third has no rating, a blank one and a null one."""
    path = str(tmp_path_factory.mktemp("reviews") / "reviews.parquet")
    ratings = [None if i % 3 == 0 else float(i % 5) for i in range(len(TEXTS))]
    storage.write_parquet(path, pa.table({"text": [*TEXTS, " ", None], "rating": [*ratings, 1.0, 1.0]}))
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("teacher")
    bundles.encoder("roberta").save_pretrained(folder)
    bundles.hf_tokenizer("roberta").save_pretrained(folder)
    return str(folder)


def last_epoch(output: Path, **options: Any) -> dict[str, float]:
    pretrain.run(pretrain.Config(output=str(output), **{**SMALL, **options}))
    provenance = storage.read_json(str(output / "provenance.json"))
    assert provenance["reviews"] == len(set(TEXTS))
    losses: dict[str, float] = provenance["last_epoch"]
    return losses


def test_an_encoder_is_a_base_model_and_its_losses_fall(
    reviews: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = last_epoch(tmp_path / "once", input=reviews, epochs=1)
    losses = last_epoch(tmp_path / "encoder", input=reviews)
    assert losses.keys() == {"masked", "rating"}
    assert losses["masked"] < once["masked"]
    assert f"-m jobs.train --labels YOUR_LABELS.csv --base-model {tmp_path}/encoder" in capsys.readouterr().out
    encoder, tokenizer = load_base_model(str(tmp_path / "encoder"))
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    assert encoder(input_ids=ids).last_hidden_state.shape == (1, ids.shape[1], 32)


def test_a_teacher_is_imitated(reviews: str, teacher: str, tmp_path: Path) -> None:
    once = last_epoch(tmp_path / "once", input=reviews, teacher=teacher, epochs=1)
    losses = last_epoch(tmp_path / "encoder", input=reviews, teacher=teacher)
    assert losses.keys() == {"tokens", "review", "masked", "rating"}
    assert losses["tokens"] < once["tokens"]


def test_the_same_seed_gives_the_same_losses(reviews: str, teacher: str, tmp_path: Path) -> None:
    one, same, other = (
        last_epoch(tmp_path / str(i), input=reviews, teacher=teacher, epochs=1, seed=seed)
        for i, seed in enumerate((0, 0, 1))
    )
    assert one == same != other


def test_reviews_without_a_text_column_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "reviews.parquet")
    storage.write_parquet(path, pa.table({"body": TEXTS}))
    with pytest.raises(UserError, match="no column 'text'; name it with --columns text=NAME"):
        pretrain.run(pretrain.Config(input=(path,), output=str(tmp_path / "encoder"), **SMALL))


def test_a_teacher_reads_its_own_special_tokens_and_unk_for_what_it_lacks() -> None:
    teacher = distillation.Teacher(model=bundles.encoder("bert"), ids=np.array([0, 1, 2, 3, 9, -1]))
    read = distillation.teacher_reads(teacher)
    assert read.tolist() == [0, 1, 2, 3, 9, 3]


def test_one_pretraining_at_a_time_writes_an_output(reviews: str, tmp_path: Path) -> None:
    output, training = tmp_path / "encoder", f"{tmp_path}/encoder.training"
    with Lease(training, beat=0.2), pytest.raises(UserError, match="another run is writing there"):
        last_epoch(output, input=reviews, epochs=1)
    assert not output.exists()
    dead = storage.read_json(f"{training}/_lease/000000.json") | {"released": False, "pid": 2**22 + 1}
    storage.write_json(f"{training}/_lease/000000.json", dead)  # as a killed run leaves it
    last_epoch(output, input=reviews, epochs=1)
    assert not Path(training).exists() or not any(Path(training).iterdir())
    with pytest.raises(UserError, match=r"--output .*encoder: already exists; remove it or name another"):
        last_epoch(output, input=reviews, epochs=1)
