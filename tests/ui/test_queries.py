"""Queries over analyses, compared with the same rows filtered in Python."""

from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ray_app import sample, storage
from ray_app.catalog import analyze
from ray_app.errors import UserError
from ray_app.ui.filters import Filters
from ray_app.ui.queries import SAMPLE_ROWS, Catalog, Cursor, list_analyses
from tests.support.page_data import EVIL, MALLS, MARKDOWN, rows, write_analyses

ROWS = rows(730)
Predicate = Callable[[dict[str, Any]], bool]


def opened(uri: str, sample_rows: int = SAMPLE_ROWS) -> Catalog:
    return Catalog(uri, list_analyses(uri), sample_rows)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = str(tmp_path_factory.mktemp("shop") / "[2026] 분석 *")
    write_analyses(folder, ROWS)
    return opened(folder)


def ids(catalog: Catalog, filters: Filters, size: int = 200) -> list[str]:
    """The ids of all pages."""
    review_ids: list[str] = []
    cursor: Cursor | None = Cursor()
    while cursor:
        page = catalog.page(filters, cursor, size)
        assert len(page.rows) <= size
        assert page.rows or not review_ids, "a next page that is empty"
        assert len(review_ids) <= len(ROWS), "a row came twice"
        review_ids += [row["review_id"] for row in page.rows]
        cursor = page.next
    return review_ids


def has(row: dict[str, Any], keywords: tuple[str, ...], scores: tuple[int, ...]) -> bool:
    return any(
        (not keywords or f["keyword"] in keywords) and (not scores or f["score"] in scores) for f in row["findings"]
    )


@pytest.mark.parametrize("size", [1, 7, 100, 200, 730, 999])
def test_pages_hold_every_review_once_and_in_order(catalog: Catalog, size: int) -> None:
    filters = Filters() if size > 1 else Filters(text="늦어요", malls=(MALLS[1],))
    wanted = [row["review_id"] for row in ROWS if size > 1 or ("늦어요" in row["text"] and row["mall"] == MALLS[1])]
    assert ids(catalog, filters, size) == wanted


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        (Filters(keywords=("배송",)), lambda r: has(r, ("배송",), ())),
        (Filters(scores=(-2, -1)), lambda r: has(r, (), (-2, -1))),
        (Filters(keywords=("만족도", "색상"), scores=(1,)), lambda r: has(r, ("만족도", "색상"), (1,))),
        (Filters(keywords=("배송",), scores=(-1,)), lambda r: False),  # -1 is the 만족도 of those reviews
        (Filters(text="예뻐요"), lambda r: "예뻐요" in r["text"]),
        (Filters(text="ONERROR"), lambda r: "onerror" in r["text"]),
        (Filters(text="%"), lambda r: "%" in r["text"]),
        (Filters(text="'; DROP TABLE x; --"), lambda r: False),
        (Filters(products=("지 3",)), lambda r: r["product"] == "바지 3"),
    (Filters(products=("바지 3", "바지 5")), lambda r: r["product"] in ("바지 3", "바지 5")),
        (Filters(malls=(EVIL,)), lambda r: r["mall"] == EVIL),
        (Filters(malls=MALLS[:2], categories=("하의",)), lambda r: r["mall"] != EVIL and r["category"] == "하의"),
        (Filters(since=date(2025, 3, 3)), lambda r: r["created_at"].date() >= date(2025, 3, 3)),
        (
            Filters(since=date(2025, 2, 2), until=date(2025, 2, 2)),
            lambda r: r["created_at"].date() == date(2025, 2, 2),
        ),
        (Filters(keywords=("배송",), word="빨라요"), lambda r: "빨라요" in r["text"]),
        (Filters(word=MARKDOWN), lambda r: MARKDOWN in r["text"]),
    ],
)  # fmt: skip
def test_filters_find_what_python_finds(catalog: Catalog, filters: Filters, matches: Predicate) -> None:
    wanted = [row for row in ROWS if matches(row)]
    assert ids(catalog, filters) == [row["review_id"] for row in wanted]
    counts = catalog.counts(filters)
    assert (counts.reviews, counts.read, counts.total) == (len(wanted), 730, 730)
    cells: Counter[tuple[str, int]] = Counter()
    for keyword, score, _, count in counts.cells:
        cells[keyword, score] += count
    assert cells == Counter((f["keyword"], f["score"]) for row in wanted for f in row["findings"])


