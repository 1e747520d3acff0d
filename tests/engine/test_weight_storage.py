"""Weights stored as 8-bit or 4-bit integers: small, close, and what a loaded model runs on."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ray_app.data.taxonomy import load
from ray_app.engine import weight_storage
from ray_app.engine.encoder import load_keyword_scorer, load_model, save_model
from tests.support import bundles

FILES = weight_storage.FILES


def there_and_back(state: dict[str, torch.Tensor], kind: str, folder: Path) -> dict[str, torch.Tensor]:
    weight_storage.write(state, folder, FILES[kind], kind)
    return weight_storage.read(folder, FILES[kind])


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.98), ("int4", 0.9)])
def test_searched_scales_cost_less_than_those_of_the_largest_weight(kind: str, share: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(64, 128) * torch.tensor([1e-3, 1, 50, 3])[:, None].repeat(16, 1)
    state = {"matrix": matrix, "bias": torch.randn(7), "odd": torch.randn(3, 65)}
    back = there_and_back(state, kind, tmp_path)
    assert back.keys() == state.keys()
    assert torch.equal(back["bias"], state["bias"])
    assert torch.equal(back["odd"], state["odd"])
    error = ((back["matrix"] - matrix).norm(dim=1) / matrix.norm(dim=1)).mean()
    group, most = weight_storage.GROUP[kind], weight_storage.STEPS[kind] - 1
    scale = matrix.view(64, -1, group).abs().amax(2).repeat_interleave(group, 1) / most
    plain = (((matrix / scale).round() * scale - matrix).norm(dim=1) / matrix.norm(dim=1)).mean()
    assert error < share * plain


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_what_was_stored_is_stored_the_same_again(kind: str, tmp_path: Path) -> None:
    """So a bundle that lies in few bits may be changed and stored once more."""
    torch.manual_seed(0)
    once = there_and_back({"matrix": torch.randn(16, 128)}, kind, tmp_path)
    torch.testing.assert_close(there_and_back(once, kind, tmp_path), once, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_weights_of_any_size_are_finite_and_signs_stay(kind: str, tmp_path: Path) -> None:
    matrix = torch.tensor([0.0, 1e-9, 1e-6, 1e4, -1e4])[:, None].repeat(1, 64)
    matrix[:, 1] *= -1
    back = there_and_back({"matrix": matrix}, kind, tmp_path)["matrix"]
    torch.testing.assert_close(back, matrix, atol=1e-6, rtol=0.01)


def test_four_bits_take_half_the_room_of_eight(tmp_path: Path) -> None:
    state = {"matrix": torch.randn(256, 512)}
    for kind, file in FILES.items():
        weight_storage.write(state, tmp_path, file, kind)
    sizes = {kind: (tmp_path / file).stat().st_size for kind, file in FILES.items()}
    assert sizes["int8"] == pytest.approx(256 * 512 * (1 + 2 / 64), rel=0.01)
    assert sizes["int4"] == pytest.approx(256 * 512 * (0.5 + 2 / 32), rel=0.01)


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("kind", bundles.KINDS)
def test_a_model_saved_in_few_bits_gives_nearly_the_same_logits(kind: str, weights: str, tmp_path: Path) -> None:
    ids = torch.tensor([[2, 9, 8, 3], [2, 7, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    plain, scorer = bundles.classifier_model(kind, 5, "mean").eval(), bundles.keyword_scorer(kind, load()).eval()
    save_model(plain, tmp_path / "plain", weights)
    save_model(scorer, tmp_path / "scorer", weights)
    assert weight_storage.stored_as(tmp_path / "plain") == weights
    assert not (tmp_path / "plain" / "model.safetensors").exists()
    off = 2e-2 if weights == "int8" else 0.4  # four bits are few for rows of 32 random weights
    with torch.inference_mode():
        again, scored = load_model(tmp_path / "plain", "mean").eval(), load_keyword_scorer(tmp_path / "scorer").eval()
        assert (again(ids, mask) - plain(ids, mask)).abs().mean() < off
        assert (scored(ids, mask) - scorer(ids, mask)).abs().mean() < off


@pytest.mark.parametrize("change", ["missing", "other"])
def test_weights_that_are_not_this_encoders_are_refused(change: str, tmp_path: Path) -> None:
    save_model(bundles.classifier_model("bert"), tmp_path, "int8")
    stored = load_file(tmp_path / FILES["int8"])
    name = "encoder.layer.0.attention.output.dense.bias"
    value = stored.pop(name)
    if change == "other":
        stored[name] = value[:-1].clone()
    save_file(stored, tmp_path / FILES["int8"])
    with pytest.raises(ValueError, match=r"1 weights are not this encoder's, or are missing: .*output\.dense\.bias"):
        load_model(tmp_path, "mean")
