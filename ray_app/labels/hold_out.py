"""The seeded share of rows that is held out where labels name no validation rows."""

import numpy as np
import pyarrow as pa

from ray_app.arrays import Ints
from ray_app.errors import check
from ray_app.labels.reader import Labels

SHARE = 0.1  # what is held out where nobody says otherwise


def hold_out(count: int, share: float = SHARE, seed: int = 0) -> tuple[Ints, Ints]:
    """Positions kept (ascending) and held out (as drawn) of `count` rows; at least one is held out."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(count * share))
    return np.sort(order[held:]), order[:held]


def draw(count: int, limit: int, seed: int = 0) -> Ints:
    """Positions (ascending) of `limit` rows drawn by the seed; all where `limit` is 0."""
    if not limit or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def training_split(
    labels: Labels, place: str, share: float = SHARE, seed: int = 0, limit: int = 0
) -> tuple[pa.Table, pa.Table]:
    """Training and validation rows; test rows take no part. Without validation rows a seeded share is held out.

    Args:
        place: what to call the labels in an error.
        limit: training rows to draw by the seed, 0 for all.
    Raises: UserError where fewer than two training rows are left.
    """
    train, validation = labels.split("train", None), labels.split("validation")
    check(len(train) > 1, f"{place}: no training rows (only test or validation)")
    if not len(validation):
        kept, held = hold_out(len(train), share, seed)
        train, validation = train.take(pa.array(kept)), train.take(pa.array(held))
    return train.take(pa.array(draw(len(train), limit, seed))), validation
