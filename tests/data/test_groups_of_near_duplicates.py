"""Near-identical texts are one group."""

import numpy as np

from ray_app.data.near_duplicates import group_near_duplicates
from tests.audit.test_cross_validation import TEXTS


def test_near_identical_texts_are_one_group() -> None:
    groups = group_near_duplicates(TEXTS)
    assert groups[0] == groups[1] == groups[4]
    assert len(np.unique(groups)) == 4
