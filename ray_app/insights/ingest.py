"""One pass over analyses of any size -> the numbers that a report needs. In: a folder of analyses. Out: a Store, facts.

Files are read in batches, only the columns and fields that count; texts are not read here. What is kept of a review is
its groups, day, rating and findings as numbers, in the Store's own file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_app.arrays import Doubles, Floats, Ints
from ray_app.data import analyses
from ray_app.data.analyses import Analyses
from ray_app.data.column_names import ROLE_NAMES, folded
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import check
from ray_app.insights.store import BATCH, LEVELS, SCORES, Store

BINS = 20  # of a histogram of probabilities
NEAR = 0.1  # from a threshold: a keyword there was nearly (not) found
LONGEST_WORD = 40
EPOCH = date(1970, 1, 1)
FIRST_DAY = (date(1990, 1, 1) - EPOCH).days  # of a review, at the earliest
WORDS = ("highlight", "opinion")  # the roles of a finding's words, by number
PUNCTUATION = ".,!?~…'\"()[]:;·"
FIELDS = ("findings.keyword", "findings.score", "findings.highlight.word", "findings.opinion.word")


@dataclass
class Facts:
    """What was counted besides: reviews, those without any finding, truncated ones, unsure ones, and the histograms."""

    reviews: int = 0
    nothing_found: int = 0
    truncated: int = 0
    unsure: int = 0
    rated: int = 0
    dated: int = 0
    probabilities: Doubles = field(default_factory=lambda: np.zeros((0, BINS)))  # [keywords of the taxonomy, BINS]
    columns: dict[str, str] = field(default_factory=dict)  # role -> column


def roles(source: Analyses) -> dict[str, str]:
    """Role -> the analyses' column for it, of those that a report can use."""
    by_fold = {folded(name): name for name in reversed(source.columns)}
    found = {
        role: next((by_fold[folded(name)] for name in ROLE_NAMES[role] if folded(name) in by_fold), None)
        for role in ("product", "category", "mall", "rating", "created_at", "text")
    }
    return {role: column for role, column in found.items() if column}


def ingest(
    source: Analyses, store: Store, taxonomy: Taxonomy | None, thresholds: Floats | None, ids: bool = False
) -> Facts:
    """Fills the store. Raises UserError where the files are not analyses.

    Args:
        taxonomy, thresholds: of the bundle that made the analyses, where it is known.
        ids: also read the reviews' ids, by which another run's are told to be the same.
    """
    check("findings" in source.columns, f"{source.uri}: these are not analyses (no findings column)")
    reader = _Reader(store, roles(source), taxonomy, thresholds)
    kept = [column for role, column in reader.facts.columns.items() if role != "text"]
    more: list[str] = [name for name in ("truncated", "keyword_probabilities") if name in source.columns]
    more += ["review_id"] if ids else []
    for positions, table in analyses.stream(source, [*kept, *more, *FIELDS], BATCH, threads=True):
        reader.add(positions, table)
    check(reader.facts.reviews, f"{source.uri}: no reviews in these analyses")
    store.keywords = list(reader.keywords)
    store.names = {level: list(reader.values[level]) for level in LEVELS if level != "all"}
    return reader.facts


