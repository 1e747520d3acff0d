"""Decisions about labels as rows of a table, wherever they were made."""

from datetime import datetime
from typing import TypedDict

import pyarrow as pa

from ray_app.data.rows import LabelRow
from ray_app.data.schema import LABEL

DECISIONS = pa.schema(
    [
        ("review_id", pa.string()),
        ("keyword", pa.string()),
        ("action", pa.string()),
        ("score", pa.int8()),
        ("who", pa.string()),
        ("when", pa.timestamp("us", "UTC")),
        ("place", pa.string()),
        ("labels", pa.list_(LABEL)),
    ]
)
RELABEL = "relabel"  # of the page alone: the review gets `labels` in place of its own


class DecisionRow(TypedDict):
    """A row of DECISIONS: a keyword (None: the whole review), its score after `fix`, and the decision's location;
    `labels` are those of the review after RELABEL."""

    review_id: str
    keyword: str | None
    action: str
    score: int | None
    who: str | None
    when: datetime | None
    place: str
    labels: list[LabelRow] | None
