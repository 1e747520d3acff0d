"""Names for the kinds of numpy arrays that functions here take and return, and a way to draw from a row of things."""

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

Flags = NDArray[np.bool_]

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def evenly(count: int, most: int) -> Ints:
    """The positions of up to `most` of so many things, evenly drawn from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
