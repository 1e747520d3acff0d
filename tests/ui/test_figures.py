"""Charts are well-formed pictures whatever the names in them say."""

from xml.etree import ElementTree

import pyarrow as pa
import pytest

from ray_app.ui.figures import box, svg
from ray_app.ui.report_views.ranking import ranked
from tests.support.page_data import EVIL

HOSTILE = (EVIL, "</text></svg><script>1</script>", "가" * 10_000, "\u202eabc", "a&b\"'<", "배송")

PHONE = 358  # pixels of a page of 390


def points(counts: list[int]) -> list[svg.Point]:
    last = max(1, len(counts) - 1)
    return [
        svg.Point(at=i / last, date="25-01", share=i / 10, count=n, low=0.0, high=1.0) for i, n in enumerate(counts)
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_stays_text(name: str) -> None:
    row = svg.Interval(name=name, note=name[:50], low=0.1, middle=0.2, high=0.3, value=name[:20])
    line = svg.Course(name=name, color=svg.RED, points=points([5, 40]))
    for drawn in (
        svg.intervals([row, row], name[:100], 0.25),
        svg.courses([line, line], name[:100], since=0.5),
        svg.curves([(name, svg.RED, [(0.0, 0.1), (1.0, 0.9)])], name[:100], 0.5),
    ):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawn).iter()}
        assert tags <= {"svg", "title", "rect", "text", "tspan", "line", "circle", "g"}
        shown = box.image(drawn, name)
        assert shown.count("<") == 1
        assert "<script" not in shown
    assert len(svg.intervals([row], "x")) < 5_000


def test_few_reviews_are_hollow_and_every_count_is_told() -> None:
    drawn = svg.courses([svg.Course(name="a", color=svg.RED, points=points([29, 30, 1_234]))], "a")
    circles = [e.attrib["fill"] for e in ElementTree.fromstring(drawn).iter() if e.tag.endswith("circle")]
    assert circles == ["#fff", svg.RED, svg.RED]
    assert all(f"n {count}" in drawn for count in ("29", "30", "1.2k"))


def test_a_ranking_has_the_worst_first_and_leaves_out_what_nobody_knows() -> None:
    columns = {"value": ["a", "b", "c", "d"], "satisfaction": [0.9, 0.2, 0.5, 0.1], "reviews": [50, 50, 50, 3]}
    table = pa.table({**columns, "level": ["product"] * 4, "keyword": ["배송"] * 4})
    table = table.append_column("negative", pa.array([1, 8, 5, 3])).append_column("positive", pa.array([9, 2, 5, 0]))
    assert ranked(table, "product", "배송")["value"].to_pylist() == ["b", "c", "a"]
    assert ranked(table, "product", "배송", descending=True)["value"].to_pylist() == ["a", "c", "b"]
    assert len(ranked(table, "mall", "배송")) == 0


def test_the_last_tick_lies_within_a_phone() -> None:
    course = svg.Course(name="a", color=svg.RED, points=points([40, 40]))
    for drawn in (svg.courses([course], "a"), svg.curves([("a", svg.RED, [(0.0, 0.1), (1.0, 0.9)])], "a", 0.5)):
        (width,) = [e.attrib["width"] for e in ElementTree.fromstring(drawn).iter() if e.attrib.get("overflow")]
        assert svg.LEFT + float(width.rstrip("%")) / 100 * PHONE <= PHONE
