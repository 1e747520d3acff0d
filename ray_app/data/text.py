"""Words of a review with their offsets in the original text. In: texts. Out: (start, end) spans in code points."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ray_app.errors import UserError

Span = tuple[int, int]
Splitter = Callable[[Sequence[str]], list[list[Span]]]
SPLITTERS = ("space", "kiwi")

_WORD = re.compile(r"\S+")


def words(texts: Sequence[str]) -> list[list[Span]]:
    """Whitespace words (eojeol) of each text."""
    return [[match.span() for match in _WORD.finditer(text)] for text in texts]


def kiwi_words(texts: Sequence[str]) -> list[list[Span]]:
    """Words after Korean spacing by kiwipiepy: `배송빠르고옷도이쁘네요` has four. Offsets are into the text as given.

    Kiwi only decides where a word ends; whitespace of the text always ends one too.
    """
    return [_respaced(text, kiwi_text) for text, kiwi_text in zip(texts, _kiwi().space(list(texts)), strict=True)]


def morphemes(texts: Sequence[str]) -> list[list[str]]:
    """The morphemes of each text by kiwipiepy, as they are written in a dictionary: `늦어요` is `늦`, `어요`."""
    return [[token.form.replace(" ", "") for token in tokens] for tokens in _kiwi().tokenize(list(texts))]


def splitter(name: str) -> Splitter:
    """`space` or `kiwi` -> the function that finds words."""
    return {"space": words, "kiwi": kiwi_words}[name]


def is_blank(text: str) -> bool:
    """True where nothing can be read: only whitespace, control, format or unassigned characters."""
    return all(ch.isspace() or unicodedata.category(ch) in ("Cc", "Cf", "Cn", "Cs", "Co") for ch in text)


def _respaced(text: str, spaced: str) -> list[Span]:
    """Carries the spaces of `spaced` back to offsets of `text`, walking both over their non-space characters."""
    spans: list[Span] = []
    start, j = -1, 0
    for i, character in enumerate(text):
        if character.isspace():
            start = _close(spans, start, i)
            continue
        gap = False
        while j < len(spaced) and spaced[j] != character:
            gap, j = True, j + 1
        if gap:
            start = _close(spans, start, i)
        start, j = (i if start < 0 else start), j + 1
    _close(spans, start, len(text))
    return spans


def _close(spans: list[Span], start: int, end: int) -> int:
    if start >= 0:
        spans.append((start, end))
    return -1


@lru_cache(maxsize=1)
def _kiwi() -> Any:
    """One analyser a process: its model takes seconds to load and about 500 MB."""
    try:
        from kiwipiepy import Kiwi
    except ImportError:
        raise UserError("kiwi needs kiwipiepy: pip install -e '.[kiwi]'") from None
    return Kiwi()
