"""The shipped catalog as a newcomer meets it: its columns, its bad rows, its sources, and what a report can show."""

import re
from collections import Counter
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.data import columns, schema
from ray_app.sample import CATALOG, catalog, written_reviews

PATHS = sorted(CATALOG.glob("*"))
COLUMNS = columns.Columns(review_id="review_id", text="text", keep=("product", "rating"))


def rows() -> list[dict[str, object]]:
    content: list[dict[str, object]] = pa.concat_tables(pq.read_table(path) for path in PATHS).to_pylist()
    return content


def texts() -> list[str]:
    """The texts that can be analyzed."""
    groups = [
        pq.ParquetFile(path).read_row_group(n) for path in PATHS for n in range(pq.read_metadata(path).num_row_groups)
    ]
    return [text for group in groups for text in columns.split_rows(group, COLUMNS, "", 0)[0]["text"].to_pylist()]


def share(pattern: str, product: str, months: range) -> float:
    """The share of the texts about matching products, in these months, in which the pattern is found."""
    matching = [
        re.search(pattern, str(row["text"])) is not None
        for row in rows()
        if re.search(product, str(row["product"])) and getattr(row["created_at"], "month", 0) in months
    ]
    assert len(matching) > 30
    return sum(matching) / len(matching)


def test_files_are_small_zstd_parquet_with_one_or_two_row_groups() -> None:
    assert [path.name for path in PATHS] == [f"part-{n}.parquet" for n in range(4)]
    assert sum(path.stat().st_size for path in PATHS) < 400_000
    footers = [pq.read_metadata(path) for path in PATHS]
    assert [(footer.num_rows, footer.num_row_groups) for footer in footers] == [(750, 1), (750, 2)] * 2
    assert {footer.row_group(0).column(1).compression for footer in footers} == {"ZSTD"}


def test_columns_and_types() -> None:
    strings = ["review_id", "text", "product_id", "product", "mall", "category"]
    expected = pa.schema(
        [*((name, pa.string()) for name in strings), ("rating", pa.int8()), ("created_at", pa.timestamp("us"))]
    )
    assert [pq.read_schema(path).remove_metadata() for path in PATHS] == [expected] * 4


def test_regenerated_tables_equal_the_shipped_ones() -> None:
    assert catalog.tables() == [pq.read_table(path) for path in PATHS]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.name))
def test_every_file_has_one_bad_row_of_each_kind(path: object) -> None:
    file = pq.ParquetFile(path)
    reasons: Counter[str] = Counter()
    for group in range(file.num_row_groups):
        rejected = columns.split_rows(file.read_row_group(group), COLUMNS, "", 0)[1]
        reasons.update(re.sub(r"\d+ ", "", reason) for reason in rejected["reason"].to_pylist())
    too_long = f"text has characters, over the limit of {schema.MAX_CHARACTERS}"
    once = ("null id", "id already seen in its unit", "null text", too_long)
    assert reasons == {**dict.fromkeys(once, 1), "empty text": 2}
    blanks = [
        text
        for text in file.read()["text"].to_pylist()
        if text is not None and not text.strip("\u200b\ufeff \t\n\u3000")
    ]
    assert sorted(map(bool, blanks)) == [False, True]


def test_no_text_of_the_test_or_validation_split_is_inside() -> None:
    held_out = {row["text"] for row in written_reviews() if row["split"] != "train"}
    assert not held_out & set(texts())


def test_about_250_texts_are_written_by_hand() -> None:
    by_hand = {row["text"] for row in written_reviews() if row["split"] == "train"}
    assert 230 <= sum(text in by_hand for text in texts()) <= 290


def test_sixty_reviews_were_sent_twice_and_some_are_long() -> None:
    assert len(texts()) == 3_000 - 4 * 6
    assert len(texts()) - len(set(texts())) == 60
    assert 20 <= sum(len(text) > 300 for text in texts()) <= 60


def test_values_stay_in_their_ranges_and_every_product_has_one_id() -> None:
    assert {row["rating"] for row in rows()} == {1, 2, 3, 4, 5}
    assert len({row["mall"] for row in rows()}) == 4
    pairs = {(row["product_id"], row["product"], row["category"]) for row in rows()}
    assert len(pairs) == len({row["product_id"] for row in rows()}) == len({row["product"] for row in rows()}) > 30
    dates = [row["created_at"] for row in rows()]
    assert all(isinstance(date, datetime) and date.year == 2025 for date in dates)


def test_months_and_products_are_uneven() -> None:
    months = Counter(getattr(row["created_at"], "month", 0) for row in rows())
    products = Counter(row["product"] for row in rows())
    assert len(months) == 12
    assert max(months.values()) > 2 * min(months.values())
    assert products.most_common(1)[0][1] > 8 * min(products.values())


@pytest.mark.parametrize(("pattern", "expected"), [("강추|만족해|인생템", {4, 5}), ("최악|비추|후회만|실망했", {1, 2})])
def test_the_rating_follows_the_text(pattern: str, expected: set[int]) -> None:
    rated = [row["rating"] for row in rows() if re.search(pattern, str(row["text"]))]
    assert sum(rating in expected for rating in rated) > 0.75 * len(rated) > 50


YEAR, BEFORE_JUNE, FROM_JUNE = range(1, 13), range(1, 6), range(6, 13)
TIGHT_OR_LOOSE = (
    "사이즈가? ?(너무|좀|완전)|작[게네]|낀|끼|껴|안 ?(들어|올라|잠)|크게|커[서요]|남[아네]|실패|엉터리|살걸"
)
BADLY_SEWN = "실밥이|허술|엉망|씹|뻑뻑|터졌|지저분|삐뚤|아쉬|최악"
PARCEL = "배송|출고|포장|택배|상자|박스|도착|받았|왔"


@pytest.mark.parametrize(
    ("pattern", "product", "months", "other", "other_months"),
    [
        (PARCEL, "숏패딩", YEAR, "블레이저|코트", YEAR),
        (TIGHT_OR_LOOSE, "생지 청바지", FROM_JUNE, "생지 청바지", BEFORE_JUNE),
        (BADLY_SEWN, "투포켓 라이트 백팩", BEFORE_JUNE, "투포켓 라이트 백팩", FROM_JUNE),
    ],
)
def test_products_and_months_differ(pattern: str, product: str, months: range, other: str, other_months: range) -> None:
    assert share(pattern, product, months) > 1.4 * share(pattern, other, other_months)


@pytest.mark.parametrize(
    ("pattern", "category"),
    [
        ("밑창|앞코|발볼|뒤꿈치", "신발|양말"),
        ("허벅지|밑위|골반", "하의|원피스"),
        ("어깨끈|노트북", "가방"),
        ("기모", "하의|아우터"),
    ],
)
def test_a_text_is_about_the_product_it_stands_beside(pattern: str, category: str) -> None:
    about = [row for row in rows() if re.search(pattern, str(row["text"]))]
    assert len(about) > 2
    stray = [row for row in about if not re.search(category, f"{row['category']} {row['product']}")]
    assert len(stray) <= 0.1 * len(about), stray
