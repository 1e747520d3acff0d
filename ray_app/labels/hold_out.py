"""The seeded share of rows that is held out where labels name no validation rows.

In: the number of rows, or labels. Out: row positions, or the training and validation tables.
"""

import numpy as np
import pyarrow as pa

from ray_app.arrays import Ints
from ray_app.errors import check
from ray_app.labels.reader import Labels

SHARE = 0.1  # the default share of held-out rows


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
