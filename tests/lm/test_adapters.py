from copy import deepcopy

import pytest
import torch

from ray_app.errors import UserError
from ray_app.lm import adapters
from ray_app.lm.train_lm import Config
from tests.support.language_models import tiny_lm

pytest.importorskip("peft", reason="the extra lm is not installed")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", adapters.KINDS[1:])
def test_adapters_alone_train_and_are_merged_exactly(kind: str, family: str) -> None:
    torch.manual_seed(0)
    model = deepcopy(tiny_lm(family=family))  # others use the same one
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = model(ids).logits.detach()
    tuned = adapters.wrapped(model, kind, 2)
    trains = [p for p in tuned.parameters() if p.requires_grad]
    assert 0 < sum(p.numel() for p in trains) < 0.5 * sum(p.numel() for p in tuned.parameters())
    torch.testing.assert_close(tuned(ids).logits, plain, atol=1e-5, rtol=1e-5)  # they do nothing yet
    for parameter in trains:
        parameter.data += 0.05 * torch.randn_like(parameter)
    moved = tuned(ids).logits.detach()
    assert (moved - plain).abs().max() > 1e-4
    merged = tuned.merge_and_unload()
    torch.testing.assert_close(merged(ids).logits, moved, atol=1e-4, rtol=1e-4)
    assert merged.state_dict().keys() == before.keys()  # a plain model


def test_a_rank_alone_means_lora_and_is_no_other_kinds() -> None:
    assert Config(base_model="x", lora=4).kind == "lora"
    assert Config(base_model="x", lora=4, tune="dora").kind == "dora"
    assert Config(base_model="x").kind == "full"
    with pytest.raises(UserError, match="--lora 4: --tune ia3 has no rank"):
        Config(base_model="x", lora=4, tune="ia3")
    with pytest.raises(UserError, match="--weight-decay: IA3 does nothing at 1"):
        Config(base_model="x", tune="ia3", weight_decay=0.1)
