"""A batch of analyses as the few numbers that a report needs. In: a table. Out: a Part, wherever it was read.

Names (keywords, products, words) are numbered within their Part; who gathers the Parts gives equal names equal numbers.
"""

import re
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_app.arrays import Doubles, Floats, Ints
from ray_app.data import analyses
from ray_app.insights.store import LEVELS, SCORES

BINS = 20  # of a histogram of probabilities
NEAR = 0.1  # from a threshold: a keyword there was nearly (not) found
LONGEST_WORD = 40
EPOCH = date(1970, 1, 1)
FIRST_DAY = (date(1990, 1, 1) - EPOCH).days  # of a review, at the earliest
WORDS = ("highlight", "opinion")  # the roles of a finding's words, by number
PUNCTUATION = ".,!?~…'\"()[]:;·"
FIELDS = ("findings.keyword", "findings.score", "findings.highlight.word", "findings.opinion.word")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is read of analyses: role -> column, further columns, and the thresholds of the bundle that made them."""

    roles: dict[str, str]
    more: tuple[str, ...]
    thresholds: Floats | None

    @property
    def columns(self) -> list[str]:
        """The columns and fields to read; no texts."""
        return [*(column for role, column in self.roles.items() if role != "text"), *self.more, *FIELDS]


@dataclass(frozen=True, kw_only=True)
class Coded:
    """Names, and for every row (or finding) the number of its name, -1 for none."""

    names: list[str]
    numbers: Ints


@dataclass(frozen=True, kw_only=True)
class Part:
    """The batch: arrays over its reviews, and over their findings one after another.

    `codes` are keyword * SCORES + score + 2 with the keyword's number in `keywords`; `words` are per role, None where
    the analyses have none; `histogram` is [keywords of the bundle, BINS], empty without probabilities.
    """

    positions: Ints
    ids: pa.Array | None
    levels: dict[str, Coded]
    day: pa.Array
    rating: pa.Array
    keywords: list[str]
    codes: Ints
    lengths: Ints
    words: tuple[Coded | None, ...]
    histogram: Doubles
    truncated: int
    unsure: int


def part(positions: Ints, table: pa.Table, wanted: Wanted) -> Part:
    """A Part of the rows at `positions`, read with the columns of `wanted`."""
    findings = table["findings"].combine_chunks()
    flat = findings.flatten()
    keyword = _coded(pc.fill_null(flat.field("keyword").cast(pa.string()), "?"))
    score = flat.field("score").to_numpy(zero_copy_only=False).astype(np.int64)
    histogram, unsure = _probabilities(table, wanted.thresholds)
    truncated = pc.sum(table["truncated"]).as_py() if "truncated" in table.column_names else 0
    return Part(
        positions=positions,
        ids=_shared(table["review_id"]) if "review_id" in table.column_names else None,
        levels={level: _level(table, wanted.roles.get(level)) for level in LEVELS if level != "all"},
        day=_days(table, wanted.roles.get("created_at")),
        rating=_ratings(table, wanted.roles.get("rating")),
        keywords=keyword.names,
        codes=keyword.numbers * SCORES + np.clip(score, -2, 2) + 2,
        lengths=pc.fill_null(pc.list_value_length(findings), 0).to_numpy(zero_copy_only=False).astype(np.int64),
        words=tuple(_words(flat, role) for role in WORDS),
        histogram=histogram,
        truncated=int(truncated or 0),
        unsure=unsure,
    )


def _coded(column: pa.Array | pa.ChunkedArray) -> Coded:
    """The values as text, numbered; null and empty text are no names."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    names = ["" if name is None else str(name) for name in encoded.dictionary.to_pylist()]
    some = np.array([number if name else -1 for number, name in enumerate(names)] + [-1], np.int64)
    which = pc.fill_null(encoded.indices.cast(pa.int64()), len(names)).to_numpy(zero_copy_only=False)
    return Coded(names=names, numbers=some[which])


def _level(table: pa.Table, column: str | None) -> Coded:
    return _coded(table[column]) if column else Coded(names=[], numbers=np.full(len(table), -1, np.int64))


