"""Weights stored as 8-bit integers: small, close, and what a loaded model runs on."""

from pathlib import Path

import pytest
import torch

from ray_app.data.taxonomy import load
from ray_app.engine import weight_storage
from ray_app.engine.encoder import load_keyword_scorer, load_model, save_model
from tests.support import bundles


def test_a_weight_is_off_by_half_a_step_of_its_group_at_most(tmp_path: Path) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(6, 128) * torch.tensor([1e-3, 1, 50, 0, 1e-6, 3])[:, None]
    state = {"matrix": matrix, "bias": torch.randn(7), "odd": torch.randn(3, 65)}
    weight_storage.write(state, tmp_path)
    back = weight_storage.read(tmp_path)
    assert back.keys() == state.keys()
    assert torch.equal(back["bias"], state["bias"])
    assert torch.equal(back["odd"], state["odd"])
    largest = matrix.view(6, 2, 64).abs().amax(2).repeat_interleave(64, 1)
    assert ((back["matrix"] - matrix).abs() <= largest / 127 * 0.51 + 1e-7).all()


@pytest.mark.parametrize("kind", bundles.KINDS)
def test_a_model_saved_in_int8_gives_nearly_the_same_logits(kind: str, tmp_path: Path) -> None:
    ids = torch.tensor([[2, 9, 8, 3], [2, 7, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    plain, scorer = bundles.classifier_model(kind, 5, "mean").eval(), bundles.keyword_scorer(kind, load()).eval()
    save_model(plain, tmp_path / "plain", "int8")
    save_model(scorer, tmp_path / "scorer", "int8")
    assert not (tmp_path / "plain" / "model.safetensors").exists()
    with torch.inference_mode():
        again, scored = load_model(tmp_path / "plain", "mean").eval(), load_keyword_scorer(tmp_path / "scorer").eval()
        torch.testing.assert_close(again(ids, mask), plain(ids, mask), atol=5e-2, rtol=5e-2)
        torch.testing.assert_close(scored(ids, mask), scorer(ids, mask), atol=5e-2, rtol=5e-2)