class _Reader:
    """Turns batches into numbers; equal names have equal numbers throughout."""

    def __init__(
        self, store: Store, columns: dict[str, str], taxonomy: Taxonomy | None, thresholds: Floats | None
    ) -> None:
        self.store, self.facts, self.thresholds = store, Facts(columns=columns), thresholds
        self.keywords = {name: i for i, name in enumerate(taxonomy.names if taxonomy else ())}
        self.values: dict[str, dict[str, int]] = {level: {} for level in LEVELS if level != "all"}

    def add(self, positions: Ints, table: pa.Table) -> None:
        """Appends a batch."""
        findings = table["findings"].combine_chunks()
        flat = findings.flatten()
        codes, offsets = self._codes(flat), _offsets(findings)
        identity = _shared(table["review_id"]) if "review_id" in table.column_names else positions
        columns: dict[str, Any] = {"id": identity, "pos": positions}
        for level in ("category", "mall", "product"):
            columns[level] = self._numbers(table, level)
        columns["day"] = _days(table, self.facts.columns.get("created_at"))
        columns["rating"] = _ratings(table, self.facts.columns.get("rating"))
        columns["codes"] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(codes, pa.uint16()))
        batch = pa.table(columns)
        self.store.add("reviews", batch)
        self._add_words(flat, codes)
        self._count(table, batch, offsets)

    def _codes(self, flat: pa.StructArray) -> Ints:
        encoded = flat.field("keyword").dictionary_encode()
        names = [str(name) for name in encoded.dictionary.to_pylist()]
        numbers = np.array([self.keywords.setdefault(name, len(self.keywords)) for name in names] or [0], np.int64)
        which = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        score = flat.field("score").to_numpy(zero_copy_only=False).astype(np.int64)
        return np.asarray(numbers[which] * SCORES + np.clip(score, -2, 2) + 2)

    def _numbers(self, table: pa.Table, level: str) -> pa.Array:
        """The number of each row's value, -1 where it has none."""
        column = self.facts.columns.get(level)
        if column is None:
            return pa.array(np.full(len(table), -1, np.int32))
        values = table[column].combine_chunks()
        encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        known = self.values[level]
        names = [None if name is None else str(name) for name in encoded.dictionary.to_pylist()]
        numbers = np.array([-1 if n is None or not n else known.setdefault(n, len(known)) for n in names] + [-1])
        which = pc.fill_null(encoded.indices.cast(pa.int32()), len(names)).to_numpy(zero_copy_only=False)
        return pa.array(numbers[which].astype(np.int32))

    def _add_words(self, flat: pa.StructArray, codes: Ints) -> None:
        signed = codes // SCORES * 2 + (codes % SCORES < 2)
        for role, name in enumerate(WORDS):
            if flat.type.get_field_index(name) < 0:  # analyses of earlier releases have no opinions
                continue
            words = pc.struct_field(flat.field(name), "word").dictionary_encode()
            if not len(words.dictionary):
                continue
            known = pc.fill_null(words.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
            said = (known >= 0) & (codes % SCORES != 2)
            cells, counts = np.unique(signed[said] * len(words.dictionary) + known[said], return_counts=True)
            which, sign = cells % len(words.dictionary), cells // len(words.dictionary)
            columns = {
                "keyword": pa.array((sign // 2).astype(np.uint16)),
                "negative": pa.array(sign % 2 == 1),
                "role": pa.array(np.full(len(cells), role, np.uint8)),
                "word": _bare(words.dictionary).take(pa.array(which)),
                "n": pa.array(counts),
            }
            self.store.add("words", pa.table(columns))

    def _count(self, table: pa.Table, batch: pa.Table, offsets: Ints) -> None:
        facts = self.facts
        facts.reviews += len(table)
        facts.nothing_found += int((np.diff(offsets) == 0).sum())
        facts.rated += len(table) - batch["rating"].null_count
        facts.dated += len(table) - batch["day"].null_count
        if "truncated" in table.column_names:
            facts.truncated += int(pc.sum(table["truncated"]).as_py() or 0)
        if "keyword_probabilities" in table.column_names:
            matrix = analyses.matrix(table["keyword_probabilities"])
            thresholds = self.thresholds if self.thresholds is not None else np.full(matrix.shape[1], 0.5, np.float32)
            if matrix.shape[1] == len(thresholds):
                facts.unsure += int((np.abs(matrix - thresholds) < NEAR).any(1).sum())
            counts = histograms(matrix)
            facts.probabilities = counts + (facts.probabilities if len(facts.probabilities) else 0)


def histograms(matrix: Floats) -> Doubles:
    """[rows, keywords] probabilities -> [keywords, BINS] counts."""
    keywords = matrix.shape[1]
    bins = np.minimum((matrix * BINS).astype(np.int32), BINS - 1) + np.arange(keywords, dtype=np.int32) * BINS
    counts = np.bincount(bins.reshape(-1), minlength=keywords * BINS)
    return counts.reshape(keywords, BINS).astype(np.float64)


def _bare(words: pa.Array) -> pa.Array:
    """Words without the punctuation around them, where anything else is left, and not too long to show."""
    words = words.cast(pa.string())
    bare = pc.utf8_trim(words, characters=PUNCTUATION)
    return pc.utf8_slice_codeunits(pc.if_else(pc.equal(bare, ""), words, bare), 0, LONGEST_WORD)


def _shared(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids by which two runs know one review: null for `file#row`, which was made up and is another review elsewhere."""
    ids = ids.cast(pa.string())
    return pc.if_else(pc.match_substring_regex(ids, r"#\d+$"), None, ids)


def _offsets(lists: pa.ListArray) -> Ints:
    """[rows + 1] where each row's findings begin, from 0; a null list has none."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])


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
    return pa.array([_day(text) for text in values.cast(pa.string()).to_pylist()], pa.int32())


def _day(text: str | None) -> int | None:
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


def taxonomy_names(names: Sequence[str], taxonomy: Taxonomy | None, facts: Facts) -> Mapping[int, str]:
    """Row of `facts.probabilities` -> keyword, where the taxonomy is known."""
    if taxonomy is None or len(taxonomy.names) != len(facts.probabilities):
        return {}
    return dict(enumerate(taxonomy.names))
