"""Names for the kinds of numpy arrays that functions here take and return."""

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

Flags = NDArray[np.bool_]

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
