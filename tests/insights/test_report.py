"""The report of small analyses: figures checked by hand, pages that hold whatever stands in names and texts."""

import json
import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_app import storage
from ray_app.data.schema import ANALYSIS
from ray_app.errors import UserError
from ray_app.insights import report, tables
from ray_app.insights.pages import sections
from ray_app.insights.reading import parts
from ray_app.insights.report import Config
from tests.support.page_data import EVIL, KEPT, finding, rows, write_analyses

LONG = "가" * 10_000
HOSTILE = (EVIL, "=HYPERLINK(1)", LONG, "\u202eesrever", "a|b\n# x", "")


def shop(count: int = 900, change: int | None = 500, seed: int = 0) -> list[dict[str, Any]]:
    """Reviews of three products in order of time; from review `change` on most of product 0 complain of 배송."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        product, bad = i % 3, rng.random() < (0.6 if change is not None and i >= change and i % 3 == 0 else 0.05)
        text = f"배송 {'늦었어요' if bad else '빨라요'} 상품 {i}"
        made.append(
            {
                "review_id": f"r{i}",
                "text": text,
                "product": f"상품 {product}",
                "mall": "두루",
                "category": "상의",
                "rating": 2 if bad else int(4 + (rng.random() < 0.5)),
                "created_at": datetime(2025, 1, 1) + timedelta(days=i // 3),
                "keyword_probabilities": [0.9, 0.1],
                "findings": [finding(text, "배송", -2 if bad else 1, "늦었어요" if bad else "빨라요")],
                "truncated": False,
            }
        )
    return made


def made(folder: Path, reviews: list[dict[str, Any]], **options: Any) -> tuple[report.Config, Any]:
    write_analyses(str(folder / "analyses"), reviews)
    config = Config(analyses=str(folder / "analyses"), output=str(folder / "report"), **options)
    return config, report.run(config)


def test_counts_and_shares_are_those_of_the_reviews(tmp_path: Path) -> None:
    reviews = rows(500)
    _, found = made(tmp_path, reviews)
    counted = {row["keyword"]: row for row in found.tables.keywords.to_pylist()}
    complaints = [f for row in reviews for f in row["findings"] if f["keyword"] == "배송" and f["score"] < 0]
    assert counted["배송"]["score_minus_2"] == len(complaints) == 100
    assert counted["배송"]["complaints"] == pytest.approx(0.2)
    assert counted["배송"]["complaints_low"] < 0.2 < counted["배송"]["complaints_high"]
    assert sum(row["reviews"] for row in found.tables.stars.to_pylist()) == 500
    rejected = next(row for row in found.tables.quality.to_pylist() if row["figure"] == "truncated")
    assert rejected["reviews"] == 10


def test_a_change_of_one_product_is_found_dated_and_alerted_once(tmp_path: Path) -> None:
    config, found = made(tmp_path, shop(), alerts=str(tmp_path / "alerts.jsonl"), period="week")
    change = next(row for row in found.tables.changes.to_pylist() if row["level"] == "product")
    assert (change["value"], change["keyword"], change["direction"]) == ("상품 0", "배송", "worse")
    day = datetime(2025, 1, 1) + timedelta(days=500 // 3)
    assert abs((change["since"] - day.date()).days) <= 10
    lines = (tmp_path / "alerts.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert first["value"] == "상품 0"
    assert first["review_ids"]
    assert "since" in first["text"]
    report.run(config)
    assert (tmp_path / "alerts.jsonl").read_text(encoding="utf-8").splitlines() == lines


def test_without_a_change_there_is_no_alert(tmp_path: Path) -> None:
    _, found = made(tmp_path, shop(change=None), alerts=str(tmp_path / "alerts.jsonl"), period="week")
    assert found.tables.changes.num_rows == 0
    assert (tmp_path / "alerts.jsonl").read_text(encoding="utf-8") == ""


def test_complaints_cost_the_stars_that_they_cost(tmp_path: Path) -> None:
    _, found = made(tmp_path, shop(change=None))
    driver = next(row for row in found.tables.star_drivers.to_pylist() if row["sign"] == "negative")
    assert driver["effect_low"] < -2.5 < driver["effect_high"]
    assert driver["impact"] == pytest.approx(driver["effect"] * driver["share"])


def test_names_and_texts_stay_text(tmp_path: Path) -> None:
    reviews = shop(600)
    for i, row in enumerate(reviews):
        bad = HOSTILE[i % len(HOSTILE)]
        row |= {"product": bad, "mall": HOSTILE[(i + 1) % len(HOSTILE)], "text": f"{bad[:200]} {row['text']}"}
        row["findings"] = [finding(row["text"], HOSTILE[i % 2], -1, "상품")]
    made(tmp_path, reviews, title=EVIL)
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    outside = re.sub(r"<script>.*?</script>", "", html, count=1, flags=re.S)
    assert "<script" not in outside
    assert "<img" not in outside
    assert LONG not in html
    assert not re.search(r"""\s(?:src|href|on\w+)=["']""", outside)
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    csv = (tmp_path / "report" / "tables" / "groups.csv").read_text(encoding="utf-8-sig")
    assert ",=HYPERLINK" not in csv
    assert ',"=HYPERLINK' not in csv


