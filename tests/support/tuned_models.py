"""Small models to tune: an encoder per family, a few sequences with classes, and what every kind trains of it."""

import re
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel

from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
from ray_app.training.classifier_task import ClassifierTask, Data, Objective
from ray_app.training.tuning.kinds import FAST, VIRTUAL
from ray_app.training.tuning.tune import Way, tune
from ray_app.training.tuning.virtual_tokens import with_virtual_tokens
from tests.support.bundles import hf_tokenizer
from tests.support.families import COMMON, OWN

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "roberta": ("roberta", {}),
    "xlm-roberta": ("xlm-roberta", {}),
    "electra": ("electra", {"embedding_size": 32}),
    "electra with a projection": ("electra", {}),
}
WORDS = ("배송", "빠르다")
MATRICES = r"encoder\.layer\.\d\.(attention\.self\.(query|key|value)|(attention\.output|intermediate|output)\.dense)"
ADDED = {
    "head": "",
    "embeddings": r"embeddings\.word_embeddings\.weight",
    "embeddings-head": r"embeddings\.word_embeddings\.weight",
    "lora": rf"base_model\.model\.({MATRICES}|embeddings_project)\.lora_[AB]\.default\.weight",
    "dora": rf"base_model\.model\.({MATRICES}|embeddings_project)\.lora_([AB]|magnitude_vector)\.default\.weight",
    "ia3": r"base_model\.model\.encoder\.layer\.\d\.(attention\.self\.(key|value)|output\.dense)\.ia3_l\.default",
    "prefix": r"prefix\.(keys|values)",
    "prompt": r"embeddings\.word_embeddings\.rows",
    "p-tuning": r"embeddings\.word_embeddings\.(rows|network\.[02]\.(weight|bias))",
}
COUNTS = {"head": 0, "embeddings": 1, "embeddings-head": 1, "prefix": 2, "prompt": 1, "p-tuning": 5} | {
    "lora": 2 * 12,
    "dora": 3 * 12,
    "ia3": 6,
}
PROJECTED = {"lora": 2, "dora": 3}  # more of them, where an embedding is projected


def raw_tokenizer(family: str) -> Any:
    return hf_tokenizer("roberta" if "roberta" in family else "bert")


@cache
def state_of(family: str) -> dict[str, Any]:
    return dict(new_encoder(family, 0).state_dict())


def new_encoder(family: str, seed: int | None = None) -> Any:
    """Two layers of width 32 with weights by a seed; the same each time."""
    name, own = FAMILIES[family]
    hf = raw_tokenizer(family)
    ids = {f"{role}_token_id": getattr(hf, f"{role}_token_id") for role in ("pad", "bos", "eos")}
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    settings = {**COMMON, **OWN.get(name, {}), **own, **rates, "vocab_size": len(hf), **ids}
    torch.manual_seed(seed or 0)
    options = {} if name == "electra" else {"add_pooling_layer": False}
    encoder = AutoModel.from_config(AutoConfig.for_model(name, **settings), **options)
    if seed is None:
        encoder.load_state_dict(state_of(family))
    return encoder


def way(kind: str) -> Way:
    return Way(kind=kind, rank=2, virtual_tokens=3)


def tokenizers(kind: str, family: str) -> tuple[Tokenizer, Any]:
    """The base model's, and the one that a model tuned so has."""
    hf = raw_tokenizer(family)
    return Tokenizer(hf), with_virtual_tokens(hf, len(hf), 3, "here") if kind in VIRTUAL else hf


def tuned_model(kind: str, family: str, pooling: str = "mean") -> EncoderClassifier:
    """A model ready to be tuned; adapters start as they do from one seed."""
    torch.manual_seed(1)
    model = EncoderClassifier(new_encoder(family), 3, 0.0, pooling)
    tune(model, way(kind), tokenizers(kind, family)[0], WORDS)
    return model


def texts_of(tokenizer: Tokenizer, rows: int = 10) -> Sequences:
    rng = np.random.default_rng(0)
    made = [rng.integers(10, 60, rng.integers(1, 9)).tolist() for _ in range(rows)]
    return tokenizer.with_special_tokens(Sequences.of(made), 64)


def small_task(kind: str, family: str, rows: int = 10) -> ClassifierTask:
    """Rows whose class is drawn by a seed; `validate` tells the sum of its logits."""
    tokenizer = Tokenizer(tokenizers(kind, family)[1])
    data = Data(texts_of(tokenizer, rows), np.random.default_rng(1).integers(0, 3, rows))
    return ClassifierTask(
        train=data,
        validation=data,
        objective=Objective("scores", "classes"),
        outputs=3,
        metrics=lambda logits: {"select": float(np.abs(logits).sum())},
        pad_id=tokenizer.pad_id,
        encoder_rate=FAST.get(kind, 1.0),
    )


def trains(model: EncoderClassifier) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def expected_to_train(model: EncoderClassifier, kind: str) -> set[str]:
    """By the names of the kind alone."""
    pattern = re.compile(rf"encoder\.({ADDED[kind]})") if ADDED[kind] else None
    found = {name for name, _ in model.named_parameters() if pattern and pattern.fullmatch(name)}
    return found | (set() if kind == "embeddings" else {"head.weight", "head.bias"})
