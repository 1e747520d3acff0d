"""Labels that say a part: of a few keywords, perhaps only whether the feeling is good or bad.

In: label sets beside the labels to learn from. Out: one training table, in which the column `asked` has the keywords
that a row's labelers were asked about (null: all), and `coarse` whether its scores say the sign only. What was not
asked teaches nothing: a review of such a set may speak of a keyword that no label of the set names.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import Taxonomy
from ray_app.labels import reader

ASKED = pa.field("asked", pa.list_(pa.string()))
COARSE = pa.field("coarse", pa.bool_())


def with_partial_labels(train: pa.Table, uris: Sequence[str], taxonomy: Taxonomy, on_bad_label: str) -> pa.Table:
    """`train` with the training rows of more label sets, each asked about the keywords that its labels name.

    Test and validation rows of those sets are left out. Raises UserError at a bad row.
    """
    tables = [train.select(LABELED.names)]
    for number, uri in enumerate(uris, 1):
        labels = reader.read_labels_with(uri, taxonomy, on_bad_label, partial=True).split("train", None)
        given = [label for row in labels["labels"].to_pylist() for label in row]
        asked = sorted({label["keyword"] for label in given})
        signs_alone = {label["score"] for label in given} <= {-1, 0, 1}
        signs = signs_alone and max(map(abs, taxonomy.scores)) > 1
        ids = pa.array([f"also{number}-{review_id}" for review_id in labels["review_id"].to_pylist()], pa.string())
        labels = labels.set_column(0, LABELED.field(0), ids)
        labels = labels.append_column(ASKED, pa.array([asked] * len(labels), ASKED.type))
        tables.append(labels.append_column(COARSE, pa.array([signs] * len(labels), COARSE.type)))
    return pa.concat_tables(tables, promote_options="default")


def fully_labeled(train: pa.Table) -> pa.Table:
    """The rows whose labelers were asked about every keyword."""
    if ASKED.name not in train.column_names:
        return train
    return train.filter(pc.is_null(train[ASKED.name])).select(LABELED.names)
