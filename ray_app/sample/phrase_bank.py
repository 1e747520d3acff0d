"""The phrase banks of phrases.yaml. Out: phrases that suit a product, habits of writers, surface forms of a word."""

import random
from enum import IntEnum
from functools import cache
from typing import Literal, TypedDict

import yaml

from ray_app.sample import FOLDER

FILLER = 2  # the sign of a sentence without a feeling, a key of `habits.marks`

HabitName = Literal["intensifiers", "turns", "formal_turns", "additions"]


class Form(IntEnum):
    """The columns of `endings`: four speech levels that end a sentence, four forms that join it to what follows."""

    POLITE = 0
    PLAIN = 1
    NOMINAL = 2
    FORMAL = 3
    AND = 4
    BUT = 5
    WHILE = 6
    SO = 7


class Habits(TypedDict):
    """How writers differ: space-separated variants; `marks` by the sign of a sentence."""

    intensifiers: str
    turns: str
    formal_turns: str
    additions: str
    marks: dict[int, str]
    typos: str


class PhraseBank(TypedDict):
    """The content of phrases.yaml; a block has one phrase per line."""

    habits: Habits
    products: dict[str, str]  # name -> tags
    endings: dict[str, str]  # plain form -> space-separated, one per Form, variants with /
    overall: dict[int, str]  # score -> block
    fillers: dict[str, str]  # position -> block
    keywords: dict[str, dict[int, str]]  # keyword -> score -> block


@cache
def phrase_bank() -> PhraseBank:
    """All of phrases.yaml, read once."""
    bank: PhraseBank = yaml.safe_load((FOLDER / "phrases.yaml").read_text(encoding="utf-8"))
    return bank


def habit(rng: random.Random, name: HabitName) -> str:
    """One of the variants of a habit."""
    return rng.choice(phrase_bank()["habits"][name].split())


def fitting_phrases(block: str, tags: set[str]) -> list[str]:
    """The phrases of a block that suit a product with these tags, without their own tags."""
    lines = [line.rpartition(": ") for line in block.splitlines()]
    return [phrase for own_tags, _, phrase in lines if not own_tags or tags & set(own_tags.split())]


def surface_forms(word: str, form: Form) -> list[str]:
    """The forms of a plain-form word; none where the table has none, or where the word is not inflected."""
    table = phrase_bank()["endings"]
    ending = next((word[start:] for start in range(len(word)) if word[start:] in table), None)
    variants = table[ending].split()[form].split("/") if ending else []
    return [word.removesuffix(ending or "") + variant for variant in variants if variant != "-"]
