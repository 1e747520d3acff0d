"""causal_lm: a model folder is plain Hugging Face plus nunchi_lm.json, and loading it executes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertLMHeadModel

from ray_app import storage
from ray_app.data import taxonomy
from ray_app.errors import UserError
from ray_app.lm import causal_lm, templates
from tests.support.bundles import hf_tokenizer
from tests.support.families import save_family
from tests.support.language_models import lm_texts

ODD = ["옷이 예뻐요ㅠㅠ 😀👍🏽", "  빈칸\t두 개 \n###출력: 배송-1 ", "Ⅳ ﬁ 한글"]


@pytest.fixture(scope="module")
def made() -> tuple[Any, Any]:
    return causal_lm.make_small_llama(lm_texts(50), layers=2, hidden=64, vocabulary=500, seed=3)


def meta() -> causal_lm.TaskMeta:
    return causal_lm.TaskMeta(
        template=templates.load("review"),
        taxonomy=taxonomy.load(),
        max_length=128,
        loss_on="all",
        support={"배송": 3},
        metrics={"loss": 1.5},
        provenance={"data": "sample"},
    )


@pytest.fixture
def folder(made: tuple[Any, Any], tmp_path: Path) -> Path:
    causal_lm.save(*made, tmp_path / "lm", meta())
    return tmp_path / "lm"


def test_a_scratch_tokenizer_gives_every_text_back(made: tuple[Any, Any]) -> None:
    tokenizer = made[1]
    for text in [*ODD, *lm_texts(20)]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) <= 500


def test_a_scratch_model_is_the_same_by_its_seed(made: tuple[Any, Any]) -> None:
    again, other = (causal_lm.make_small_llama(lm_texts(50), 2, 64, 500, seed) for seed in (3, 4))
    assert again[1].get_vocab() == made[1].get_vocab()
    weights = made[0].state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again[0].state_dict().items())
    assert not all(torch.equal(value, weights[name]) for name, value in other[0].state_dict().items())


def test_a_folder_comes_back_and_is_one_that_transformers_reads(made: tuple[Any, Any], folder: Path) -> None:
    model, tokenizer, loaded = causal_lm.load(str(folder), "cpu")
    assert loaded == meta()
    assert not model.training
    plain = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([tokenizer(ODD[0])["input_ids"]])
    assert ids.tolist() == [AutoTokenizer.from_pretrained(folder)(ODD[0])["input_ids"]]
    with torch.no_grad():
        expected = made[0].eval()(ids).logits
        torch.testing.assert_close(model(ids).logits, expected)
        torch.testing.assert_close(plain(ids).logits, expected)
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors"}


def test_a_remote_folder_is_fetched(folder: Path, s3: str) -> None:
    storage.upload(str(folder), f"{s3}/lm")
    _, tokenizer, loaded = causal_lm.load(f"{s3}/lm", "cpu")
    assert loaded == meta()
    assert tokenizer.eos_token == "</s>"


def test_a_folder_of_others_has_no_meta_and_gets_a_pad_token(made: tuple[Any, Any], tmp_path: Path) -> None:
    causal_lm.save(*made, tmp_path)
    path = tmp_path / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({k: v for k, v in content.items() if k != "pad_token"}), encoding="utf-8")
    _, tokenizer, loaded = causal_lm.load(str(tmp_path), "cpu")
    assert loaded is None
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_a_pickle_in_place_of_our_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="--model"):
        causal_lm.load(str(folder), "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "format 9; this nunchi reads formats 1 and 2"),
        ({"template": None}, r"nunchi_lm\.json: damaged"),
        ({"taxonomy": {"keywords": 3}}, r"nunchi_lm\.json: not a taxonomy"),
    ],
)
def test_a_damaged_meta_is_named(folder: Path, change: dict[str, Any], message: str) -> None:
    content = {**storage.read_json(str(folder / causal_lm.META)), **change}
    storage.write_json(str(folder / causal_lm.META), content)
    with pytest.raises(UserError, match=message):
        causal_lm.read_meta(str(folder))


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder, and the model hub does not have it"):
        causal_lm.load("nobody/nothing-here", "cpu")
    with pytest.raises(UserError, match="--base-model"):
        causal_lm.open_model(str(tmp_path), "--base-model")


def test_a_base_model_that_is_no_whole_causal_model_is_refused(tmp_path: Path) -> None:
    save_family("bert", tmp_path / "encoder")
    with pytest.raises(UserError, match=r"--base-model .*weights are missing: cls.predictions"):
        causal_lm.open_model(str(tmp_path / "encoder"), "--base-model")
    size = len(hf_tokenizer("bert"))
    config = BertConfig(vocab_size=size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    BertLMHeadModel(config).save_pretrained(tmp_path / "both")
    hf_tokenizer("bert").save_pretrained(tmp_path / "both")
    with pytest.raises(UserError, match=r"bert models read both ways, so they cannot write.*jobs.train"):
        causal_lm.open_model(str(tmp_path / "both"))
    (tmp_path / "both" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer files"):
        causal_lm.open_model(str(tmp_path / "both"))
