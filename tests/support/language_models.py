"""Tokenizers of the kinds that causal language models have, and tiny GPTs with random weights for them."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ray_app.data.taxonomy import load
from ray_app.engine.tokenizer_training import train_tokenizer
from ray_app.labels.reader import read_labels
from ray_app.lm import causal_lm
from ray_app.lm.templates import load as load_template

KINDS = ("unigram", "byte-level", "fallback", "straddling")


@cache
def lm_texts(count: int = 300) -> list[str]:
    """Prompts with completions of the review task."""
    template = load_template("review")
    rows = read_labels("sample").table.slice(0, count).to_pylist()
    return [template.prompt(row) + template.completion(row) for row in rows]


@cache
def lm_tokenizer(kind: str) -> Any:
    """A tokenizer of one of the KINDS.

    unigram: spaces are `▁`, a rare character is <unk>. byte-level: as GPT-2. fallback: as Llama, `<0xEA>` for what
    is no piece. straddling: byte-level without word boundaries, so that a token may end one label and begin the next.
    """
    if kind == "unigram":
        texts = [*lm_texts(), *(f"{name}{score}" for name in load().names for score in load().scores)]
        return train_tokenizer(texts, 1_500)
    raw = Tokenizer(BPE(byte_fallback=kind == "fallback", unk_token="<unk>" if kind == "fallback" else None))
    specials = ["<s>", "</s>", "<pad>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind == "fallback":
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        raw.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        specials += [f"<0x{byte:02X}>" for byte in range(256)]
        alphabet = []
    else:
        split = kind == "byte-level"
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)
        raw.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=900, special_tokens=specials, initial_alphabet=alphabet, show_progress=False, limit_alphabet=300
    )
    raw.train_from_iterator(
        lm_texts() if kind != "straddling" else [t.partition("###출력:")[2] for t in lm_texts()], trainer
    )
    if kind == "fallback":
        spec = json.loads(raw.to_str())
        spec["added_tokens"] = spec["added_tokens"][:4]  # bytes are plain tokens
        raw = Tokenizer.from_str(json.dumps(spec))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


@cache
def tiny_lm(kind: str = "unigram", family: str = "gpt2", seed: int = 0, positions: int = 256) -> Any:
    """One or two layers of width 32, with weights large enough that the next token depends on the ones before."""
    tokenizer = lm_tokenizer(kind)
    torch.manual_seed(seed)
    common = {
        "vocab_size": len(tokenizer),
        "initializer_range": 0.4,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=positions, **common)).eval()
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=positions, **common)).eval()


def make_lm(folder: Path, task: str = "review", loss_on: str = "answer", max_length: int = 192, seed: int = 0) -> str:
    """A model folder as `jobs.train_lm` writes it, with random weights."""
    template = load_template(task)
    known = load() if template.reads == "labels" else None
    meta = causal_lm.TaskMeta(
        template=template, taxonomy=known, max_length=max_length, loss_on=loss_on, support={"배송": 7} if known else {}
    )
    causal_lm.save(tiny_lm("byte-level", "llama", seed), lm_tokenizer("byte-level"), folder, meta)
    return str(folder)


def figures(report: Any, leave: Sequence[str] = ("generation", "cost", "config")) -> dict[str, Any]:
    """A report's leaves by their path, without what depends on the clock."""
    if not isinstance(report, dict | list):
        return {"": report}
    items = report.items() if isinstance(report, dict) else enumerate(report)
    parts = ((name, figures(value, ())) for name, value in items if name not in leave)
    return {f"{name}.{path}": value for name, part in parts for path, value in part.items()}
