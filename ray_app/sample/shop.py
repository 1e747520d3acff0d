"""An invented shop for catalog.py: what it sells, and reviews that suit its products and seasons.

In: catalog.yaml, the generator, the hand-written training reviews. Out: products, and reviews, each given out once.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, count
from typing import Literal, TypedDict

import yaml

from ray_app.sample import FOLDER, GeneratedReview, written_reviews
from ray_app.sample.generate import generate_reviews
from ray_app.sample.phrase_bank import phrase_bank

FIRST_SEED = 2_025  # of the generated reviews, one seed each
FACTS = {"배송", "사이즈", "길이", "두께", "색상", "가격", "핏", "신축성", "마감처리"}


class ShopFile(TypedDict):
    """The content of catalog.yaml. A rule is (pattern, what must then be found in the subject)."""

    malls: dict[str, int]  # name -> weight
    months: list[int]  # weights
    products: dict[str, dict[str, dict[str, int]]]  # category -> kind -> name -> weight
    seasons: list[tuple[str, str]]
    tendencies: list[tuple[str, str, int, float]]  # subject, keyword, sign, share of reviews
    written: dict[str, str]  # product name -> ids of hand-written reviews
    rules: list[tuple[str, str]]
    timely: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Product:
    """`kind` is what the generator calls it, `weight` how popular it is."""

    product_id: str
    product: str
    kind: str
    category: str
    weight: int

    def subject(self, mall: str, month: int) -> str:
        """What the patterns of catalog.yaml are matched with."""
        return f"{self.category} {self.kind} {self.product} {mall} {month}월"


@dataclass(frozen=True)
class ShopReview:
    """A text, its score per keyword, and the one product it is about ("": any of its kind)."""

    text: str
    scores: dict[str, int]
    product: str = ""

    def can_follow(self, other: "ShopReview") -> bool:
        """Whether it can continue the other: no fact stated twice, and the same feeling about all else."""
        shared = self.scores.keys() & other.scores.keys()
        same = all(self.scores[key] * other.scores[key] > 0 or self.scores[key] == other.scores[key] for key in shared)
        return same and len(self.scores) > 1 and not shared & FACTS and not self.product


@cache
def shop_file() -> ShopFile:
    """All of catalog.yaml, read once; its tuples are lists."""
    content: ShopFile = yaml.safe_load((FOLDER / "catalog.yaml").read_text(encoding="utf-8"))
    return content


@cache
def products() -> list[Product]:
    """What the shop sells, in the order of catalog.yaml."""
    kinds = [(category, *item) for category, kinds in shop_file()["products"].items() for item in kinds.items()]
    named = [(name, kind, category, weight) for category, kind, names in kinds for name, weight in names.items()]
    return [
        Product(product_id=f"P{number}", product=name, kind=kind, category=category, weight=weight)
        for number, (name, kind, category, weight) in enumerate(named, 101)
    ]


@cache
def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text."""
    return re.search(pattern, text) is not None


@cache
def requirements(table: Literal["seasons", "rules", "timely"], text: str) -> list[str]:
    """What the rules of a table whose pattern is found in the text ask of the subject."""
    return [required for pattern, required in shop_file()[table] if re.search(pattern, text)]


@cache
def tendencies(subject: str) -> list[tuple[str, int, float]]:
    """(keyword, sign, share of reviews) of what customers tend to say about a subject."""
    table = shop_file()["tendencies"]
    return [(keyword, sign, share) for pattern, keyword, sign, share in table if re.search(pattern, subject)]


@cache
def _kind(seed: int) -> str:
    """What the generator's review of this seed is about: the product is the first thing that it draws."""
    return random.Random(seed).choice(list(phrase_bank()["products"]))


def _shop_review(row: GeneratedReview, product: str = "") -> ShopReview:
    return ShopReview(row["text"], {label["keyword"]: label["score"] for label in row["labels"]}, product)


class ReviewSupply:
    """The unused reviews of each kind of product: hand-written ones first, then generated ones on demand."""

    def __init__(self, rng: random.Random) -> None:
        self.unused: dict[str, list[ShopReview]] = {product.kind: [] for product in products()}
        self.seeds = {kind: count(FIRST_SEED) for kind in self.unused}
        self.texts = {row["text"] for row in written_reviews()}
        by_name = {product.product: product for product in products()}
        by_id = {row["review_id"]: row for row in written_reviews() if row["split"] == "train"}
        for name, ids in shop_file()["written"].items():
            for review_id in ids.split():
                product = by_name.get(name) or rng.choice(products())
                self.unused[product.kind].append(_shop_review(by_id[review_id], product.product))

    def take(self, product: Product, subject: str, wanted: Callable[[ShopReview], bool]) -> ShopReview:
        """The first wanted review that could be about this product in this month."""
        candidates = chain(self.unused[product.kind], self._generated(product.kind))
        chosen = next(review for review in candidates if wanted(review) and fits(review, product, subject))
        self.unused[product.kind].remove(chosen)
        return chosen

    def _generated(self, kind: str) -> Iterator[ShopReview]:
        for seed in filter(lambda seed: _kind(seed) == kind, self.seeds[kind]):
            review = _shop_review(generate_reviews(1, seed)[0])
            if review.text not in self.texts:
                self.texts.add(review.text)
                self.unused[kind].append(review)
                yield review


def fits(review: ShopReview, product: Product, subject: str) -> bool:
    """Whether the text could be about the product in its month, as far as the rules of catalog.yaml can tell."""
    bare = re.sub(r"\s", "", review.text)
    required = requirements("timely", bare) + ([] if review.product else requirements("rules", bare))
    return review.product in ("", product.product) and all(matches(pattern, subject) for pattern in required)
