"""Counts become rows for charts."""

from datetime import date

from ray_app.ui.queries import Cell
from ray_app.ui.summary import by_keyword, most_criticized, ordered, totals, trend

CELLS: list[Cell] = [
    ("만족도", 1, date(2025, 1, 1), 6),
    ("만족도", -1, date(2025, 2, 1), 4),
    ("배송", -2, date(2025, 1, 1), 1),
    ("배송", 0, date(2025, 1, 1), 1),
    ("배송", 2, date(2025, 1, 1), 2),
    ("배송", -1, date(2025, 2, 1), 3),
    ("색상", 2, None, 5),
]


def test_findings_add_up_by_keyword_side_and_period() -> None:
    assert by_keyword(CELLS)[1] == ("배송", [(-2, 1), (-1, 3), (0, 1), (2, 2)])
    assert totals(CELLS) == (8, 1, 13)
    assert most_criticized(CELLS) == "배송"
    assert trend(CELLS, "배송") == [
        {"period": "2025-01-01", "side": "positive", "share": 0.5, "count": 4},
        {"period": "2025-01-01", "side": "negative", "share": 0.25, "count": 4},
        {"period": "2025-02-01", "side": "positive", "share": 0.0, "count": 3},
        {"period": "2025-02-01", "side": "negative", "share": 1.0, "count": 3},
    ]
    assert trend(CELLS, "색상") == []


def test_bars_are_ordered_by_trouble() -> None:
    rows = [("만족도", [(-1, 30), (1, 70)]), ("배송", [(-2, 25), (1, 5)]), ("핏", [(-1, 1)])]
    assert [name for name, _ in ordered(rows, "frequent")] == ["만족도", "배송", "핏"]
    assert [name for name, _ in ordered(rows, "trouble")] == ["만족도", "배송", "핏"]
    assert [name for name, _ in ordered(rows, "share")] == ["배송", "핏", "만족도"]
