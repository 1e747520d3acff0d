"""Texts as people hand them over: a list, a pandas Series with gaps, None for a missing one.

In: what a caller gave. Out: per text why it cannot be analyzed, the same in the catalog, the endpoint and in Python.
"""

import math
from collections.abc import Iterable, Mapping, Set

import pyarrow as pa

from ray_app.data.schema import MAX_CHARACTERS
from ray_app.data.text import is_blank
from ray_app.errors import UserError


def listed(texts: object, what: str = "texts") -> list[object]:
    """What was given as a list, gaps (None, NaN, pandas' NA) as None. Raises UserError where it is one text, or none at
    all: a text would be taken letter by letter."""
    orderless = isinstance(texts, Mapping | Set)  # nobody could tell which answer is whose
    if isinstance(texts, str | bytes) or orderless or not isinstance(texts, Iterable):
        raise UserError(f"{what}: write a list, also for one text; this is {_kind(texts)}")
    values: Iterable[object] = texts.to_pylist() if isinstance(texts, pa.Array | pa.ChunkedArray) else texts
    return [None if is_gap(text) else text for text in values]


def is_gap(value: object) -> bool:
    """Whether a value stands for none: None, NaN, pandas' NA and NaT."""
    missing = value is None or type(value).__name__ in ("NAType", "NaTType")
    return missing or (isinstance(value, float) and math.isnan(value))


def reason(text: object) -> str | None:
    """Why a text cannot be analyzed, None where it can."""
    if is_gap(text):
        return "null text"
    if isinstance(text, bytes):
        return "text is not valid UTF-8"
    if not isinstance(text, str):
        return f"text is {type(text).__name__}, not a string"
    if len(text) > MAX_CHARACTERS:
        return f"text has {len(text)} characters, over the limit of {MAX_CHARACTERS}"
    if is_blank(text):
        return "empty text"
    return "text has half a character (a lone surrogate)" if _halves(text) else None


def sorted_out(texts: object) -> tuple[list[str], list[str | None]]:
    """The texts that can be analyzed, and per given one why it cannot."""
    given = listed(texts)
    reasons = [reason(text) for text in given]
    return [str(text) for text, why in zip(given, reasons, strict=True) if why is None], reasons


def _halves(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _kind(value: object) -> str:
    return {"str": "a text", "bytes": "bytes", "NoneType": "None"}.get(type(value).__name__, type(value).__name__)
