"""The shipped sample: 200 test reviews and the rest for training, written one by one; more of the latter generated.

reviews.jsonl     the written ones, with labels, acceptable highlight words and their split
phrases.yaml      phrase banks of the generator (`generate.py`)
taxonomy.yaml     the default taxonomy
catalog/          a small shop's reviews as Parquet, bad rows included (`catalog.py` writes it)
catalog.yaml      the shop's products and what is said of them (`shop.py`)
interview.jsonl   spoken Korean job-interview questions and answers, written one by one, each with its split
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
CATALOG = FOLDER / "catalog"
TRAINING_ROWS = 6_000


@lru_cache(maxsize=1)
def written() -> tuple[dict[str, Any], ...]:
    """The reviews that people wrote: review_id, text, labels, split."""
    with (FOLDER / "reviews.jsonl").open(encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


def labeled(generated: int | None = None, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Written reviews of every split, then `generated` generated ones for training (by default 6,000 training rows)."""
    from ray_app.sample.generate import generate_reviews

    yield from written()
    count = TRAINING_ROWS - sum(row["split"] == "train" for row in written()) if generated is None else generated
    for row in generate_reviews(count, seed):
        yield {**row, "split": "train"}


def unlabeled(generated: int = 30_000) -> list[str]:
    """Texts to pre-train on: none of them is in the test or validation split."""
    from ray_app.sample.generate import generate_reviews

    texts = [row["text"] for row in written() if row["split"] == "train"]
    return texts + [row["text"] for row in generate_reviews(generated, seed=1)]
