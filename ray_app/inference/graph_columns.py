"""The columns by which stages hand on what they found: Arrow lists per review, as arrays and back.

In: a table of the graph, or arrays. Out: arrays over reviews, tokens or findings; the table with one more column.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_app.arrays import Flags, Floats, Ints
from ray_app.engine.ragged import Sequences, offsets_of
from ray_app.engine.tokenizer import TokenizedReviews
from ray_app.inference.masking import above_threshold

if TYPE_CHECKING:
    from ray_app.inference.runtime import BundleRuntime

TOKENS = "_tokens"  # what the first stage cut a review into, so that no other does it again


def with_tokens(table: pa.Table, tokens: TokenizedReviews) -> pa.Table:
    """The table with the tokens of its texts, as the model reads them: a list of ids and spans per review."""
    columns = [pa.array(values.astype(np.int32)) for values in (tokens.sequences.ids, tokens.start, tokens.end)]
    flat = pa.StructArray.from_arrays(columns, ["id", "start", "end"])
    return table.append_column(TOKENS, pa.LargeListArray.from_arrays(pa.array(tokens.sequences.offsets), flat))


def tokens_of(table: pa.Table, runtime: "BundleRuntime") -> TokenizedReviews:
    """The tokens of a table's texts: those that it brings along, else found now."""
    if TOKENS not in table.column_names:
        return runtime.tokenize(table["text"].to_pylist())[0]
    column = table[TOKENS].combine_chunks()
    ids, start, end = (field.to_numpy().astype(np.int64) for field in column.flatten().flatten())
    lengths = column.value_lengths().to_numpy()
    return TokenizedReviews(Sequences(ids, offsets_of(lengths)), start, end)


def without_tokens(table: pa.Table) -> pa.Table:
    """The table for other texts in place of its own."""
    return table.drop_columns([TOKENS]) if TOKENS in table.column_names else table


def with_keywords(table: pa.Table, probabilities: Floats, cut: Flags) -> pa.Table:
    """The table with [reviews, keywords] probabilities and [reviews] whether a review was cut."""
    size = pa.list_(pa.float32())
    column = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.reshape(-1)), probabilities.shape[1])
    return table.append_column("keyword_probabilities", column.cast(size)).append_column("truncated", pa.array(cut))


def score_grid(table: pa.Table, scores: int) -> Floats:
    """[findings, scores] of a table's `scores`."""
    flat = table["scores"].combine_chunks().flatten().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(-1, scores), np.float32)


def probability_matrix(table: pa.Table, keywords: int) -> Floats:
    """[reviews, keywords] of a table's `keyword_probabilities`."""
    flat = table["keyword_probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(table), keywords), np.float32)


def found_keywords(table: pa.Table, thresholds: Sequence[float]) -> tuple[Ints, Ints]:
    """(review, keyword) positions of every probability that reaches its keyword's threshold, by review.

    A row's own threshold (`_threshold`) replaces them; `_top_k` keeps its most probable keywords only.
    """
    probabilities = probability_matrix(table, len(thresholds))
    own = row_option(table, "_threshold", np.nan).astype(np.float32)[:, None]
    limits = np.where(np.isnan(own), np.asarray(thresholds, np.float32), own)
    review, keyword = above_threshold(probabilities, limits)
    ranked = np.where(probabilities >= limits, -probabilities, 1.0)  # what is not found ranks last
    rank = ranked.argsort(1, kind="stable").argsort(1)  # the first of two equals comes first
    among = rank[review, keyword] < row_option(table, "_top_k", len(thresholds))[review]
    return review[among], keyword[among]


def row_option(table: pa.Table, name: str, default: float | bool) -> NDArray[Any]:
    """[reviews] an option per row, `default` where a row has none; of the option's own type."""
    if name not in table.column_names:
        return np.full(len(table), default)
    return np.asarray(table[name].fill_null(default).to_numpy())


def nested(values: pa.Array, review: Ints, rows: int) -> pa.ListArray:
    """Values per finding, ordered by review -> one list per review."""
    offsets = np.searchsorted(review, np.arange(rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
