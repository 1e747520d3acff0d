"""LoRA, DoRA and IA3 through peft. In: an encoder. Out: the encoder wrapped, whose adapters train; and merged again."""

import re
from typing import TYPE_CHECKING

from torch import nn

from ray_app.errors import check

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

KEYS_VALUES = re.compile(r"layer\.\d+\..*\.(key|value)")
INNER = re.compile(r"layer\.\d+\.output\.dense")  # its inputs are the inner units


def wrapped(encoder: "PreTrainedModel", kind: str, rank: int) -> "PeftModel":
    """The encoder with adapters that do nothing yet. LoRA and DoRA change every matrix that takes part, scaled by 2.

    Raises UserError where the family has no plain matrices, or where IA3 does not know its keys, values and inner units
    by their names.
    """
    from peft import IA3Config, LoraConfig, get_peft_model

    linear = [n for n, m in encoder.named_modules() if isinstance(m, nn.Linear) and m.weight.requires_grad]
    check(bool(linear), f"--tune {kind}: {encoder.config.model_type} encoders have no linear layers of torch's own")
    if kind == "ia3":
        inner = [name for name in linear if INNER.search(name)]
        chosen = [name for name in linear if KEYS_VALUES.search(name)] + inner
        check(bool(inner) and len(chosen) > len(inner), f"--tune ia3: not for {encoder.config.model_type} encoders")
        return get_peft_model(encoder, IA3Config(target_modules=chosen, feedforward_modules=inner))
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=linear, use_dora=kind == "dora")
    return get_peft_model(encoder, settings)


def merged(encoder: "PeftModel") -> "PreTrainedModel":
    """The encoder with its adapters in its weights."""
    return encoder.merge_and_unload()
