"""Between loaded and trained: what is wrong with a base model is one line before the first epoch."""

import json
import logging
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ray_app import storage
from ray_app.data.taxonomy import load
from ray_app.engine.agreement import batching_of
from ray_app.engine.dry_pass import unknown_characters
from ray_app.engine.encoder import EncoderClassifier, load_encoder
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError
from ray_app.inference import bundle
from ray_app.storage.lease import Lease
from ray_app.training import base_checks, train
from tests.support import bundles
from tests.support.families import apart_from_transformers, save_family, train_family

TEXTS = bundles.sample_texts(60)


def config(base: Path, **options: object) -> train.Config:
    given: dict[str, object] = {"max_length": 96, "workers": 0, "device": "cpu", **options}
    return train.Config(base_model=str(base), output="unused", **given).resolved()  # type: ignore[arg-type]


def refused(base: Path, **options: object) -> str:
    with pytest.raises(UserError) as raised:
        base_checks.rehearse(config(base, **options), load(), TEXTS)
    assert "\n" not in str(raised.value)
    assert f"--base-model {str(base)!r}" in str(raised.value)
    return str(raised.value)


def weights(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """An edit of the saved weights."""

    def run(base: Path) -> None:
        state = load_file(base / "model.safetensors")
        edit(state)
        save_file(state, base / "model.safetensors", {"format": "pt"})

    return run


def without(*suffixes: str) -> Callable[[Path], None]:
    """Removes files."""

    def run(base: Path) -> None:
        for path in list(base.iterdir()):
            if path.name.startswith(suffixes):
                path.unlink()

    return run


def configured(**changes: object) -> Callable[[Path], None]:
    """Changes config.json."""

    def run(base: Path) -> None:
        content = json.loads((base / "config.json").read_text(encoding="utf-8"))
        (base / "config.json").write_text(json.dumps(content | changes), encoding="utf-8")

    return run


def lfs(base: Path) -> None:
    """The weights as Git leaves them without Git LFS."""
    (base / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def cut_bin(base: Path) -> None:
    """A checkpoint of torch.save, cut short."""
    state = load_file(base / "model.safetensors")
    torch.save(state, base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    data = (base / "pytorch_model.bin").read_bytes()
    (base / "pytorch_model.bin").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (weights(lambda s: s.pop("encoder.layer.1.output.dense.weight")), "missing: encoder.layer.1.output.dense.w"),
        (configured(num_hidden_layers=3), "missing: encoder.layer.2.* and 13 more; is the checkpoint whole"),
        (
            configured(num_hidden_layers=1),
            "no place: encoder.layer.1.* and 13 more; is config.json that of",
        ),
        (configured(intermediate_size=48), "weights have other sizes than its config.json says"),
        (
            weights(lambda s: s["encoder.layer.0.output.dense.bias"].fill_(torch.nan)),
            "dense.bias holds NaN or infinity",
        ),
        (without("tokenizer", "vocab"), "no tokenizer files"),
        (lfs, "model.safetensors is a Git LFS pointer, not the file itself; run git lfs pull"),
        (cut_bin, "cut short or damaged"),
        (configured(is_decoder=True), "bert models read forward only.*python -m jobs.train_lm"),
    ],
    ids=["a layer's weight", "a layer", "extra layer", "sizes", "nan", "no tokenizer", "lfs", "cut bin", "decoder"],
)
def test_a_damaged_base_model_is_refused_before_training(
    edit: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    base = save_family("bert", tmp_path / "base")
    edit(base)
    assert re.search(message, refused(base))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    base = save_family("bert", tmp_path / "base", vocab_size=900)
    assert re.search(r"token ids up to \d+, its embedding 900 rows", refused(base))


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("gpt2", "read forward only"),
        ("llama", "read forward only"),
        ("t5", "t5 models are encoder and decoder"),
        ("reformer", "give states .*64.* for"),
        ("canine", "no embedding of token ids"),
        ("mra", "no token reads another"),
    ],
)
def test_families_that_are_no_encoders_here_are_refused(family: str, message: str, tmp_path: Path) -> None:
    assert re.search(message, refused(save_family(family, tmp_path / "base")))


