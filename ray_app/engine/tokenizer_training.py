"""Tokenizers of our own: trained on texts (`scratch`), or a teacher's Unigram reduced to the pieces a corpus uses.

In: texts. Out: Hugging Face fast tokenizers with <s>, <pad>, </s>, <unk>, <mask>.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer

from ray_app.arrays import Ints
from ray_app.errors import check

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIALS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
PROMPT_PIECES = ("▁###입력:", "▁###키워드:", "▁###명령어:", "▁###출력:")  # each costs one token, not six


def train_tokenizer(texts: Iterable[str], size: int) -> "PreTrainedTokenizerFast":
    """A Unigram tokenizer of at most `size` pieces. Source of the algorithm: Kudo 2018, arXiv:1804.10959."""
    raw = Tokenizer(Unigram())
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    specials = list(SPECIALS.values())
    raw.train_from_iterator(
        texts, UnigramTrainer(vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False)
    )
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return _wrapped(_ordered(raw))


def shrink_tokenizer(
    teacher: "PreTrainedTokenizerFast", texts: Sequence[str], size: int
) -> "tuple[PreTrainedTokenizerFast, Ints]":
    """A teacher's Unigram tokenizer with its `size` most used pieces; [pieces] the id of each one in the teacher.

    All single characters in use stay, so that nothing becomes <unk> that was not. PROMPT_PIECES are added, with id -1:
    the teacher has none of them. Raises UserError where the teacher's is no Unigram.
    """
    spec = json.loads(teacher.backend_tokenizer.to_str())
    check(spec["model"]["type"] == "Unigram", "the teacher's tokenizer must be a Unigram model")
    vocabulary: list[tuple[str, float]] = [(piece, score) for piece, score in spec["model"]["vocab"]]
    used = Counter(
        i for e in teacher.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False) for i in e.ids
    )
    characters = {c for text in texts for c in text} | {chr(c) for c in range(0xAC00, 0xD7A4)}
    special = {token["id"] for token in spec["added_tokens"]}
    must = {i for i, (piece, _) in enumerate(vocabulary) if i in special or piece.lstrip("▁") in characters | {""}}
    common = [i for i, _ in used.most_common() if i not in must][: max(0, size - len(must) - len(PROMPT_PIECES))]
    kept = sorted({*must, *common})
    new_id = {old: new for new, old in enumerate(kept)}
    best = max(score for i, (_, score) in enumerate(vocabulary) if i not in special)
    spec["model"]["vocab"] = [vocabulary[i] for i in kept] + [(piece, best) for piece in PROMPT_PIECES]
    spec["model"]["unk_id"] = new_id[spec["model"]["unk_id"]]
    for token in spec["added_tokens"]:
        token["id"] = new_id[token["id"]]
    for entry in spec["post_processor"]["special_tokens"].values():
        entry["ids"] = [new_id[i] for i in entry["ids"]]
    teacher_ids = np.array(kept + [-1] * len(PROMPT_PIECES), np.int64)
    return _wrapped(Tokenizer.from_str(json.dumps(spec))), teacher_ids


def _ordered(raw: Tokenizer) -> Tokenizer:
    """The same ids every time. Training leaves three things to chance: the order of pieces of equal score, the last
    digits of scores, and the order of characters that are too rare to be pieces."""
    spec = json.loads(raw.to_str())
    pieces = spec["model"]["vocab"]
    floor = min((score for piece, score in pieces[len(SPECIALS) :] if len(piece) > 1), default=0.0)
    learned = [(piece, round(max(score, floor), 6)) for piece, score in pieces[len(SPECIALS) :]]
    spec["model"]["vocab"] = pieces[: len(SPECIALS)] + sorted(learned, key=lambda entry: (-entry[1], entry[0]))
    return Tokenizer.from_str(json.dumps(spec))


def _wrapped(raw: Tokenizer) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=raw, cls_token="<s>", sep_token="</s>", model_max_length=512, **SPECIALS
    )
