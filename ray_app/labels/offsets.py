"""Where the words of a span stand, however the tool that saved it counts: code points, UTF-16 units or graphemes.

In: a text, offsets and, where the tool saved them, the words. Out: spans in code points. Browsers count an emoji as two
UTF-16 units, and some tools a family of four as one grapheme: behind such a character their offsets are others.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator

from ray_app.data.text import Span

JOINER, TONES, FLAGS = "\u200d", range(0x1F3FB, 0x1F400), range(0x1F1E6, 0x1F200)
VOWELS = range(0x1160, 0x1200)  # jamo that go on with a syllable: vowels and final consonants
Places = dict[int, int]  # an offset as a tool counts it -> code points


def code_points(text: str) -> Places:
    """Every offset as it is."""
    return {at: at for at in range(len(text) + 1)}


def utf16(text: str) -> Places:
    """Offsets in UTF-16 units; there is none within a character of two."""
    places: Places = {}
    unit = 0
    for at, character in enumerate(text):
        places[unit] = at
        unit += 1 + (ord(character) > 0xFFFF)
    return places | {unit: len(text)}


def graphemes(text: str) -> Places:
    """Offsets in what a reader takes for one character: marks, joined emoji, skin tones, flags and jamo are one.

    A short form of https://unicode.org/reports/tr29/ for what reviews hold.
    """
    starts: list[int] = []
    for at in range(len(text)):
        if not at or not _goes_on(text, at, starts[-1]):
            starts.append(at)
    return dict(enumerate([*starts, len(text)]))


WAYS: tuple[Callable[[str], Places], ...] = (code_points, utf16, graphemes)


def readings(text: str, start: int, end: int) -> Iterator[Span]:
    """The span in code points by every way of counting by which it lies in the text."""
    for way in WAYS:
        places = way(text)
        if start in places and end in places and start < end:
            yield places[start], places[end]


def way_of(text: str, words: Iterable[tuple[object, object, object]]) -> Places | None:
    """The first way of counting by which every (start, end, word) stands in the text; None where none is."""
    words = list(words)
    for way in WAYS:
        places = way(text)
        found = (_at(text, places, start, end) == word for start, end, word in words)
        if all(found):
            return places
    return None


def inside(text: str, spans: Iterable[tuple[object, object]]) -> Places:
    """Code points, unless only another way of counting has all spans in the text, and none that begins or ends within
    what a reader takes for one character: then that. Where no way has, code points. Beside white space a span may end
    anyhow: a word may begin with a mark."""
    ends = [one for span in spans for one in span]
    spaced = {at for at in range(1, len(text)) if text[at - 1].isspace() or text[at].isspace()}
    whole = {*graphemes(text).values(), *spaced}
    for way in WAYS:
        places = way(text)
        if all(isinstance(one, int) and places.get(one) in whole for one in ends):
            return places
    return code_points(text)


def same(marked: str, saved: str) -> bool:
    """Equal except for white space: editors save a line break as the two characters \\n and fold spaces."""
    return "".join(marked.split()) == "".join(saved.replace("\\n", " ").split())


def _at(text: str, places: Places, start: object, end: object) -> str | None:
    if not isinstance(start, int) or not isinstance(end, int) or start not in places or end not in places:
        return None
    return text[places[start] : places[end]]


def _goes_on(text: str, at: int, start: int) -> bool:
    """Whether the character at `at` belongs to the grapheme that begins at `start`."""
    code, before = ord(text[at]), text[at - 1]
    if unicodedata.category(text[at]) in ("Mn", "Me", "Mc") or text[at] == JOINER or code in TONES:
        return True
    if before == JOINER or text[at - 1 : at + 1] == "\r\n" or (code in VOWELS and 0x1100 <= ord(before) < 0x1200):
        return True
    return code in FLAGS and ord(before) in FLAGS and (at - start) % 2 == 1
