"""The shipped sample: hand-written reviews (200 of them for testing), and more training reviews from a generator.

reviews.jsonl     hand-written reviews with labels, acceptable highlight words and their split
phrases.yaml      phrase banks of the generator (`generate.py`)
taxonomy.yaml     the default taxonomy
catalog/          reviews of a small shop as Parquet, bad rows included (written by `catalog.py`)
catalog.yaml      the shop's products and what customers say about them (`shop.py`)
interview.jsonl   hand-written questions and answers of spoken Korean job interviews, each with its split
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NotRequired, TypedDict

FOLDER = Path(__file__).parent
CATALOG = FOLDER / "catalog"
TRAINING_ROWS = 6_000


class SampleLabel(TypedDict):
    """A keyword, its score, and its acceptable highlight words; the overall keyword has none."""

    keyword: str
    score: int
    highlights: NotRequired[list[str]]


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
    """The hand-written reviews of every split."""
    with (FOLDER / "reviews.jsonl").open(encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


def labeled_reviews(generated: int | None = None, seed: int = 0) -> Iterator[SampleReview]:
    """The hand-written reviews, then `generated` ones for training (default: up to TRAINING_ROWS in all)."""
    from ray_app.sample.generate import generate_reviews

    yield from written_reviews()
    written_for_training = sum(row["split"] == "train" for row in written_reviews())
    for row in generate_reviews(TRAINING_ROWS - written_for_training if generated is None else generated, seed):
        yield {**row, "split": "train"}


def unlabeled_texts(generated: int = 30_000) -> list[str]:
    """Texts to pretrain on; none is in the test or validation split."""
    from ray_app.sample.generate import generate_reviews

    texts = [row["text"] for row in written_reviews() if row["split"] == "train"]
    return texts + [row["text"] for row in generate_reviews(generated, seed=1)]