def test_counts_are_by_month_and_words_come_without_their_punctuation(catalog: Catalog) -> None:
    months = {period for _, _, period, _ in catalog.counts(Filters()).cells}
    assert catalog.period == "month"
    assert months == {date(2025, month, 1) for month in range(1, 13)}
    words = catalog.words(Filters())
    assert words["배송"] == [("늦어요", 146, -2.0), ("빨라요", 146, 2.0)]


def test_a_page_has_the_kept_columns(catalog: Catalog) -> None:
    first = catalog.page(Filters(), Cursor(), 1).rows[0]
    assert first["text"] == "배송 빨라요!!"
    assert (first["rating"], first["mall"], first["truncated"]) == (1.0, MALLS[0], True)
    highlights = [finding["highlight"] for finding in first["findings"] or ()]
    assert highlights[0] is not None
    assert highlights[0]["word"] == "빨라요!!"


def test_choices_and_dates(catalog: Catalog) -> None:
    assert catalog.choices("mall") == sorted(MALLS)
    assert catalog.span == (min(r["created_at"] for r in ROWS).date(), max(r["created_at"] for r in ROWS).date())


def test_a_large_catalog_is_counted_from_a_part_unless_exact_counts_are_wanted(catalog: Catalog) -> None:
    large = Catalog(catalog.uri, list_analyses(catalog.uri), sample_rows=150)
    part, whole = large.counts(Filters()), large.counts(Filters(), exact=True)
    assert (part.read, part.total) == (200, 730)
    assert (whole.read, whole.total) == (730, 730)
    assert ids(large, Filters()) == [row["review_id"] for row in ROWS]


def test_filters_without_their_column_are_ignored(tmp_path: Path) -> None:
    write_analyses(str(tmp_path), ROWS[:50], keep=())
    bare = opened(str(tmp_path))
    assert (bare.columns, bare.span) == ({}, None)
    every = Filters(text="x", products=("y",), malls=("z",), categories=("w",), since=date(2030, 1, 1))
    assert len(ids(bare, every)) == 50
    assert {period for _, _, period, _ in bare.counts(Filters()).cells} == {None}


def test_a_folder_on_s3_gives_the_same_answers(s3: str) -> None:
    uri = f"{s3}/분석 [1] 결과"
    write_analyses(uri, ROWS[:300])
    remote, filters = opened(uri), Filters(keywords=("배송",), scores=(2,))
    assert ids(remote, filters, 30) == [r["review_id"] for r in ROWS[:300] if has(r, ("배송",), (2,))]
    assert remote.counts(filters).reviews == 60
    assert remote.total == 300


@pytest.mark.parametrize("partition_by", ["", "mall"])
def test_what_the_job_writes_can_be_queried(bundle_folder: str, tmp_path: Path, partition_by: str) -> None:
    out = str(tmp_path / "out")
    settings: dict[str, Any] = {"keep": "text,product,mall,category,rating,created_at", "partition_by": partition_by}
    config = analyze.Config(bundle=bundle_folder, output=out, placement="here", device="cpu", limit=60, **settings)
    assert analyze.run(config) == 0
    made = opened(out)
    assert set(made.columns) == {"text", "product", "mall", "category", "rating", "created_at"}
    assert len(ids(made, Filters(), 25)) == made.total == storage.read_json(f"{out}/_run.json")["analysed"]
    assert made.words(Filters())
    expected = Counter(storage.read_parquet(str(sample.CATALOG))["mall"].to_pylist()[:60])
    counted = {mall: len(ids(made, Filters(malls=(mall,)), 60)) for mall in expected}
    assert sum(counted.values()) == made.total
    assert all(counted[mall] <= expected[mall] for mall in expected)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    write_analyses(str(tmp_path), ROWS[:300])
    (tmp_path / "data" / "0001.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(UserError, match="cannot be read") as caught:
        opened(str(tmp_path)).counts(Filters())
    assert "\n" not in str(caught.value)


def test_other_parquet_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        list_analyses(str(tmp_path / "nowhere"))
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="no analyses there"):
        list_analyses(str(tmp_path))
    import pyarrow as pa

    storage.write_parquet(str(tmp_path / "data" / "x.parquet"), pa.table({"a": [1]}))
    with pytest.raises(UserError, match="no findings column"):
        opened(str(tmp_path))
