"""Base models and classifiers: loaded, saved, refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from ray_app.engine.encoder import (
    POOLINGS,
    EncoderClassifier,
    base_name,
    load_base_model,
    load_encoder,
    load_model,
    save_model,
    small_encoder,
)
from ray_app.errors import UserError
from tests.support import bundles

IDS = torch.tensor([[2, 9, 8, 3], [2, 7, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.fixture(params=bundles.KINDS)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A base model's folder as transformers writes it."""
    bundles.encoder(request.param).save_pretrained(tmp_path)
    bundles.hf_tokenizer(request.param).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", bundles.KINDS)
def test_a_saved_model_gives_the_same_logits(kind: str, pooling: str, tmp_path: Path) -> None:
    model = bundles.classifier_model(kind, 5, pooling)
    save_model(model, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = load_model(tmp_path, pooling).eval()
    with torch.inference_mode():
        assert torch.equal(loaded(IDS, MASK), model(IDS, MASK))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


@torch.inference_mode()
def test_poolings_read_the_first_or_the_mean_vector_of_real_tokens() -> None:
    encoder = bundles.encoder("bert")
    hidden = encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    expected = {"first": hidden[:, 0], "mean": torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)])}
    for pooling, pooled in expected.items():
        model = EncoderClassifier(encoder, 3, pooling=pooling).eval()
        torch.testing.assert_close(model(IDS, MASK), model.head(pooled))


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(UserError, match="pooling 'max': write first or mean"):
        EncoderClassifier(bundles.encoder("bert"), 3, pooling="max")


def test_a_folder_is_a_base_model(saved: Path) -> None:
    encoder, tokenizer = load_base_model(str(saved), layers=1, dropout=0.35)
    config: Any = encoder.config
    assert config.num_hidden_layers == 1
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.35
    assert tokenizer("옷")["input_ids"] == bundles.hf_tokenizer(config.model_type)("옷")["input_ids"]
    assert not any("pooler" in name for name, _ in encoder.named_parameters())
    whole = AutoModel.from_pretrained(saved).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in encoder.state_dict().items())
    assert len([name for name in whole if name.endswith("query.weight")]) == 2


def test_more_layers_than_there_are_is_refused(saved: Path) -> None:
    with pytest.raises(UserError, match="--layers 9: it has 2; write at most 2"):
        load_encoder(str(saved), layers=9)


def test_scratch_is_made_from_the_texts() -> None:
    texts = bundles.sample_texts(200)
    encoder, tokenizer = load_base_model("scratch", layers=1, texts=texts, dropout=0.0)
    config: Any = encoder.config
    assert (config.num_hidden_layers, config.hidden_dropout_prob) == (1, 0)
    assert config.vocab_size == len(tokenizer)
    ids = tokenizer(texts[0], return_tensors="pt")["input_ids"]
    assert encoder(input_ids=ids).last_hidden_state.shape == (1, ids.shape[1], config.hidden_size)
    assert tokenizer.mask_token_id is not None


def test_a_small_encoder_has_the_size_asked_for() -> None:
    encoder = small_encoder(bundles.hf_tokenizer("roberta"), layers=2, hidden=64, intermediate=96)
    config: Any = encoder.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (2, 64, 96)
    assert config.hidden_dropout_prob == 0.1


def refused(name: str) -> str:
    with pytest.raises(UserError) as raised:
        load_encoder(name)
    assert "\n" not in str(raised.value)
    assert f"--base-model {name!r}" in str(raised.value)
    return str(raised.value)


def test_a_folder_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    refused(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}')
    refused(str(tmp_path))


def test_a_folder_whose_weights_are_cut_short_is_refused_in_one_line(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000])
    refused(str(saved))


def test_a_name_that_is_nowhere_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "no such folder" in refused("./no/such/folder")


def test_code_that_comes_with_a_model_is_never_run(saved: Path) -> None:
    content = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    content |= {"model_type": "custom", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (saved / "config.json").write_text(json.dumps(content), encoding="utf-8")
    (saved / "code.py").write_text(f"open({str(saved / 'ran')!r}, 'w').close()\n", encoding="utf-8")
    refused(str(saved))
    assert not (saved / "ran").exists()


def test_provenance_names_a_model_without_its_folder(saved: Path) -> None:
    assert base_name(str(saved) + "/") == saved.name
    assert base_name("klue/roberta-base") == "klue/roberta-base"
