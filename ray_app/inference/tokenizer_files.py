"""A bundle's tokenizer may be slow or grow texts without end: it is looked at before it reads a review.

In: the folder of a tokenizer, or the loaded one. Raises UserError where its settings make texts longer, or where plain
texts take it long.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app.errors import UserError, check, first_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GROWTH = 16.0  # characters that a normalizer may make of one: a syllable becomes three letters, a ligature more
SECONDS = 2.0  # for a text of PROBES; a sound tokenizer takes a hundredth of that
REPEATED = ("a", " ", "가", "1", "!", "ab ", "\n")
PROBES = (*(text * 2_000 for text in REPEATED), "a" * 40 + "b", "가 " * 40 + "!")


def check_growth(folder: Path, place: str) -> None:
    """Raises UserError where the normalizer makes texts too long; the tokenizer is not built for it."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    try:
        grows = _growth(json.loads(path.read_text(encoding="utf-8")).get("normalizer"))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{place} cannot be used ({first_line(error)})") from None
    check(grows <= GROWTH, f"{place}: its normalizer makes a text up to {grows:g} times as long; at most {GROWTH:g}")


def check_speed(tokenizer: "Tokenizer", place: str) -> None:
    """Raises UserError where a plain text takes too long."""
    for text in PROBES:
        began = time.thread_time()
        tokenizer.encode(text, add_special_tokens=False)
        seconds = time.thread_time() - began
        check(seconds < SECONDS, f"{place}: {seconds:.1f} s for a text of {len(text):,} characters; is it sound?")


def _growth(normalizer: object) -> float:
    """How much longer a text may get, at most, by what replaces parts of it."""
    if not isinstance(normalizer, dict):
        return 1.0
    grows = 1.0
    for each in normalizer.get("normalizers") or ():
        grows *= _growth(each)
    if normalizer.get("type") == "Replace":
        pattern = normalizer.get("pattern")
        found = pattern.get("String") if isinstance(pattern, dict) else None
        grows *= max(1.0, len(str(normalizer.get("content", ""))) / max(1, len(str(found or ""))))
    return grows
