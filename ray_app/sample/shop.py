"""An invented shop for catalog.py: what it sells, and a supply of reviews that suit its products and seasons.

In: catalog.yaml, the generator, the written training reviews. Out: products, and reviews that are each given out once.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, count
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from ray_app.sample import FOLDER, written
from ray_app.sample.generate import bank, generate_reviews

FIRST_SEED = 2_025  # of the generated reviews, one seed each
FACTS = {"배송", "사이즈", "길이", "두께", "색상", "가격", "핏", "신축성", "마감처리"}


@dataclass(frozen=True, kw_only=True)
class Product:
    """`kind` is what the generator calls it, `weight` how popular it is."""

    product_id: str
    product: str
    kind: str
    category: str
    weight: int

    def subject(self, mall: str, month: int) -> str:
        return f"{self.category} {self.kind} {self.product} {mall} {month}월"


@dataclass(frozen=True)
class Review:
    """A text, its score for each keyword it speaks of, and the one product it is about ("": any of its kind)."""

    text: str
    scores: dict[str, int]
    product: str = ""

    def agrees(self, other: "Review") -> bool:
        """Whether it may go on where the other ends: no fact twice, and the same feeling about all else."""
        shared = self.scores.keys() & other.scores.keys()
        same = all(self.scores[key] * other.scores[key] > 0 or self.scores[key] == other.scores[key] for key in shared)
        return same and len(self.scores) > 1 and not shared & FACTS and not self.product


@cache
def shop() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "catalog.yaml").read_text(encoding="utf-8"))
    return loaded


@cache
def products() -> list[Product]:
    kinds = [(category, *item) for category, kinds in shop()["products"].items() for item in kinds.items()]
    named = [(name, kind, category, weight) for category, kind, names in kinds for name, weight in names.items()]
    return [
        Product(product_id=f"P{number}", product=name, kind=kind, category=category, weight=weight)
        for number, (name, kind, category, weight) in enumerate(named, 101)
    ]


@cache
def has(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


@cache
def entries(table: str, text: str) -> list[list[Any]]:
    """The entries of a table of catalog.yaml whose first pattern is found in the text, without that pattern."""
    return [rest for what, *rest in shop()[table] if re.search(what, text)]


@cache
def _kind(seed: int) -> str:
    """What the generator's review of this seed is about: the product is the first thing that it draws."""
    return str(random.Random(seed).choice(list(bank()["products"])))


def _review(row: dict[str, Any], product: str = "") -> Review:
    return Review(row["text"], {label["keyword"]: label["score"] for label in row["labels"]}, product)


class Shelf:
    """The unused reviews of each kind of product: the written ones first, generated ones as they are asked for."""

    def __init__(self, rng: random.Random) -> None:
        self.unused: dict[str, list[Review]] = {product.kind: [] for product in products()}
        self.seeds = {kind: count(FIRST_SEED) for kind in self.unused}
        self.known = {row["text"] for row in written()}
        by_name = {product.product: product for product in products()}
        found = {row["review_id"]: row for row in written() if row["split"] == "train"}
        for name, ids in shop()["written"].items():
            for review_id in ids.split():
                product = by_name.get(name) or rng.choice(products())
                self.unused[product.kind].append(_review(found[review_id], product.product))

    def take(self, product: Product, subject: str, wanted: Callable[[Review], bool]) -> Review:
        """The first review that is wanted and could have been written of this product in this month."""
        made = chain(self.unused[product.kind], self._made(product.kind))
        chosen = next(review for review in made if wanted(review) and fits(review, product, subject))
        self.unused[product.kind].remove(chosen)
        return chosen

    def _made(self, kind: str) -> Iterator[Review]:
        for seed in filter(lambda seed: _kind(seed) == kind, self.seeds[kind]):
            review = _review(generate_reviews(1, seed)[0])
            if review.text not in self.known:
                self.known.add(review.text)
                self.unused[kind].append(review)
                yield review


def fits(review: Review, product: Product, subject: str) -> bool:
    """Whether the text could have been written of the product in its month, as far as the rules know."""
    bare = re.sub(r"\s", "", review.text)
    demands = entries("timely", bare) + ([] if review.product else entries("rules", bare))
    return review.product in ("", product.product) and all(has(demand, subject) for (demand,) in demands)
