"""Pieces of a tokenizer that never occur, and their rows in the embeddings, left out.

In: a bundle's folder and texts. Out: the same folder with fewer pieces. Special tokens and single characters stay, so
that nothing becomes unknown that was not. A text whose pieces all stay is read as before, to the last bit; in any
other a piece falls into smaller ones.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ray_app.arrays import Ints
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import check

KEPT_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "unk_token_id", "mask_token_id")


def cut_tokenizer(folder: Path, texts: Sequence[str]) -> Ints:
    """Rewrites a tokenizer's folder; returns [pieces] the former id of each piece that stays. Raises UserError where it
    is neither Unigram nor WordPiece."""
    before = Tokenizer.load(folder)
    spec = json.loads(before.hf.backend_tokenizer.to_str())
    kind = spec["model"]["type"]
    check(
        kind in ("Unigram", "WordPiece"),
        f"vocabulary: a {kind} tokenizer builds every piece out of smaller ones, so none can go; Unigram and WordPiece "
        "tokenizers can be cut",
    )
    ids = before(texts).sequences.ids
    kept = _kept(spec, np.unique(ids), before.pad_id, before.hf.all_special_ids)
    new_id = {int(old): new for new, old in enumerate(kept)}
    _renumber(spec, new_id)
    for path in folder.iterdir():
        if path.name not in KEPT_FILES:
            path.unlink()
    (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    _renumber_settings(folder / "tokenizer_config.json", new_id)
    after = Tokenizer.load(folder)(texts).sequences.ids
    check(np.array_equal(kept[after], ids), "vocabulary: the cut tokenizer reads texts otherwise than before")
    return kept


def _kept(spec: dict[str, Any], used: Ints, pad_id: int, special: Iterable[int]) -> Ints:
    """The ids that stay, ascending. What lies before the padding stays: RoBERTa counts positions from its id."""
    vocabulary = spec["model"]["vocab"]
    names = enumerate(piece for piece, _ in vocabulary) if isinstance(vocabulary, list) else _by_id(vocabulary)
    single = [i for i, piece in names if len(piece.removeprefix("##").lstrip("▁")) <= 1]
    added = [token["id"] for token in spec["added_tokens"]]
    around = [i for part in _processors(spec) for entry in _tokens_around(part) for i in entry["ids"]]
    return np.unique(np.array([*used, *single, *added, *around, *special, *range(pad_id + 1)], np.int64))


def _processors(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The post-processor and those that it consists of."""
    processor = spec.get("post_processor") or {}
    return [processor, *processor.get("processors", ())]


def _tokens_around(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a post-processor puts around a text; virtual tokens are nowhere else."""
    return list((part.get("special_tokens") or {}).values())


def _by_id(vocabulary: Mapping[str, int]) -> Iterable[tuple[int, str]]:
    return ((number, piece) for piece, number in vocabulary.items())


def _renumber(spec: dict[str, Any], new_id: Mapping[int, int]) -> None:
    """The tokenizer's own ids, wherever it has them."""
    model = spec["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new_id]
        model["unk_id"] = None if model["unk_id"] is None else new_id[model["unk_id"]]
    else:
        model["vocab"] = {piece: new_id[old] for piece, old in model["vocab"].items() if old in new_id}
    for token in spec["added_tokens"]:
        token["id"] = new_id[token["id"]]
    for part in _processors(spec):
        for entry in _tokens_around(part):
            entry["ids"] = [new_id[i] for i in entry["ids"]]
        for name in ("sep", "cls"):
            if name in part:
                part[name] = [part[name][0], new_id[part[name][1]]]


def _renumber_settings(path: Path, new_id: Mapping[int, int]) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    if decoder := settings.get("added_tokens_decoder"):
        settings["added_tokens_decoder"] = {str(new_id[int(i)]): token for i, token in decoder.items()}
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=1), encoding="utf-8")


def cut_embeddings(encoder: Any, kept: Ints) -> None:
    """The encoder's rows of these pieces alone, in place."""
    old = encoder.get_input_embeddings()
    new_id = {int(before): after for after, before in enumerate(kept)}
    new = nn.Embedding(len(kept), old.weight.shape[1], padding_idx=new_id.get(old.padding_idx))
    new.weight.data.copy_(old.weight.data[torch.from_numpy(kept)])
    encoder.set_input_embeddings(new)
    encoder.config.vocab_size = len(kept)
    for name in IDS:
        if (before := getattr(encoder.config, name, None)) is not None:
            setattr(encoder.config, name, new_id.get(before, before))
