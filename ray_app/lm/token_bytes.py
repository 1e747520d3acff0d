"""The bytes that each token of a tokenizer adds to a text, so that decoding can be steered by what a token spells.

In: a Hugging Face fast tokenizer: BPE (byte-level, or with `▁` for spaces) or Unigram. Out: bytes per token id.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_app.errors import check

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """`self[i]` is what token i adds to a text, empty for special tokens; `len(self)` is the number of ids.

    Raises UserError for WordPiece, whose tokens do not tell whether a space precedes them.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        check(spec["model"]["type"] != "WordPiece", "its WordPiece tokenizer is not one of a causal language model")
        types = _component_types(spec.get("decoder")) | _component_types(spec.get("pre_tokenizer"))
        spell = _byte_level if "ByteLevel" in types else _sentencepiece
        added = {token["id"]: token["content"].encode() for token in spec["added_tokens"]}
        special = set(tokenizer.all_special_ids) | {t["id"] for t in spec["added_tokens"] if t["special"]}
        vocabulary = tokenizer.get_vocab()
        self.bytes: list[bytes] = [b""] * (max(vocabulary.values(), default=-1) + 1)
        for token, i in vocabulary.items():
            self.bytes[i] = b"" if i in special else added[i] if i in added else spell(token)

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, i: int) -> bytes:
        return self.bytes[i] if i < len(self.bytes) else b""  # models pad their embeddings beyond the vocabulary

    def spelled(self, ids: Sequence[int]) -> bytes:
        """The bytes that a sequence of tokens adds."""
        return b"".join(self[i] for i in ids)


def _component_types(spec: object) -> set[str]:
    """The types named anywhere in the JSON of a tokenizer's component."""
    if isinstance(spec, dict):
        return {str(spec.get("type"))}.union(*map(_component_types, spec.values()))
    return set().union(*map(_component_types, spec)) if isinstance(spec, list) else set()


def _sentencepiece(token: str) -> bytes:
    """SentencePiece: `▁` is a space, `<0xEA>` a byte."""
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


def _byte_level(token: str) -> bytes:
    """GPT-2: every byte has a printable character of its own."""
    mapped = _BYTE_OF.keys() >= set(token)
    return bytes(_BYTE_OF[character] for character in token) if mapped else token.encode()


def _byte_characters() -> dict[str, int]:
    """Printable Latin-1 maps to itself; the other bytes, in order, to the characters from 256 up (Radford 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}


_BYTE_OF = _byte_characters()
