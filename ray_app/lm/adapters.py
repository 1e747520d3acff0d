"""Adapters of causal language models through peft: LoRA, DoRA and IA3, which train a small share of a model and are
merged into its weights at the end.

In: a model. Out: the model wrapped, whose adapters alone train.
"""

from typing import TYPE_CHECKING

from ray_app.errors import UserError, check, pip_install

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

KINDS = ("full", "lora", "dora", "ia3")
VIRTUAL = ("prefix", "prompt", "p-tuning")  # kinds of no adapters: see virtual_tokens.py
RATES = dict(zip((*KINDS, *VIRTUAL), (5e-5, 2e-4, 2e-4, 5e-3, 1e-2, 1e-2, 3e-3), strict=True))  # where none is given
TOKENS = 16  # virtual ones, where no number is given
RANK = 8  # of LoRA and DoRA, where none is given


def check_options(kind: str, rank: int, weight_decay: float, virtual_tokens: int, max_length: int) -> None:
    """Raises UserError for options that do not belong to a kind."""
    ranked = kind in ("lora", "dora")
    check(ranked or not rank, f"--lora {rank}: --tune {kind} has no rank; leave one of both out")
    decays = kind == "ia3" and weight_decay
    check(not decays, "--weight-decay: IA3 does nothing at 1, not at 0; leave it out with --tune ia3")
    virtual = kind in VIRTUAL
    check(
        not (virtual and weight_decay),
        f"--weight-decay: a virtual token of zeros is no less of one; leave it out with --tune {kind}",
    )
    check(
        virtual or not virtual_tokens,
        f"--virtual-tokens {virtual_tokens}: --tune {kind} has none, only {', '.join(VIRTUAL)}; leave it out",
    )
    check(
        not virtual or (virtual_tokens or TOKENS) < max_length // 2,
        f"--virtual-tokens {virtual_tokens or TOKENS}: they are among the {max_length} tokens of --max-length; write "
        f"fewer than {max_length // 2}",
    )


def wrapped(model: "PreTrainedModel", kind: str, rank: int) -> "PeftModel":
    """The model with adapters that do nothing yet: LoRA (Hu et al. 2021, arXiv:2106.09685) and DoRA (Liu et al. 2024,
    arXiv:2402.09353) on every linear layer but the last, scaled by 2; IA3 (Liu et al. 2022, arXiv:2205.05638) on keys,
    values and inner units.

    Raises UserError where peft is not installed, or does not know a family's keys and values.
    """
    try:
        from peft import get_peft_model
    except ImportError:
        raise UserError(f"--tune {kind} needs peft: {pip_install('lm')}") from None
    try:
        return get_peft_model(model, _settings(model, kind, rank))
    except ValueError:
        if kind != "ia3":
            raise
        known = f"peft does not know the keys and values of {model.config.model_type} models"
        raise UserError(f"--tune ia3: {known}; write lora or dora") from None


def _settings(model: "PreTrainedModel", kind: str, rank: int) -> "PeftConfig":
    from peft import IA3Config, LoraConfig
    from transformers.pytorch_utils import Conv1D

    transposed = any(isinstance(module, Conv1D) for module in model.modules())  # GPT-2's linear layers
    if kind == "ia3":
        return IA3Config(fan_in_fan_out=transposed, task_type="CAUSAL_LM")
    return LoraConfig(
        r=rank or RANK,
        lora_alpha=2 * (rank or RANK),
        use_dora=kind == "dora",
        target_modules="all-linear",
        fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )
