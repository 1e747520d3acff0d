"""What a bundle was trained and tuned on, as hashes: an evaluation can leave it out without the texts.

In: texts. Out: `known_texts.safetensors` in the bundle, 8 bytes per text; of other texts, which are among them. Case,
white space, punctuation and Unicode's forms make no other text of one.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from ray_app.arrays import Flags, Ints

FILE = "known_texts.safetensors"


def write(texts: Iterable[str], folder: Path, *begun: Path) -> None:
    """Writes the hashes into a bundle's folder that is not sealed yet, with those of what it began as (a bundle,
    adapters); where one of these does not say what it knows, none."""
    if all((one / FILE).is_file() for one in begun):
        known = [hashes(texts), *(load_file(one / FILE)["hashes"] for one in begun)]
        save_file({"hashes": np.unique(np.concatenate(known))}, folder / FILE)


def known(texts: Sequence[str], folder: Path) -> Flags | None:
    """[texts] whether a bundle was trained or tuned on each; None where the bundle does not say."""
    path = folder / FILE
    return np.isin(hashes(texts), load_file(path)["hashes"]) if path.exists() else None


def hashes(texts: Iterable[str]) -> Ints:
    """[texts] 64 bits of each."""
    digests = [hashlib.sha256(_folded(text).encode("utf-8", "surrogatepass")).digest()[:8] for text in texts]
    return np.frombuffer(b"".join(digests), np.int64)


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in text if character.isalnum()) or text.strip()
