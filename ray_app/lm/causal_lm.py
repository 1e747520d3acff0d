"""Causal language models: a plain Hugging Face folder, and in it `nunchi_lm.json` with what belongs to the task.

    config.json model.safetensors tokenizer.json …   any tool that reads Hugging Face folders reads it
    nunchi_lm.json                                   task, template, taxonomy, settings, metrics, provenance
    virtual_tokens.safetensors                       of a model that was tuned by them; other tools read the base alone

In: a folder or a model's name, or texts to make a small model from. Out: model and tokenizer. Loading executes nothing:
no code of a repository, and from a folder of ours only JSON and safetensors are read.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_app import __version__, storage
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.taxonomy import from_dict as taxonomy_from
from ray_app.engine.base_model import at_revision, cause, check_has_tokenizer, check_loaded, check_tokens
from ray_app.engine.dry_pass import check_reads_forward
from ray_app.errors import UserError, check, first_line
from ray_app.lm.templates import Template
from ray_app.lm.templates import from_dict as template_from

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FORMATS = (1, 2)  # 2: the model has virtual tokens, without which an earlier release would read it wrong
META = "nunchi_lm.json"


@dataclass(frozen=True, kw_only=True)
class TaskMeta:
    """The content of nunchi_lm.json: how the model was trained, so that its prompts are the same afterwards."""

    template: Template
    taxonomy: Taxonomy | None
    max_length: int = 256
    loss_on: str = "answer"
    support: dict[str, int] = field(default_factory=dict)  # training rows per keyword, of labeled reviews
    metrics: Mapping[str, object] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)
    virtual_tokens: int = 0  # that every prompt begins with, see virtual_tokens.py


def load(folder: str, device: str = "auto") -> tuple["PreTrainedModel", "PreTrainedTokenizerFast", TaskMeta | None]:
    """Model, tokenizer and meta of a folder or a Hugging Face name; the model in fp32 on `device`, in eval mode.

    The meta is None where the model was not trained here. A remote folder is fetched first. Raises UserError naming the
    folder where it holds no such model.
    """
    from ray_app.engine.device import choose_device
    from ray_app.lm import virtual_tokens

    local = local_folder(folder)
    model, tokenizer = open_model(local)
    meta = read_meta(local)
    tuned = virtual_tokens.read(model, Path(local), meta.virtual_tokens if meta else 0, f"--model {folder!r}")
    return tuned.to(choose_device(device).torch_device).eval(), tokenizer, meta


def open_model(name: str, flag: str = "--model") -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """A causal LM in fp32 on the CPU and its tokenizer, which has a pad and an end-of-text token.

    `flag` is what names the model in an error. Raises UserError.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, utils

    utils.logging.set_verbosity_error()
    utils.logging.disable_progress_bar()
    ours = os.path.exists(os.path.join(name, META))
    place = f"{flag} {name!r}"
    check_has_tokenizer(name, place)
    name, revision = at_revision(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
        model, loaded = AutoModelForCausalLM.from_pretrained(
            name,
            revision=revision,
            dtype="float32",
            trust_remote_code=False,
            use_safetensors=True if ours else None,
            output_loading_info=True,
        )
    except Exception as error:  # transformers, safetensors, pickle and json each have errors of their own
        raise UserError(f"{place}: {cause(name, error)}; a folder works offline") from None
    check_loaded(model, loaded, place)
    check_tokens(model, tokenizer, place)
    check_reads_forward(model, place)
    check(tokenizer.is_fast, f"{flag} {name!r}: it has no fast tokenizer")
    check(tokenizer.eos_token_id is not None, f"{flag} {name!r}: its tokenizer has no end-of-text token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def read_meta(folder: str) -> TaskMeta | None:
    """The meta of a folder or URI that `save` wrote; None for any other model, or for a name."""
    uri = storage.join(folder, META)
    return from_dict(storage.read_json(uri), uri) if storage.exists(uri) else None


def from_dict(content: dict[str, Any], location: str) -> TaskMeta:
    """The inverse of `to_dict`. Raises UserError naming `location`."""
    try:
        version = content["format"]
        check(version in FORMATS, f"{location}: format {version}; this nunchi reads formats 1 and 2")
        taxonomy = content["taxonomy"]
        return TaskMeta(
            template=template_from(content["template"], location),
            taxonomy=taxonomy_from(taxonomy, location) if taxonomy else None,
            max_length=content["max_length"],
            loss_on=content["loss_on"],
            support=content["support"],
            metrics=content["metrics"],
            provenance=content["provenance"],
            virtual_tokens=content.get("virtual_tokens", 0),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{location}: damaged ({first_line(error)})") from None


def to_dict(meta: TaskMeta) -> dict[str, object]:
    """The content of nunchi_lm.json."""
    return {
        "format": FORMATS[bool(meta.virtual_tokens)],
        "nunchi": __version__,
        **asdict(replace(meta, taxonomy=None)),
        "template": meta.template.to_dict(),
        "taxonomy": meta.taxonomy.to_dict() if meta.taxonomy else None,
    }


def save(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", folder: Path, meta: TaskMeta | None = None
) -> None:
    """Writes what `load` reads; adapters must have been merged into the model before. Virtual tokens lie in a file of
    their own beside it."""
    from transformers import utils

    from ray_app.lm import virtual_tokens

    utils.logging.disable_progress_bar()
    with virtual_tokens.bare(model) as (plain, added):
        plain.save_pretrained(folder, max_shard_size="2GB")
        if added:
            virtual_tokens.write(added, folder)
    tokenizer.save_pretrained(folder)
    if meta:
        storage.write_json(str(folder / META), to_dict(meta))


def upload(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", uri: str, meta: TaskMeta | None = None
) -> None:
    """`save` to a folder or URI; the last file it writes (`nunchi_lm.json`, else `config.json`) makes it complete."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, tokenizer, Path(folder), meta)
        storage.upload(folder, uri, last=META if meta else "config.json")


def make_base(folder: str, texts: Sequence[str], layers: int, hidden: int, vocabulary: int, seed: int) -> None:
    """Leaves a small Llama with a tokenizer of these texts where every worker finds it, unless it is there already.
    `vocabulary` 0 makes it as large as so many texts can teach."""
    if not storage.exists(storage.join(folder, "config.json")):
        size = vocabulary or min(2_000, max(600, sum(map(len, texts)) // 50))  # rare tokens are hardly learned
        upload(*make_small_llama(texts, layers, hidden, size, seed), folder)


def make_small_llama(
    texts: Sequence[str], layers: int, hidden: int, vocabulary: int, seed: int
) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """A small Llama with random weights drawn by `seed`, and a byte-level BPE tokenizer learned from `texts`.

    Bytes, not characters: every text decodes to exactly what it was, and nothing is unknown.
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


def _byte_tokenizer(texts: Sequence[str], vocabulary: int) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=vocabulary, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )


def local_folder(uri: str) -> str:
    """A local folder or a model's name as it is; a remote folder is downloaded into a temporary one."""
    if "://" not in uri:
        return uri
    folder = Path(tempfile.mkdtemp(prefix="nunchi-lm-"))
    storage.download(uri, folder)
    return str(folder)
