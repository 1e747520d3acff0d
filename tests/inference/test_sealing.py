"""What is sealed can be loaded, is finite, and answers the same however it is batched."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ray_app import storage
from ray_app.errors import UserError
from ray_app.inference import bundle, sealing
from tests.support import bundles
from tests.support.families import save_family, train_family


@pytest.fixture
def unsealed(tmp_path: Path) -> tuple[Path, bundle.BundleMeta]:
    folder = tmp_path / "bundle"
    bundles.make_bundle(folder, score_form="joint", max_length=96)
    meta = bundle.load(str(folder)).meta
    (folder / "bundle.json").unlink()
    return folder, meta


def test_a_good_bundle_is_sealed_and_loads(unsealed: tuple[Path, bundle.BundleMeta]) -> None:
    folder, meta = unsealed
    identity = sealing.seal_checked(folder, meta)
    loaded = bundle.load(str(folder))
    assert (loaded.id, loaded.meta) == (identity, meta)
    assert storage.read_json(str(folder / "bundle.json"))["format"] == 2


@pytest.mark.parametrize("part", ["model", "head"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_sealed(
    part: str, value: float, unsealed: tuple[Path, bundle.BundleMeta]
) -> None:
    folder, meta = unsealed
    path = folder / "joint" / f"{part}.safetensors"
    state = load_file(path)
    next(iter(state.values())).view(-1)[0] = value
    save_file(state, path, {"format": "pt"})
    with pytest.raises(UserError, match="the trained model joint"):
        sealing.seal_checked(folder, meta)
    assert not (folder / "bundle.json").exists()


def test_thresholds_that_are_no_numbers_are_not_sealed(unsealed: tuple[Path, bundle.BundleMeta]) -> None:
    folder, meta = unsealed
    with pytest.raises(UserError, match=r"thresholds are not all numbers; lower --learning-rate"):
        sealing.seal_checked(folder, replace(meta, thresholds=(float("nan"), *meta.thresholds[1:])))


def test_a_chat_template_stays_out_of_a_bundle(tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(bundles.hf_tokenizer("bert"))
    tokenizer.chat_template = "{{ messages }}"
    sealing.save_tokenizer(tokenizer, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert "messages" not in (tmp_path / "tokenizer_config.json").read_text(encoding="utf-8")


def test_a_model_that_padding_changes_is_sealed_as_such(tmp_path: Path) -> None:
    save_family("convbert", tmp_path / "base")
    train_family(tmp_path / "base", tmp_path / "bundle")
    content = storage.read_json(str(tmp_path / "bundle" / "bundle.json"))
    assert (content["format"], content["batching"]) == (3, "alone")