@pytest.mark.parametrize(
    ("family", "positions", "fit"), [("bert", 64, 64), ("roberta", 64, 63), ("modernbert", 64, None), ("mpnet", 64, 62)]
)
def test_a_text_longer_than_the_positions_is_refused_with_the_number(
    family: str, positions: int, fit: int | None, tmp_path: Path
) -> None:
    base = save_family(family, tmp_path / "base", max_position_embeddings=positions)
    if fit is None:  # rotary positions have no end
        return base_checks.rehearse(config(base), load(), TEXTS)
    padding = load_encoder(str(base))[0].config.pad_token_id
    fit = positions - padding - 1 if family == "roberta" else fit
    assert f"it reads {fit} tokens, fewer than --max-length 96; write --max-length {fit}" in refused(base)
    base_checks.rehearse(config(base, max_length=fit), load(), TEXTS)
    return None


def test_characters_that_the_tokenizer_does_not_know_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = save_family("bert", tmp_path / "base")
    with caplog.at_level(logging.WARNING):
        base_checks.rehearse(config(base), load(), TEXTS)
    assert "unknown" not in caplog.text
    with caplog.at_level(logging.WARNING):
        base_checks.rehearse(config(base), load(), [f"{text} 鑫鑫 龘" for text in TEXTS])
    assert re.search(r"\d+% of the texts' tokens are unknown.*commonest: 鑫 龘", caplog.text)
    assert unknown_characters(Tokenizer(bundles.hf_tokenizer("bert")), []) == ""


def test_unspaced_reviews_read_differently() -> None:
    """WordPiece makes one [UNK] of a word of more than 100 letters."""
    tokenizer = Tokenizer(bundles.hf_tokenizer("bert"))
    unspaced = ["배송빠르고옷도이쁘네요" * 11, "색상이화면과달라서별로예요" * 11, "굿" * 5_000]
    tokens = tokenizer(unspaced)
    assert len(set(map(tuple, (tokens.sequences.row(i).tolist() for i in range(3))))) == 3
    assert tokenizer.hf.unk_token_id not in tokens.sequences.ids
    assert [int(tokens.end[o - 1]) for o in tokens.sequences.offsets[1:]] == list(map(len, unspaced))
    again = Tokenizer(tokenizer.hf)(unspaced)
    assert again.sequences.ids.tolist() == tokens.sequences.ids.tolist()


def test_special_tokens_are_found_though_no_letter_is_known() -> None:
    from tokenizers import Tokenizer as Raw
    from tokenizers import models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Raw(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "1": 3}, unk_token="[UNK]"))
    raw.normalizer = normalizers.Replace("가", "")
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    tokenizer = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]"))
    assert (tokenizer.prefix, tokenizer.suffix) == ([0], [1])


@pytest.mark.parametrize(
    ("family", "changes", "batching"),
    [
        ("bert", {}, "auto"),
        ("roberta", {"pad_token_id": 9}, "padded"),
        ("convbert", {}, "alone"),
        ("fnet", {}, "alone"),
        ("albert", {}, "auto"),
    ],
)
def test_a_model_is_run_as_its_answers_allow(
    family: str, changes: dict[str, int], batching: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = save_family(family, tmp_path / "base", **changes)
    encoder, hf = load_encoder(str(base))
    with caplog.at_level(logging.WARNING):
        assert batching_of(EncoderClassifier(encoder, 15, pooling="mean"), Tokenizer(hf), 96, "x") == batching
    assert bool(caplog.text) == (batching != "auto")


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "deberta-v2", "distilbert", "fnet", "squeezebert"])
def test_a_bundle_answers_as_transformers_does(family: str, tmp_path: Path) -> None:
    base = save_family(family, tmp_path / "base")
    train_family(base, tmp_path / "bundle", layers=1)
    meta = bundle.load(str(tmp_path / "bundle")).meta
    assert meta.batching == ("alone" if family == "fnet" else "auto")
    assert apart_from_transformers(tmp_path / "bundle") < 2e-4