def test_every_table_is_written_as_it_says(tmp_path: Path) -> None:
    _, found = made(tmp_path, rows(200))
    read = tables.read(str(tmp_path / "report"))
    assert set(read) == {name for name, _ in found.tables.each()}
    for name, table in found.tables.each():
        assert read[name].num_rows == table.num_rows, name
        assert (tmp_path / "report" / "tables" / f"{name}.csv").exists()
    assert (tmp_path / "report" / "report.html").stat().st_size < 2_000_000


def test_analyses_that_kept_nothing_and_have_nothing(tmp_path: Path) -> None:
    reviews = [row | {"findings": []} for row in rows(30)]
    write_analyses(str(tmp_path / "bare"), reviews, keep=())
    found = report.run(Config(analyses=str(tmp_path / "bare"), output=str(tmp_path / "report")))
    assert found.facts["findings"] == 0
    assert "jobs.analyze --keep date" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_dates_and_ratings_as_text(tmp_path: Path) -> None:
    reviews = shop(300)
    columns = {name: [row.get(name) for row in reviews] for name in ("review_id", "text", "product")}
    columns["date"] = [row["created_at"].strftime("%Y.%m.%d") for row in reviews]
    columns["별점"] = [f"{row['rating']}" if i else "x" for i, row in enumerate(reviews)]
    table = pa.table(columns)
    for name, kind in ANALYSIS:
        table = table.append_column(name, pa.array([row[name] for row in reviews], kind))
    storage.write_parquet(str(tmp_path / "a" / "data" / "0.parquet"), table)
    found = report.run(Config(analyses=str(tmp_path / "a"), output=str(tmp_path / "report")))
    quality = {row["figure"]: row["reviews"] for row in found.tables.quality.to_pylist()}
    assert (quality["rated"], quality["dated"]) == (299, 300)


def test_two_periods_are_compared(tmp_path: Path) -> None:
    _, found = made(tmp_path, shop(change=450), against="2025-01-01..2025-05-30")
    row = found.tables.against.to_pylist()[0]
    assert row["complaints_now"] > row["complaints_before"] + 0.1
    assert row["by_model"] == 0
    assert row["by_customers"] == pytest.approx(row["difference"])
    _, named = made(tmp_path, shop(change=450), against="2025-01-01..2025-05-30,2025-07-01..2025-07-31")
    assert named.tables.against["reviews_now"][0].as_py() == 31 * 3
    assert named.tables.against["reviews_before"][0].as_py() == row["reviews_before"]


def test_the_worst_and_best_are_quoted_and_so_is_what_contradicts_the_stars(tmp_path: Path) -> None:
    reviews = shop(600)
    for i, row in enumerate(reviews):
        row |= {"product": f"상품 {i % 12}", "rating": 1 if i % 40 == 39 else row["rating"]}
    _, found = made(tmp_path, reviews)
    quoted = found.tables.quotes.to_pylist()
    low = [row for row in quoted if row["about"] == "low stars"]
    assert low
    assert all(row["rating"] <= 2 and row["sign"] == "positive" for row in low)
    ranking = [row for row in quoted if row["about"] == "ranking"]
    assert {row["sign"] for row in ranking} == {"negative", "positive"}
    assert all(row["product"] == row["value"] for row in ranking)
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Praise under a low rating" in html


