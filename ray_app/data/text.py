"""Words of a review with their offsets in the original text. In: texts. Out: (start, end) spans in code points."""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from ray_app.errors import UserError, pip_install

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

Span = tuple[int, int]
Splitter = Callable[[Sequence[str]], list[list[Span]]]

_WORD = re.compile(r"\S+")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->")
_UNSEEN = ("Cc", "Cf", "Cn", "Cs", "Co")  # control, format, unassigned, half and private characters
_INVISIBLE = frozenset(
    "\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5" + "".join(map(chr, range(0xFE00, 0xFE10)))
)  # fillers that chat programs send as empty messages, the blank of Braille, joiners and selectors of other characters


def composed(text: str) -> str:
    """Text with every syllable as one character (NFC): macOS and some exports take Hangul apart, unseen."""
    return unicodedata.normalize("NFC", text)


def words(texts: Sequence[str]) -> list[list[Span]]:
    """Whitespace words (eojeol) of each text."""
    return [[match.span() for match in _WORD.finditer(text)] for text in texts]


def kiwi_words(texts: Sequence[str]) -> list[list[Span]]:
    """Words of each text after Korean spacing by kiwipiepy: `배송빠르고옷도이쁘네요` has four.

    Kiwi only adds word ends; whitespace in the text always ends a word too. Offsets are into the text as given.
    """
    spaced = _kiwi().space(list(texts))
    return [_spans_of_spaced(text, spaced_text) for text, spaced_text in zip(texts, spaced, strict=True)]


def morphemes(texts: Sequence[str]) -> list[list[str]]:
    """The morphemes of each text by kiwipiepy, in dictionary form: `늦어요` is `늦`, `어요`."""
    return [[token.form.replace(" ", "") for token in tokens] for tokens in _kiwi().tokenize(list(texts))]


SPLITTERS: dict[str, Splitter] = {"space": words, "kiwi": kiwi_words}


def splitter(name: str) -> Splitter:
    """The function of SPLITTERS that finds words."""
    return SPLITTERS[name]


def occurrences(text: str, words: Iterable[str]) -> Iterator[Span]:
    """Every place of every word in a text, also inside other words; an empty word has none."""
    for word in filter(None, words):
        at = text.find(word)
        while at >= 0:
            yield at, at + len(word)
            at = text.find(word, at + 1)


def is_blank(text: str) -> bool:
    """True where nothing is legible: only whitespace, invisible characters, HTML's tags and its names for them."""
    if "<" in text or "&" in text:
        text = html.unescape(_TAG.sub("", text))
    return all(ch.isspace() or ch in _INVISIBLE or unicodedata.category(ch) in _UNSEEN for ch in text)


def _spans_of_spaced(text: str, spaced: str) -> list[Span]:
    """Maps the spaces of `spaced` back to offsets of `text` by walking both over their non-space characters."""
    spans: list[Span] = []
    start, j = -1, 0  # start of the open word, -1 where none is open; position in `spaced`
    for i, character in enumerate(text):
        if character.isspace():
            start = _close_word(spans, start, i)
            continue
        gap = False
        while j < len(spaced) and spaced[j] != character:
            gap, j = True, j + 1
        if gap:
            start = _close_word(spans, start, i)
        start, j = (i if start < 0 else start), j + 1
    _close_word(spans, start, len(text))
    return spans


def _close_word(spans: list[Span], start: int, end: int) -> int:
    """Adds the open word, if any, to `spans`; returns -1, the start of no word."""
    if start >= 0:
        spans.append((start, end))
    return -1


@lru_cache(maxsize=1)
def _kiwi() -> "Kiwi":
    """One analyzer per process: its model takes seconds to load and about 500 MB."""
    try:
        from kiwipiepy import Kiwi
    except ImportError:
        raise UserError(f"kiwi needs kiwipiepy: {pip_install('kiwi')}") from None
    return Kiwi()
