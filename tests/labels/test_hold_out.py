"""A drawn test split: every keyword and feeling in its share, no near-duplicate across it."""

from collections import Counter

import numpy as np

from ray_app.data.near_duplicates import group_near_duplicates
from ray_app.labels.hold_out import with_test_rows
from ray_app.labels.reader import read_labels

TABLE = read_labels("sample").split("train").slice(0, 500)


def strata(rows: list[dict[str, object]]) -> Counter[tuple[str, int]]:
    return Counter((one["keyword"], int(np.sign(one["score"]))) for row in rows for one in row["labels"])  # type: ignore[attr-defined]


def test_every_keyword_and_feeling_has_its_share_of_the_test() -> None:
    rows = with_test_rows(TABLE, 0.2, seed=1).to_pylist()
    test = [row for row in rows if row["split"] == "test"]
    assert 85 <= len(test) <= 120
    total, drawn = strata(rows), strata(test)
    common = [stratum for stratum, count in total.items() if count >= 20]
    assert all(0.1 <= drawn[stratum] / total[stratum] <= 0.4 for stratum in common)
    assert all(drawn[stratum] < count for stratum, count in total.items()), "something is left to learn from"
    assert with_test_rows(TABLE, 0.2, seed=1).to_pylist() == rows
    assert [{**row, "split": "train"} for row in rows] == TABLE.to_pylist()


def test_copies_and_near_duplicates_stay_together() -> None:
    texts = ["배송이 정말 빨라서 좋았어요", "배송이 정말 빨라서 좋았어요!!", "배송이 정말 빨라서 좋았어요~"]
    rows = TABLE.slice(0, 60).to_pylist()
    for at, row in enumerate(rows[:30]):
        row["text"] = f"{at // 3}번째 {texts[at % 3]} 그래서 {at // 3}"
    table = TABLE.slice(0, 60).from_pylist(rows, TABLE.schema)
    drawn = with_test_rows(table, 0.3, seed=0)
    groups, splits = group_near_duplicates(drawn["text"].to_pylist()).tolist(), drawn["split"].to_pylist()
    assert len(set(groups)) < 60
    assert all(len({splits[i] for i, own in enumerate(groups) if own == group}) == 1 for group in set(groups))
    assert "test" in splits
