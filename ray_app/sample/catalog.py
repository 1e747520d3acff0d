"""The shipped catalog: a year of reviews of an invented fashion shop group, bad rows included.

In: shop.py. Out: catalog/part-0.parquet to part-3.parquet, 3,000 rows in random order, the same at every run. About one
text in ten was written by hand, 30 are long, 60 reviews were sent twice; each part has one bad row of each kind.
Usage: python -m ray_app.sample.catalog
"""

import random
import re
from calendar import monthrange
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.sample import CATALOG
from ray_app.sample.generate import OVERALL
from ray_app.sample.shop import Product, Review, Shelf, fits, products, sells, shop, tendencies

SEED, PARTS, ROWS, GROUP = 7, 4, 750, 400  # rows of a part; rows of a row group in every other part
LONG, CHARACTERS, TWICE = 30, 300, 15  # long texts in all, and what is long; reviews sent twice in each part
STRINGS = ("review_id", "text", "product_id", "product", "mall", "category")
SCHEMA = pa.schema({**dict.fromkeys(STRINGS, pa.string()), "rating": pa.int8(), "created_at": pa.timestamp("us")})
INVISIBLE = ("   ", "\u200b\u200b", "\n\t\n", "\u3000\ufeff")
ENDLESS = ("좋아요 ", "배송 언제 와요? ", "ㅋㅋㅋㅋㅋㅋ", "강추합니다! ")
TIMES = 5_000  # makes each of them longer than the 20,000 characters that schema.py accepts
MORE = re.compile(r"(?!.*(샀|산 |줬|드렸|보냈|주문|맞췄|가져갔|인데|\d)).* .*요[\W_ㅎㅋㅠㅜ]*$")  # may go on a long text


@dataclass
class Row:
    """A row of the table to be."""

    product: Product
    mall: str
    created_at: datetime
    review: Review = Review("", {})
    review_id: str | None = None
    text: str | None = None
    rating: int = 0

    @property
    def subject(self) -> str:
        product = self.product
        return f"{product.category} {product.kind} {product.product} {self.mall} {self.created_at.month}월"


def _drawn(rng: random.Random) -> Row:
    """A row without a review, of a product that sells in its month."""
    month, malls = rng.choices(range(1, 13), shop()["months"])[0], shop()["malls"]
    mall = rng.choices(list(malls), malls.values())[0]
    second = int(rng.triangular(0, 86_399, 75_600))  # most of them at nine in the evening
    at = datetime(2025, month, rng.randint(1, monthrange(2025, month)[1])) + timedelta(seconds=second)
    rows = [row for row in (Row(product, mall, at) for product in products()) if sells(row.subject)]
    return rng.choices(rows, [row.product.weight for row in rows])[0]


def _reviewed(rng: random.Random, row: Row, shelf: Shelf) -> Row:
    """The row with a review, often one that says what customers tend to say of the product."""
    aims = [(keyword, sign) for keyword, sign, share in tendencies(row.subject) if rng.random() < share][:1]
    review = shelf.take(
        row.product, row.subject, lambda review: all(review.scores.get(key, 0) * sign > 0 for key, sign in aims)
    )
    rating = 3 + review.scores[OVERALL] + rng.choices((0, -1, 1), (76, 12, 12))[0]
    return replace(row, review=review, text=review.text, rating=min(5, max(1, rating)))


def _lengthen(rng: random.Random, row: Row, shelf: Shelf) -> bool:
    """Goes on in the same mood about other keywords; False where the shelf has too little for that."""
    told = [row.review]
    for more in shelf.unused[row.product.kind] if MORE.match(row.review.text) else ():
        fresh = len({keyword for review in told for keyword in review.scores} & set(more.scores)) == 1
        same = more.scores[OVERALL] * row.review.scores[OVERALL] > 0
        if fresh and same and MORE.match(more.text) and fits(more, row.product, row.subject):
            told.append(more)
    text = rng.choice((" ", "\n", "\n\n")).join(review.text for review in told)
    if len(text) <= CHARACTERS:
        return False
    row.text, shelf.unused[row.product.kind] = text, [r for r in shelf.unused[row.product.kind] if r not in told]
    return True


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
    rows = [_reviewed(rng, _drawn(rng), shelf) for _ in range(PARTS * ROWS)]
    rng.shuffle(rows)  # the written reviews were the first to go
    long = 0
    for row in rows:
        long += long < LONG and _lengthen(rng, row, shelf)
    for number, row in enumerate(rows, 100_001):
        row.review_id = f"R{number}"
    parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    _spoil(rng, parts)
    return [pa.Table.from_pylist([_record(row) for row in part], SCHEMA) for part in parts]


def _record(row: Row) -> dict[str, object]:
    return {**asdict(row.product), **{name: getattr(row, name) for name in SCHEMA.names if hasattr(row, name)}, "product": row.product.product}


def main() -> None:
    CATALOG.mkdir(exist_ok=True)
    for number, table in enumerate(tables()):
        path, group = CATALOG / f"part-{number}.parquet", GROUP if number % 2 else ROWS
        pq.write_table(table, path, row_group_size=group, compression="zstd", compression_level=19)
        print(f"{path}: {len(table):,} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
