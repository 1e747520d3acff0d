"""Causal language models on disk: a plain Hugging Face folder, and `nunchi_lm.json` with what belongs to the task.

    config.json model.safetensors tokenizer.json …   any tool that reads Hugging Face folders reads it
    nunchi_lm.json                                   task, template, taxonomy, settings, metrics, provenance

In: a folder or a model's name, or texts to make a small model from. Out: model and tokenizer. Nothing is executed on
loading: no code of a repository, and of a folder of ours only JSON and safetensors.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ray_app import __version__, storage
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.taxonomy import from_dict as taxonomy_from
from ray_app.errors import UserError, check, first_line
from ray_app.lm.templates import Template
from ray_app.lm.templates import from_dict as template_from

FORMAT = 1
META = "nunchi_lm.json"


@dataclass(frozen=True, kw_only=True)
class TaskMeta:
    """nunchi_lm.json: how the model was taught, so that it is asked the same way."""

    template: Template
    taxonomy: Taxonomy | None
    max_length: int = 256
    loss_on: str = "answer"
    support: dict[str, int] = field(default_factory=dict)  # training rows per keyword, of labelled reviews
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def load(folder: str, device: str = "auto") -> tuple[Any, Any, TaskMeta | None]:
    """Model, tokenizer and meta of a folder or a Hugging Face name; the model in fp32 on `device`, in eval mode.

    The meta is None where the model was not trained here. A remote folder is fetched first. Raises UserError.
    """
    from ray_app.engine.device import choose_device

    placement = choose_device(device)
    local = local_folder(folder)
    model, tokenizer = open_model(local)
    return model.to(placement.device).eval(), tokenizer, read_meta(local)


def open_model(name: str, flag: str = "--model") -> tuple[Any, Any]:
    """A causal LM in fp32 on the CPU and its tokenizer, which has a pad and an end-of-text token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, utils

    utils.logging.set_verbosity_error()
    utils.logging.disable_progress_bar()
    ours = os.path.exists(os.path.join(name, META))
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype="float32", trust_remote_code=False, use_safetensors=True if ours else None
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        here = os.path.isdir(name)
        where = first_line(error) if here else "no such folder, and the model hub does not have it or is out of reach"
        raise UserError(f"{flag} {name!r}: {where}; a folder works offline") from None
    check(tokenizer.is_fast, f"{flag} {name!r}: it has no fast tokenizer")
    check(tokenizer.eos_token_id is not None, f"{flag} {name!r}: its tokenizer has no end-of-text token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def read_meta(folder: str) -> TaskMeta | None:
    """What a folder of ours says of itself; None for any other."""
    path = Path(folder) / META
    return from_dict(storage.read_json(str(path)), str(path)) if path.is_file() else None


def from_dict(content: dict[str, Any], place: str) -> TaskMeta:
    """What `to_dict` made. Raises UserError naming `place`."""
    try:
        check(content["format"] == FORMAT, f"{place}: format {content['format']}; this nunchi reads format {FORMAT}")
        known = content["taxonomy"]
        return TaskMeta(
            template=template_from(content["template"], place),
            taxonomy=taxonomy_from(known, place) if known else None,
            max_length=content["max_length"],
            loss_on=content["loss_on"],
            support=content["support"],
            metrics=content["metrics"],
            provenance=content["provenance"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place}: damaged ({first_line(error)})") from None


def to_dict(meta: TaskMeta) -> dict[str, Any]:
    """The content of nunchi_lm.json."""
    return {
        "format": FORMAT,
        "nunchi": __version__,
        **asdict(replace(meta, taxonomy=None)),
        "template": meta.template.to_dict(),
        "taxonomy": meta.taxonomy.to_dict() if meta.taxonomy else None,
    }


def save(model: Any, tokenizer: Any, folder: Path, meta: TaskMeta | None = None) -> None:
    """Writes what `load` reads; a model with adapters must have been merged before."""
    from transformers import utils

    utils.logging.disable_progress_bar()
    model.save_pretrained(folder, max_shard_size="2GB")
    tokenizer.save_pretrained(folder)
    if meta:
        storage.write_json(str(folder / META), to_dict(meta))


def make_small_llama(texts: Sequence[str], layers: int, hidden: int, vocabulary: int, seed: int) -> tuple[Any, Any]:
    """A byte-level BPE tokenizer learnt from `texts` and a small Llama with random weights, by a seed.

    Bytes, not characters: every text comes back exactly as it was, and nothing is unknown.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _byte_tokenizer(texts, vocabulary)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 32 * 32 or 32,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        max_position_embeddings=2_048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config), tokenizer


def _byte_tokenizer(texts: Sequence[str], size: int) -> Any:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        texts, BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )


def local_folder(uri: str) -> str:
    """A folder on this machine, or a name as it is; what is remote is fetched into a temporary folder."""
    if "://" not in uri:
        return uri
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="nunchi-lm-"))
    storage.download(uri, folder)
    return str(folder)