def _words(flat: pa.StructArray, role: str) -> Coded | None:
    """The words of a role, shortened; None for analyses of earlier releases, which have no opinions."""
    if flat.type.get_field_index(role) < 0:
        return None
    words = pc.struct_field(flat.field(role), "word").dictionary_encode()
    return _coded(pa.DictionaryArray.from_arrays(words.indices, _bare(words.dictionary)))


def _bare(words: pa.Array) -> pa.Array:
    """Words without the punctuation around them, where anything else is left, and not too long to show."""
    words = words.cast(pa.string())
    bare = pc.utf8_trim(words, characters=PUNCTUATION)
    return pc.utf8_slice_codeunits(pc.if_else(pc.equal(bare, ""), words, bare), 0, LONGEST_WORD)


def _shared(ids: pa.ChunkedArray) -> pa.Array:
    """Ids by which two runs know one review: null for `file#row`, which was made up and is another review elsewhere."""
    ids = ids.combine_chunks().cast(pa.string())
    return pc.if_else(pc.match_substring_regex(ids, r"#\d+$"), None, ids)


def _probabilities(table: pa.Table, thresholds: Floats | None) -> tuple[Doubles, int]:
    """(histogram, reviews with a keyword near its threshold)."""
    if "keyword_probabilities" not in table.column_names:
        return np.zeros((0, BINS)), 0
    matrix = analyses.matrix(table["keyword_probabilities"])
    if thresholds is None:
        thresholds = np.full(matrix.shape[1], 0.5, np.float32)
    known = matrix.shape[1] == len(thresholds)
    return histograms(matrix), int((np.abs(matrix - thresholds) < NEAR).any(1).sum()) if known else 0


def histograms(matrix: Floats) -> Doubles:
    """[rows, keywords] probabilities -> [keywords, BINS] counts."""
    keywords = matrix.shape[1]
    bins = np.minimum((matrix * BINS).astype(np.int32), BINS - 1) + np.arange(keywords, dtype=np.int32) * BINS
    counts = np.bincount(bins.reshape(-1), minlength=keywords * BINS)
    return counts.reshape(keywords, BINS).astype(np.float64)


def _days(table: pa.Table, column: str | None) -> pa.Array:
    """Days since 1970; null where a row has no date that can be read, or one that no review can have.

    One odd date would stretch the series of every product over centuries.
    """
    if column is None:
        return pa.nulls(len(table), pa.int32())
    days = _any_days(table, column)
    last = (date.today() - EPOCH).days + 366  # clocks and typing errors of a year are kept
    return pc.if_else(pc.and_(pc.greater_equal(days, FIRST_DAY), pc.less_equal(days, last)), days, None)


def _any_days(table: pa.Table, column: str) -> pa.Array:
    values = table[column].combine_chunks()
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
        if values.type.tz:
            values = pc.local_timestamp(values)
        return values.cast(pa.date32(), safe=False).cast(pa.int32())
    if pa.types.is_date(values.type):
        return values.cast(pa.date32()).cast(pa.int32())
    return pa.array([day_of(text) for text in values.cast(pa.string()).to_pylist()], pa.int32())


def day_of(text: str | None) -> int | None:
    """`2026-03-01…`, `2026. 3. 1.`, `26.03.01`, `2026년 3월 1일`, `20260301…` -> days since 1970."""
    parts = re.findall(r"\d+", text or "")
    if parts and len(parts[0]) >= 8:
        parts = [parts[0][:4], parts[0][4:6], parts[0][6:8]]
    if len(parts) < 3 or len(parts[0]) not in (2, 4):
        return None
    try:
        year, month, day = map(int, parts[:3])
        return (date(year + 2000 if len(parts[0]) == 2 else year, month, day) - EPOCH).days
    except (ValueError, OverflowError):
        return None


def _ratings(table: pa.Table, column: str | None) -> pa.Array:
    """Ratings as floats; null where a row has none."""
    if column is None:
        return pa.nulls(len(table), pa.float32())
    values = table[column].combine_chunks()
    if not pa.types.is_integer(values.type) and not pa.types.is_floating(values.type):
        return pa.array([_number(value) for value in values.to_pylist()], pa.float32())
    floats = values.cast(pa.float32(), safe=False)
    return pc.if_else(pc.is_finite(floats), floats, pa.scalar(None, pa.float32()))


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
