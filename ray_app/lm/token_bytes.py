"""What every token of a tokenizer adds to a text, as bytes: so that decoding can be steered by what a token spells.

In: a Hugging Face fast tokenizer: BPE, byte-level or with `▁` for spaces, or Unigram. Out: bytes per token id.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from ray_app.errors import check

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """`self[i]` is what token i adds to a text, empty for special tokens; `len(self)` is the number of ids.

    Raises UserError for WordPiece, whose tokens do not say whether a space stands before them.
    """

    def __init__(self, tokenizer: Any) -> None:
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        check(spec["model"]["type"] != "WordPiece", "its WordPiece tokenizer is not one of a causal language model")
        kinds = _kinds(spec.get("decoder")) | _kinds(spec.get("pre_tokenizer"))
        spell = _byte_level if "ByteLevel" in kinds else _spelled
        own = {token["id"]: token["content"].encode() for token in spec["added_tokens"]}
        silent = set(tokenizer.all_special_ids) | {t["id"] for t in spec["added_tokens"] if t["special"]}
        vocabulary = tokenizer.get_vocab()
        self.bytes: list[bytes] = [b""] * (max(vocabulary.values(), default=-1) + 1)
        for token, i in vocabulary.items():
            self.bytes[i] = b"" if i in silent else own[i] if i in own else spell(token)

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, i: int) -> bytes:
        return self.bytes[i] if i < len(self.bytes) else b""  # models pad their embeddings beyond the vocabulary

    def spelled(self, ids: Sequence[int]) -> bytes:
        """What the tokens add one after the other."""
        return b"".join(self[i] for i in ids)


def _kinds(part: Any) -> set[str]:
    """The types named anywhere in a tokenizer's component."""
    if isinstance(part, dict):
        return {str(part.get("type"))}.union(*map(_kinds, part.values()))
    return set().union(*map(_kinds, part)) if isinstance(part, list) else set()


def _spelled(token: str) -> bytes:
    """SentencePiece: `▁` is a space, `<0xEA>` a byte."""
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


def _byte_level(token: str) -> bytes:
    """GPT-2: every byte has a printable character of its own."""
    known = _BYTE_OF.keys() >= set(token)
    return bytes(_BYTE_OF[character] for character in token) if known else token.encode()


def _byte_characters() -> dict[str, int]:
    """Printable Latin-1 stands for itself; the other bytes, in order, for the characters from 256 on (Radford 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}


_BYTE_OF = _byte_characters()
