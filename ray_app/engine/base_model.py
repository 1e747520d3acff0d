"""A base model is opened and looked at: what is wrong with it is said before anything is trained on it.

In: a Hugging Face name or folder. Out: an encoder and its tokenizer, with all weights loaded, none left over, none NaN,
and every token in the embedding. Code from a model's repository is never run.
"""

import inspect
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ray_app.errors import UserError, check, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

NOWHERE = "no such folder, and the model hub does not have it or is out of reach"
VOCABULARIES = (".model", ".bpe", ".bpe.codes", "tokenizer.json", "vocab.txt", "vocab.json", "vocab", "tokens.txt")
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "attention_dropout", "dropout")
UNCHECKED = re.compile(r"(^|\.)(pooler|position_ids|token_type_ids)(\.|$)")  # read by nothing here, or no weights
LFS = b"version https://git-lfs"
log = logging.getLogger(__name__)


def open_encoder(
    name: str, layers: int = 0, dropout: float | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """An encoder in fp32 on the CPU and its fast tokenizer; see `encoder.load_encoder`."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer, utils

    utils.logging.set_verbosity_error()
    utils.logging.disable_progress_bar()
    place = f"--base-model {name!r}"
    name, revision = at_revision(name)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
        check(
            not getattr(config, "is_encoder_decoder", False),
            f"{place}: {config.model_type} models are encoder and decoder; give an encoder such as klue/roberta-base",
        )
        if layers:
            cut_layers(config, layers, place)
        if dropout is not None:
            set_dropout(config, dropout)
        check_has_tokenizer(name, place)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
        encoder, loaded = AutoModel.from_pretrained(
            name,
            config=config,
            revision=revision,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            **without_pooler(config),
        )
    except Exception as error:  # transformers, safetensors, pickle and json each have errors of their own
        if isinstance(error, UserError):
            raise
        raise UserError(f"{place}: {cause(name, error)}; a folder, starter and scratch work offline") from None
    encoder.config._commit_hash = _commit(name, revision)
    check(tokenizer.is_fast, f"{place}: it has no fast tokenizer, and highlights need its offsets")
    check_loaded(encoder, loaded, place, cut=bool(layers))
    check_tokens(encoder, tokenizer, place)
    return encoder, tokenizer


def at_revision(name: str) -> tuple[str, str]:
    """`NAME@REVISION` -> a model's name and its branch, tag or commit; a folder's name may hold an @ of its own, and
    `hf://` may come before the name of a hub's model.

    Raises UserError where a revision is asked of a folder.
    """
    name = name.removeprefix("hf://")
    if os.path.isdir(name) or "@" not in name:
        return name, "main"
    name, _, revision = name.rpartition("@")
    check(not os.path.isdir(name), f"--base-model {name}@{revision}: a folder has no revisions; write {name}")
    return name, revision


def _commit(name: str, revision: str) -> str | None:
    """The commit behind a revision, by the hub's cache, where every loaded file lies under its commit."""
    from transformers.utils import cached_file

    if os.path.isdir(name):
        return None
    found = cached_file(name, "config.json", revision=revision, local_files_only=True)
    return Path(found).parent.name if found else None


def commit_behind(name: str) -> str:
    """The commit of a hub's model, `NAME[@REVISION]`, that this machine has; "" where it has none."""
    try:
        return _commit(*at_revision(name)) or ""
    except OSError:  # transformers' own, for a file that its cache lacks
        return ""


def commit_of(model: "PreTrainedModel") -> str | None:
    """The commit of the model hub that a model was loaded from; None where it came from a folder."""
    commit: str | None = getattr(model.config, "_commit_hash", None)
    return commit


def without_pooler(config: "PretrainedConfig") -> dict[str, bool]:
    """Leaves out the pooler that some families add and nothing here reads."""
    from transformers import MODEL_MAPPING

    model = MODEL_MAPPING.get(type(config), None)
    known = inspect.signature(model).parameters if isinstance(model, type) else {}
    return {"add_pooling_layer": False} if "add_pooling_layer" in known else {}


def cut_layers(config: "PretrainedConfig", layers: int, place: str) -> None:
    """Sets the config to its first `layers`, with what it lists per layer. Raises UserError where it cannot be cut."""
    try:
        before = int(config.num_hidden_layers)
        listed = {k: v for k, v in config.to_dict().items() if isinstance(v, list) and len(v) == before}
        check(layers <= before, f"{place}: --layers {layers}: it has {before}; write at most {before}, or leave it out")
        config.num_hidden_layers = kept = layers
        for key, values in listed.items() if kept < before else ():
            setattr(config, key, values[:kept])
    except UserError:
        raise
    except Exception as error:  # a config's own refusal, of any kind
        raise UserError(
            f"{place}: --layers: {config.model_type} encoders cannot be cut ({first_line(error)}); leave it out"
        ) from None


def set_dropout(config: "PretrainedConfig", rate: float) -> None:
    """Sets whatever dropout inside the encoder the config has, and says where it has none."""
    known = [name for name in DROPOUTS if isinstance(getattr(config, name, None), int | float)]
    for name in known:
        setattr(config, name, rate)
    if not known:
        log.warning("--encoder-dropout: %s encoders have no dropout of their own", config.model_type)


def check_has_tokenizer(name: str, place: str) -> None:
    """Raises UserError where a folder has no tokenizer of its own: transformers would make an empty one in silence."""
    if os.path.isdir(name):
        files = [path.name for path in Path(name).iterdir()]
        check(
            any(file.endswith(VOCABULARIES) for file in files),
            f"{place}: no tokenizer files (tokenizer.json, vocab.txt, …) in the folder; copy those of the model there",
        )


def check_loaded(model: "PreTrainedModel", loaded: Mapping[str, Iterable[str]], place: str, cut: bool = False) -> None:
    """Raises UserError naming weights that were missing (they would be random), left over, or not finite.

    `loaded`: transformers' loading info. `cut`: layers were left out on purpose. The head of another task is no part.
    """
    missing = sorted(key for key in loaded["missing_keys"] if not UNCHECKED.search(key))
    check(not missing, f"{place}: weights are missing: {_some(missing)}; is the checkpoint whole, and of this config?")
    parts = {name for name, _ in model.named_children()} | {model.base_model_prefix}
    extra = sorted(key for key in loaded["unexpected_keys"] if key.split(".")[0] in parts and not UNCHECKED.search(key))
    check(
        cut or not extra,
        f"{place}: weights for which its config.json has no place: {_some(extra)}; is config.json that of the weights?",
    )
    check_finite(model, place)


def check_finite(model: torch.nn.Module, place: str) -> None:
    """Raises UserError naming a weight that holds NaN or infinity."""
    for name, weight in model.named_parameters():
        check(bool(torch.isfinite(weight).all()), f"{place}: {name} holds NaN or infinity; the checkpoint is damaged")


def check_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", place: str) -> None:
    """Raises UserError where the tokenizer has a token that the embedding does not."""
    try:
        rows = int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        raise UserError(f"{place}: {model.config.model_type} models have no embedding of token ids") from None
    last = max(tokenizer.get_vocab().values(), default=-1)
    check(
        last < rows,
        f"{place}: its tokenizer has token ids up to {last}, its embedding {rows} rows; is it the tokenizer of another "
        "model?",
    )


def cause(name: str, error: BaseException) -> str:
    """Why a model could not be opened, with the file where there is one to name."""
    if not os.path.isdir(name):
        return NOWHERE
    for path in sorted(Path(name).iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(len(LFS))
            if start == LFS:
                return f"{path.name} is a Git LFS pointer, not the file itself; run git lfs pull there"
            if path.suffix == ".bin" and start[:2] != b"PK" and start[:1] != b"\x80":
                return f"{path.name} is cut short or no checkpoint; copy it again"
    if isinstance(error, EOFError) or "PytorchStreamReader" in str(error) or type(error).__name__ == "UnpicklingError":
        return f"its .bin weights are cut short or damaged ({first_line(error)}); copy them again"
    if "ignore_mismatched_sizes" in str(error):
        return "weights have other sizes than its config.json says; is config.json that of the weights?"
    return first_line(error)


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
