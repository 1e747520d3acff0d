"""Forms of one Korean word under one key: 늦어요 and 늦었어요, 예뻐요 and 예쁘고. In: words. Out: their keys.

A key is the word's letters (jamo) without endings of verbs and adjectives or particles of nouns. It is for counting
only and never shown: a group is shown as its most frequent form, so that a key need not be a dictionary's.
"""

import re
import unicodedata
from functools import lru_cache

# Endings after the stem, the most frequent ones of reviews, and particles.
_ENDINGS = """습니다 ㅂ니다 네요 거든요 더라구요 더라고요 더군요 군요 지만 는데요 은데요 ㄴ데요 는데 은데 ㄴ데 으면 면
    아서 어서 서 아요 어요 여요 에요 예요 이에요 요 아 어 여 고 구 게 지 다 음 ㅁ 은 는 ㄴ 을 ㄹ 죠 지요 니 던"""
_PARTICLES = "은|는|이|가|을|를|도|만|의|에|로|으로|과|와|이나|까지|부터"


def _letters(text: str) -> str:
    """A word in compatibility jamo, without the silent ㅇ before a vowel."""
    pieces = []
    for letter in unicodedata.normalize("NFC", text):
        code = ord(letter) - 0xAC00
        if not 0 <= code < 11_172:
            pieces.append(letter)
            continue
        first, middle, last = code // 588, code % 588 // 28, code % 28
        pieces.append("" if _FIRST[first] == "ㅇ" else _FIRST[first])
        pieces.append(_MIDDLE[middle])
        pieces.append(_LAST[last])
    return "".join(pieces)


_FIRST = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_MIDDLE = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_LAST = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
_SORTED = sorted(set(map(_letters, _ENDINGS.split())), key=len, reverse=True)
_VERB = re.compile(f"(?:{'|'.join(_SORTED)})$")
_NOUN = re.compile(f"(?:{_PARTICLES})$")
_TENSE = re.compile(f"{_letters('겠')}$|ㅆ$")
_HAE = re.compile("ㅎㅐ(?=ㅆ|ㅅㅓ|ㅛ|$)")  # 불편해요, 불편했어요 and 불편하고
_VOWEL = re.compile("[ㅏㅓㅡ]$")  # 예뻐요 and 예쁘다, 커요 and 크다: what is left of the stem's vowel differs


@lru_cache(100_000)
def key(word: str) -> str:
    """The key of a word; words of fewer than two Korean syllables are their own."""
    if sum("가" <= letter <= "힣" for letter in word) < 2:
        return word.casefold()
    bare = _NOUN.sub("", word)
    stem = _HAE.sub("ㅎㅏ", _letters(word))
    if bare != word and len(bare) >= 2 and not _VERB.search(_letters(bare)):
        stem = _letters(bare)
    else:
        for _ in range(2):  # an ending, and one before it: 늦었|네|요
            stem = _shortened(stem)
    stem = _VOWEL.sub("", _TENSE.sub("", stem))
    return re.sub("(?<=[ㅓㅏㅜㅗㅣㅡ])[ㅝㅘ]$", "ㅂ", stem).replace("ㄹㄹ", "ㄹ") or word


def _shortened(stem: str) -> str:
    """Without its longest ending that leaves a stem."""
    for ending in _SORTED:
        if stem.endswith(ending) and len(stem) >= len(ending) + (2 if len(ending) > 1 else 3 - (ending == "ㅛ")):
            return stem[: -len(ending)]
    return stem
