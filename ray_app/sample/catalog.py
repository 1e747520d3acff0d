"""The shipped catalog: a year of reviews of an invented fashion shop group, bad rows included.

In: shop.py. Out: catalog/part-0.parquet to part-3.parquet, 3,000 rows in random order, the same at every run: about one
text in twelve was written by hand, 1% are long, 60 reviews were sent twice, and each part has one bad row of each kind.
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
from ray_app.sample.shop import Product, Review, Shelf, entries, fits, has, products, shop

SEED, PARTS, ROWS, GROUP = 7, 4, 750, 400  # rows of a part; rows of a row group in every other part
CHARACTERS, TWICE = 300, 15  # that a long text has; reviews sent twice in each part
STRINGS = ("review_id", "text", "product_id", "product", "mall", "category")
SCHEMA = pa.schema({**dict.fromkeys(STRINGS, pa.string()), "rating": pa.int8(), "created_at": pa.timestamp("us")})
INVISIBLE = ("   ", "\u200b\u200b", "\n\t\n", "\u3000\ufeff")
ENDLESS = ("좋아요 ", "배송 언제 와요? ", "ㅋㅋㅋㅋㅋㅋ", "강추합니다! ")
TIMES = 6_000  # makes each of them longer than the 20,000 characters that schema.py accepts
MORE = r"^(?!.*(샀|줬|드렸|보냈|주문했|맞췄|처음|찾다|가져갔|\d{2})).* .*요[\W_ㅎㅋㅠㅜ]*$"  # may go on a long text


@dataclass(kw_only=True)
class Row:
    """A row of the table to be; its subject is what the patterns of catalog.yaml are matched with."""

    product: Product
    mall: str
    created_at: datetime
    subject: str
    review: Review
    text: str | None
    rating: int
    review_id: str | None = None


def _row(rng: random.Random, shelf: Shelf) -> Row:
    """A row of a product that sells in its month, with a review that often says what customers tend to say of it."""
    month, malls = rng.choices(range(1, 13), shop()["months"])[0], shop()["malls"]
    mall = rng.choices(list(malls), malls.values())[0]
    second = int(rng.triangular(0, 86_399, 75_600))  # most of them at nine in the evening
    at = datetime(2025, month, rng.randint(1, monthrange(2025, month)[1])) + timedelta(seconds=second)
    selling = {product: subject for product in products() if _sells(subject := product.subject(mall, month))}
    product = rng.choices(list(selling), [product.weight for product in selling])[0]
    review = shelf.take(product, selling[product], _aim(rng, selling[product]))
    rating = 3 + review.scores[OVERALL] + rng.choices((0, -1, 1), (76, 12, 12))[0]
    return Row(
        product=product,
        mall=mall,
        created_at=at,
        subject=selling[product],
        review=review,
        text=review.text,
        rating=min(5, max(1, rating)),
    )


def _sells(subject: str) -> bool:
    return all(has(months, subject) for (months,) in entries("seasons", subject))


def _aim(rng: random.Random, subject: str) -> Callable[[Review], bool]:
    aims = [(keyword, sign) for keyword, sign, share in entries("tendencies", subject) if rng.random() < share][:1]
    return lambda review: all(review.scores.get(keyword, 0) * sign > 0 for keyword, sign in aims)


def _lengthen(rng: random.Random, row: Row, shelf: Shelf) -> None:
    """Goes on in the same mood until the text is long, where the shelf has enough for that."""
    unused, told, mark = shelf.unused[row.product.kind], [row.review], rng.choice((" ", "\n", "\n\n"))
    fitting = [more for more in unused if has(MORE, more.text) and fits(more, row.product, row.subject)]
    for more in sorted(fitting, key=lambda review: -len(review.text)) if has(MORE, row.review.text) else ():
        told += [more] if all(map(more.agrees, told)) else []
        if len(text := mark.join(review.text for review in told)) > CHARACTERS:
            row.text, shelf.unused[row.product.kind] = text, [review for review in unused if review not in told]
            return


def _spoil(rng: random.Random, parts: list[list[Row]]) -> None:
    """Sends some reviews twice, and makes one row of each part bad in each way."""
    for number, rows in enumerate(parts):
        null, empty, blank, long, nameless, *rest = rng.sample(range(0, ROWS, 2), 5 + 1 + 2 * TWICE)
        for at, source in zip(rest[1 : TWICE + 1], rest[TWICE + 1 :], strict=True):
            sent = rows[source]
            rows[at] = replace(sent, review_id=rows[at].review_id, created_at=sent.created_at + timedelta(seconds=41))
        rows[null].text, rows[empty].text, rows[blank].text = None, "", INVISIBLE[number]
        rows[long].text = ENDLESS[number] * TIMES
        rows[nameless].review_id = None
        rows[rest[0] + 1].review_id = rows[rest[0]].review_id


def tables() -> list[pa.Table]:
    """The parts of the catalog."""
    rng = random.Random(SEED)
    shelf = Shelf(rng)
    rows = [_row(rng, shelf) for _ in range(PARTS * ROWS)]
    rng.shuffle(rows)  # the written reviews were the first to go
    for row in rows[::3]:
        _lengthen(rng, row, shelf)
    for number, row in enumerate(rows, 100_001):
        row.review_id = f"R{number}"
    parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    _spoil(rng, parts)
    return [pa.Table.from_pylist([{**vars(row), **vars(row.product)} for row in part], SCHEMA) for part in parts]


def main() -> None:
    CATALOG.mkdir(exist_ok=True)
    for number, table in enumerate(tables()):
        path, group = CATALOG / f"part-{number}.parquet", GROUP if number % 2 else ROWS
        pq.write_table(table, path, row_group_size=group, compression="zstd", compression_level=19)
        print(f"{path}: {len(table):,} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
