"""The shipped sample: reviews written one by one with their labels, and a generator of more.

reviews.jsonl     reviews with labels, the words that name each keyword and that say the feeling, and their split
test_mixed.jsonl  test reviews whose keywords feel differently, in the same form
phrases.yaml      phrase banks of the generator (`generate.py`)
taxonomy.yaml     the default taxonomy
catalog/          reviews of a small shop as Parquet, bad rows included (written by `catalog.py`)
analyses/         the same analyzed by the shipped bundle, which the page shows until there are others (`example.py`)
catalog.yaml      the shop's products and what customers say about them (`shop.py`)
interview.jsonl   hand-written questions and answers of spoken Korean job interviews, each with its split
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import NotRequired, TypedDict

FOLDER = Path(__file__).parent
CATALOG = FOLDER / "catalog"
ANALYSES = FOLDER / "analyses"


class SampleLabel(TypedDict):
    """A keyword, its score, and the words that a person accepts: those that name the keyword, and those that say the
    feeling. The overall keyword has none, a generated review no words for the feeling."""

    keyword: str
    score: int
    highlights: NotRequired[list[str]]
    opinions: NotRequired[list[str]]


class GeneratedReview(TypedDict):
    """A labeled review as the generator makes it."""

    review_id: str
    text: str
    labels: list[SampleLabel]


class SampleReview(GeneratedReview):
    """A labeled review whose split is train, validation or test."""

    split: str


@lru_cache(maxsize=1)
def written_reviews() -> tuple[SampleReview, ...]:
    """The reviews of every split that were written one by one."""
    return _read("reviews.jsonl")


@lru_cache(maxsize=1)
def mixed_test_reviews() -> tuple[SampleReview, ...]:
    """Test reviews in which keywords have opposite signs: 200 more than those of `written_reviews`."""
    return _read("test_mixed.jsonl")


def _read(name: str) -> tuple[SampleReview, ...]:
    with (FOLDER / name).open(encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


def unlabeled_texts(generated: int = 30_000) -> list[str]:
    """Texts to pretrain on; none is in the test or validation split."""
    from ray_app.sample.generate import generate_reviews

    texts = [row["text"] for row in written_reviews() if row["split"] == "train"]
    return texts + [row["text"] for row in generate_reviews(generated, seed=1)]
