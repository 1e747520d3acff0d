"""Rows that are held out where labels name none: a seeded share to validate on; and to test on, every keyword and
feeling in its share, no near-duplicate across it.

In: the number of rows, or labels. Out: row positions, the training and validation tables, or labels with test rows.
"""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa

from ray_app.arrays import Ints
from ray_app.data.near_duplicates import group_near_duplicates
from ray_app.data.rows import LabeledRow
from ray_app.data.schema import LABELED
from ray_app.errors import check
from ray_app.labels.reader import Labels

SHARE = 0.1  # the default share of held-out rows
Stratum = tuple[str, int]  # a keyword and the sign of its score


def hold_out(count: int, share: float = SHARE, seed: int = 0) -> tuple[Ints, Ints]:
    """Positions kept (ascending) and held out (in the order drawn) of `count` rows; at least one is held out."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(count * share))
    return np.sort(order[held:]), order[:held]


def draw(count: int, limit: int, seed: int = 0) -> Ints:
    """Positions (ascending) of `limit` of `count` rows, drawn by the seed; all where `limit` is 0."""
    if not limit or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def training_split(
    labels: Labels, name: str, share: float = SHARE, seed: int = 0, limit: int = 0
) -> tuple[pa.Table, pa.Table]:
    """Training and validation rows, without test rows. A seeded share is held out where no row is for validation.

    Args:
        name: what to call the labels in an error.
        limit: training rows to draw by the seed, 0 for all.

    Raises UserError where the labels have fewer than two training rows.
    """
    train, validation = labels.split("train", None), labels.split("validation")
    others = len(labels.table) - len(train)
    what = f"only {len(train)} training row" if len(train) else "no training rows"
    beside = f", {others:,} of test or validation" if others else ""
    check(len(train) > 1, f"{name}: {what}{beside}; two at least are needed")
    if not len(validation):
        kept, held = hold_out(len(train), share, seed)
        train, validation = train.take(pa.array(kept)), train.take(pa.array(held))
    return train.take(pa.array(draw(len(train), limit, seed))), validation


def with_test_rows(table: pa.Table, share: float, seed: int) -> pa.Table:
    """The table with about `share` of its rows as test rows. Rare strata are filled first, whole groups of
    near-duplicates at a time, and one stratum never gives all its rows to the test."""
    draw = _Draw(table.to_pylist())
    order = [draw.groups[i] for i in np.random.default_rng(seed).permutation(len(draw.groups))]
    for stratum in sorted(draw.total, key=lambda one: (draw.total[one], one)):
        for group in order:
            if draw.filled[stratum] >= round(share * draw.total[stratum]):
                break
            if any(stratum in draw.strata[row] for row in group):
                draw.take(group, most=1.2 * share)
    for group in order:  # what no stratum asked for
        draw.take(group, most=share)
    marked = [{**row, "split": "test" if i in draw.chosen else row["split"]} for i, row in enumerate(draw.rows)]
    return pa.Table.from_pylist(marked, schema=LABELED)


class _Draw:
    """Groups of rows that are alike, and which rows are test rows so far."""

    def __init__(self, rows: list[LabeledRow]) -> None:
        self.rows, self.chosen = rows, set[int]()
        groups: dict[int, list[int]] = defaultdict(list)
        for row, group in enumerate(group_near_duplicates([row["text"] for row in rows]).tolist()):
            groups[group].append(row)
        self.groups = list(groups.values())
        self.strata = [{(label["keyword"], int(np.sign(label["score"]))) for label in row["labels"]} for row in rows]
        self.total: Counter[Stratum] = Counter(stratum for row in self.strata for stratum in row)
        self.filled: Counter[Stratum] = Counter()

    def take(self, group: list[int], most: float) -> None:
        """Makes a group test rows, where it fits and no stratum would be left without a training row."""
        own = Counter(stratum for row in group for stratum in self.strata[row])
        fits = len(self.chosen) + len(group) <= most * len(self.rows) and group[0] not in self.chosen
        if fits and all(self.filled[one] + count < self.total[one] for one, count in own.items()):
            self.chosen |= set(group)
            self.filled += own
