"""Labels as people type them: `스타일 1, 만족도 2, 신축성 -1`.

In: what was typed, with whatever a keyboard or a spreadsheet makes of digits, signs and separators. Out: keywords and
scores, neither checked against a taxonomy yet.
"""

import math
import re
from typing import TypedDict

from ray_app.data.text import composed
from ray_app.errors import UserError

NOTHING = "-"  # the completion of a review that speaks of no keyword
_TYPED = str.maketrans(  # what keyboards and spreadsheets make of digits, signs and separators
    {
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\uff0d\ufe63", "-"),
        **dict.fromkeys("\uff0c\u3001\uff64;\uff1b", ","),
        "\uff0b": "+",
        "\u3000": " ",
    }
)
_SEPARATOR = re.compile("[,;\uff0c\u3001\uff64\uff1b]")
_PAIR = re.compile(r"^(?P<keyword>.*[^\d\s.+−-])\s*(?P<score>[+-]?\d{1,9})$")
_SCORE = re.compile(r"[+-]?\d{1,9}(\.0+)?")


class KeywordScore(TypedDict):
    """A keyword and its score, as `배송 -1` writes them; neither is checked against a taxonomy yet."""

    keyword: str
    score: int


def parse_completion(text: str) -> list[KeywordScore] | None:
    """`스타일 1, 만족도2, 신축성 -1` -> pairs; NOTHING -> no pairs; an empty text -> None: nobody has labeled it yet.

    Raises UserError at an item that is no keyword and whole number.
    """
    text = composed(text)
    if is_nothing(text):
        return []
    return [parse_pair(item) for item in filter(None, (item.strip() for item in _SEPARATOR.split(text)))] or None


def parse_pair(text: str) -> KeywordScore:
    """`배송 -1` -> its keyword and score. Raises UserError."""
    text = composed(text)
    match = _PAIR.match(text.translate(_TYPED))  # letter for letter, so that places in it are those in the text
    if not match:
        raise UserError(f"{text!r} is not a keyword and a score such as '배송 -1'")
    return {"keyword": text[slice(*match.span("keyword"))].strip(), "score": int(match["score"])}


def is_nothing(cell: object) -> bool:
    """Whether a cell says that the review speaks of nothing, of no keyword or not of this one."""
    return isinstance(cell, str) and cell.translate(_TYPED).strip() == NOTHING


def parse_score(cell: object) -> int | None:
    """The whole number in a cell of a keyword's column; None where it is blank. Raises ValueError at anything else."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, str):
        typed = cell.translate(_TYPED).strip().lstrip("'")  # an apostrophe keeps a number a text in Excel
        if not typed:
            return None
        if _SCORE.fullmatch(typed):
            return int(float(typed))
    elif isinstance(cell, (int, float)) and not isinstance(cell, bool) and float(cell).is_integer():
        return int(cell)
    raise ValueError(f"{cell!r} is no whole number")
