"""The shipped catalog: a year of reviews of an invented group of fashion shops, bad rows included.

In: shop.py. Out: catalog/part-0.parquet to part-3.parquet, 3,000 rows in random order, the same on every run: about
one text in twelve is hand-written, 1% are long, 60 reviews were sent twice, and each part has one bad row of each kind.
Usage: python -m ray_app.sample.catalog
"""

import random
from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.sample import CATALOG
from ray_app.sample.generate import OVERALL
from ray_app.sample.shop import (
    Product,
    ReviewSupply,
    ShopReview,
    fits,
    matches,
    products,
    requirements,
    shop_file,
    tendencies,
)

SEED = 7
PARTS = 4
PART_ROWS = 750
GROUP_ROWS = 400  # rows per row group in every other part
LONG_TEXT = 300  # more characters than this are a long text
SENT_TWICE = 15  # reviews per part
STRINGS = ("review_id", "text", "product_id", "product", "mall", "category")
SCHEMA = pa.schema({**dict.fromkeys(STRINGS, pa.string()), "rating": pa.int8(), "created_at": pa.timestamp("us")})
INVISIBLE = ("   ", "\u200b\u200b", "\n\t\n", "\u3000\ufeff")  # one per part
ENDLESS = ("좋아요 ", "배송 언제 와요? ", "ㅋㅋㅋㅋㅋㅋ", "강추합니다! ")  # one per part
REPEATS = 6_000  # makes each of them longer than schema.MAX_CHARACTERS
# what a long text is made of: ends politely, with no event or figure that another review could contradict
CONTINUABLE = r"^(?!.*(샀|줬|드렸|보냈|주문했|맞췄|처음|찾다|가져갔|\d{2})).* .*요[\W_ㅎㅋㅠㅜ]*$"


@dataclass(kw_only=True)
class Row:
    """A row of the table to be; its subject is what the patterns of catalog.yaml are matched with."""

    product: Product
    mall: str
    created_at: datetime
    subject: str
    review: ShopReview
    text: str | None
    rating: int
    review_id: str | None = None


def _row(rng: random.Random, supply: ReviewSupply) -> Row:
    """A row about a product that sells in its month; its review often says what customers tend to say about it."""
    month, malls = rng.choices(range(1, 13), shop_file()["months"])[0], shop_file()["malls"]
    mall = rng.choices(list(malls), list(malls.values()))[0]
    second = int(rng.triangular(0, 86_399, 75_600))  # most of them at nine in the evening
    created_at = datetime(2025, month, rng.randint(1, monthrange(2025, month)[1])) + timedelta(seconds=second)
    selling = {product: subject for product in products() if _sells(subject := product.subject(mall, month))}
    product = rng.choices(list(selling), [product.weight for product in selling])[0]
    review = supply.take(product, selling[product], _wanted(rng, selling[product]))
    rating = 3 + review.scores[OVERALL] + rng.choices((0, -1, 1), (76, 12, 12))[0]
    return Row(
        product=product,
        mall=mall,
        created_at=created_at,
        subject=selling[product],
        review=review,
        text=review.text,
        rating=min(5, max(1, rating)),
    )


def _sells(subject: str) -> bool:
    return all(matches(months, subject) for months in requirements("seasons", subject))


def _wanted(rng: random.Random, subject: str) -> Callable[[ShopReview], bool]:
    """What a review must say about its subject: one of the tendencies, as often as its share, else anything."""
    drawn = [(keyword, sign) for keyword, sign, share in tendencies(subject) if rng.random() < share][:1]
    return lambda review: all(review.scores.get(keyword, 0) * sign > 0 for keyword, sign in drawn)


def _lengthen(rng: random.Random, row: Row, supply: ReviewSupply) -> None:
    """Appends unused reviews of the same mood until the text is long, if there are enough of them."""
    unused, reviews, separator = supply.unused[row.product.kind], [row.review], rng.choice((" ", "\n", "\n\n"))
    fitting = [more for more in unused if matches(CONTINUABLE, more.text) and fits(more, row.product, row.subject)]
    if not matches(CONTINUABLE, row.review.text):
        return
    for more in sorted(fitting, key=lambda review: -len(review.text)):
        reviews += [more] if all(map(more.can_follow, reviews)) else []
        if len(text := separator.join(review.text for review in reviews)) > LONG_TEXT:
            row.text, supply.unused[row.product.kind] = text, [review for review in unused if review not in reviews]
            return


def _add_bad_rows(rng: random.Random, parts: list[list[Row]]) -> None:
    """Sends some reviews twice, and makes one row per part bad in each way."""
    for number, rows in enumerate(parts):
        null, empty, blank, long, nameless, same_id, *rest = rng.sample(range(0, PART_ROWS, 2), 5 + 1 + 2 * SENT_TWICE)
        for copy, original in zip(rest[:SENT_TWICE], rest[SENT_TWICE:], strict=True):
            sent = rows[original]
            later = sent.created_at + timedelta(seconds=41)
            rows[copy] = replace(sent, review_id=rows[copy].review_id, created_at=later)
        rows[null].text, rows[empty].text, rows[blank].text = None, "", INVISIBLE[number]
        rows[long].text = ENDLESS[number] * REPEATS
        rows[nameless].review_id = None
        rows[same_id + 1].review_id = rows[same_id].review_id


def tables() -> list[pa.Table]:
    """The parts of the catalog."""
    rng = random.Random(SEED)
    supply = ReviewSupply(rng)
    rows = [_row(rng, supply) for _ in range(PARTS * PART_ROWS)]
    rng.shuffle(rows)  # the hand-written reviews were given out first
    for row in rows[::3]:
        _lengthen(rng, row, supply)
    for number, row in enumerate(rows, 100_001):
        row.review_id = f"R{number}"
    parts = [rows[start : start + PART_ROWS] for start in range(0, len(rows), PART_ROWS)]
    _add_bad_rows(rng, parts)
    return [pa.Table.from_pylist([{**vars(row), **vars(row.product)} for row in part], SCHEMA) for part in parts]


def main() -> None:
    """Writes the parts, and prints the size of each."""
    CATALOG.mkdir(exist_ok=True)
    for number, table in enumerate(tables()):
        path, group_rows = CATALOG / f"part-{number}.parquet", GROUP_ROWS if number % 2 else PART_ROWS
        pq.write_table(table, path, row_group_size=group_rows, compression="zstd", compression_level=19)
        print(f"{path}: {len(table):,} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