def test_another_model_and_other_customers_are_told_apart(tmp_path: Path) -> None:
    """The other run analyzed the first 600 reviews, its model missing every third complaint; 300 reviews are new."""
    now = shop(900, change=600)
    before = [dict(row) for row in now[:600]]
    for number, row in enumerate(row for row in before if row["findings"][0]["score"] < 0):
        if number % 3 == 0:
            row["findings"] = []
    write_analyses(str(tmp_path / "before"), before)
    storage.write_json(str(tmp_path / "before" / "_run.json"), {"bundle": "older"})
    _, found = made(tmp_path, now, against=str(tmp_path / "before"))
    row = found.tables.against.to_pylist()[0]
    assert found.facts["against"]["shared"] == 600
    assert 0 < row["by_model"] < 0.05
    assert row["by_customers"] > 0.03
    assert row["by_model"] + row["by_customers"] == pytest.approx(row["difference"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"analyses": "none"}, "none"),
        ({"against": "2001-01-01..2001-02-01"}, "0 reviews on its days"),
        ({"against": "2025-02-30..2025-03-01"}, "2025-02-30 is no day"),
        ({"against": "2025-03-01..2025-01-01"}, "the first day is after the last"),
        ({"against": "2025-01-01..2025-02-01,2025-04-01..2025-03-01"}, "the first day is after the last"),
        ({"table": "report"}, "name a namespace too"),
        ({"webhook": "https://hooks.example.com/x"}, "an address is a secret"),
        ({"webhook": "NOT_SET_ANYWHERE", "alerts": "runs/none.jsonl"}, "holds no URL"),
        ({"webhook": "NOT_SET_ANYWHERE"}, "name the file that remembers it"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, options: dict[str, str], message: str) -> None:
    write_analyses(str(tmp_path / "analyses"), rows(10))
    given = {"analyses": str(tmp_path / "analyses"), "output": str(tmp_path / "report"), **options}
    with pytest.raises(UserError, match=message):
        report.run(Config(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize("rating", [None, 0])
def test_texts_without_ratings_are_quoted_and_name_no_best_ones(tmp_path: Path, rating: int | None) -> None:
    _, found = made(tmp_path, [row | {"rating": rating} for row in shop(60)])
    about = set(found.tables.quotes["about"].to_pylist())
    assert "keyword" in about
    assert "stars" not in about


def test_few_reviews_over_many_months_and_no_keyword(tmp_path: Path) -> None:
    few = [row | {"created_at": datetime(2025, 1 + i, 1)} for i, row in enumerate(shop(8))]
    _, found = made(tmp_path, few, period="month")
    assert (found.tables.changes.num_rows, found.facts["series"]) == (0, 0)
    none = [row | {"findings": [], "created_at": datetime(2025, 1 + i % 9, 1)} for i, row in enumerate(shop(60))]
    _, found = made(tmp_path / "none", none, period="month")
    assert (found.tables.changes.num_rows, found.tables.groups.num_rows) == (0, 0)


@pytest.mark.parametrize(
    "text",
    ["2024-03-01T09:00", "2024.3.1", "2024. 3. 1.", "24.03.01", "2024년 3월 1일", "20240301", "20240301123000"],
)
def test_days_as_they_are_written_in_korea(text: str) -> None:
    assert parts.day_of(text) == (date(2024, 3, 1) - date(1970, 1, 1)).days


@pytest.mark.parametrize("text", [None, "", "yesterday", "2024-03", "01/03/2024", "1740787200", "2024-13-01"])
def test_what_is_no_day(text: str | None) -> None:
    assert parts.day_of(text) is None


def test_an_odd_date_is_none(tmp_path: Path) -> None:
    odd = [row | {"created_at": datetime(3999 if i else 1, 1, 1)} for i, row in enumerate(shop(2))]
    _, found = made(tmp_path, [*odd, *shop(40)])
    assert found.facts["first_day"] >= (date(2025, 1, 1) - date(1970, 1, 1)).days
    assert found.facts["last_day"] <= (date(2025, 2, 1) - date(1970, 1, 1)).days


def test_quotes_of_a_change_are_not_older_than_it(tmp_path: Path) -> None:
    _, found = made(tmp_path, shop(), period="week")
    since = {(row["level"], row["value"]): row["since"] for row in found.tables.changes.to_pylist()}
    quoted = [row for row in found.tables.quotes.to_pylist() if row["about"] == "change"]
    assert quoted
    assert all(row["day"] >= since[row["level"], row["value"]] for row in quoted)


def test_made_up_ids_are_not_shared(tmp_path: Path) -> None:
    now = [row | {"review_id": f"a.csv#{i}"} for i, row in enumerate(shop(200))]
    write_analyses(str(tmp_path / "before"), now)
    storage.write_json(str(tmp_path / "before" / "_run.json"), {"bundle": "older"})
    _, found = made(tmp_path, now, against=str(tmp_path / "before"))
    assert found.facts["against"]["shared"] == 0


def test_the_largest_ratings_are_listed(tmp_path: Path) -> None:
    _, found = made(tmp_path, [row | {"rating": i} for i, row in enumerate(shop(60))])
    assert found.tables.stars["rating"].to_pylist() == list(range(40, 60))


def test_the_course_of_the_largest_groups_is_kept(tmp_path: Path) -> None:
    reviews = [row | {"mall": f"m{min(i % 70, 55)}"} for i, row in enumerate(shop(280))]
    _, found = made(tmp_path, reviews)
    malls = {row["value"] for row in found.tables.trend.to_pylist() if row["level"] == "mall"}
    assert len(malls) == 50
    assert "m55" in malls


def test_kept_columns_are_those_of_the_tests() -> None:
    assert set(KEPT) >= {"product", "mall", "category", "rating", "created_at"}


def test_periods_of_few_reviews_are_joined() -> None:
    points = [{"reviews": n, "negative": k, "since": i} for i, (n, k) in enumerate([(40, 4), (5, 5), (20, 0), (6, 1)])]
    found = sections.joined(points)
    assert [(row["since"], row["reviews"], row["negative"]) for row in found] == [(0, 40, 4), (1, 31, 6)]
    assert found[1]["complaints_low"] < found[1]["complaints"] == 6 / 31 < found[1]["complaints_high"]
    assert [row["reviews"] for row in sections.joined(points[:2])] == [45]
    assert sections.joined([]) == []