def test_layers_that_cannot_be_cut_are_refused_and_listed_ones_are_cut(tmp_path: Path) -> None:
    assert "--layers: funnel encoders cannot be cut" in refused(save_family("funnel", tmp_path / "funnel"), layers=1)
    base = save_family("modernbert", tmp_path / "modern")
    assert len(load_encoder(str(base), layers=1)[0].layers) == 1


def test_dropout_inside_goes_by_what_the_config_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    distil = load_encoder(str(save_family("distilbert", tmp_path / "distil")), dropout=0.35)[0]
    rates = {module.p for module in distil.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.35}
    assert not caplog.text


def test_weights_that_no_token_reaches_are_frozen(tmp_path: Path) -> None:
    encoder, hf = load_encoder(str(save_family("squeezebert", tmp_path / "base")))
    model = EncoderClassifier(encoder, 3)
    base_checks.prepare(model, Tokenizer(hf), config(tmp_path / "base"))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["encoder.pooler.dense.weight", "encoder.pooler.dense.bias"]
    assert all(p.grad is None for p in model.parameters())


def test_nfd_texts_are_among_those_a_model_is_tried_on() -> None:
    from ray_app.engine.agreement import TEXTS as TRIED

    assert any(unicodedata.normalize("NFC", text) != text for text in TRIED)


@pytest.mark.parametrize(
    ("options", "flag"),
    [({"head_start": 2.0}, "--head-start"), ({"probe": False}, "--probe"), ({"score_epochs": 2}, "--score-epochs")],
)
def test_options_of_a_linear_layer_are_refused_for_a_joint_model(options: dict[str, float], flag: str) -> None:
    given: dict[str, object] = {"output": "unused", **options}
    with pytest.raises(UserError, match=f"{flag}: a joint model has no classifier of its own"):
        train.Config(**given).resolved()  # type: ignore[arg-type]
    assert train.Config(**given, score_form="attention").resolved()  # type: ignore[arg-type]


def test_a_learning_rate_that_is_too_high_is_one_line_in_the_first_epoch(tmp_path: Path) -> None:
    base = save_family("bert", tmp_path / "base")
    with pytest.raises(UserError, match=r"joint: the loss or its gradients are not finite in epoch 1.*lower it"):
        train_family(base, tmp_path / "bundle", learning_rate=1e30, warmup=0.0)
    assert not (tmp_path / "bundle").exists()


def test_a_second_training_on_one_output_waits_for_no_one(tmp_path: Path) -> None:
    base, folder = save_family("bert", tmp_path / "base"), str(tmp_path / "bundle.training")
    with Lease(folder, beat=0.2), pytest.raises(UserError, match="another run is writing there"):
        train_family(base, tmp_path / "bundle", resume=True)
    dead = storage.read_json(f"{folder}/_lease/000000.json") | {"released": False, "pid": 2**22 + 1}
    storage.write_json(f"{folder}/_lease/000000.json", dead)  # as a killed run leaves it
    train_family(base, tmp_path / "bundle")
    assert bundle.load(str(tmp_path / "bundle"))


def test_what_a_base_model_cannot_give_is_refused_and_not_ignored(tmp_path: Path) -> None:
    base = save_family("bert", tmp_path / "base")
    with pytest.raises(UserError, match=r"--base-model .*base@main: a folder has no revisions; write .*base"):
        load_encoder(f"{base}@main")
    with pytest.raises(UserError, match="--layers 3: it has 2; write at most 2, or leave it out"):
        load_encoder(str(base), layers=3)
    with pytest.raises(UserError, match="--base-model: no name"):
        train.Config(base_model=" ").resolved()
