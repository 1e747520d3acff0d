"""Queries over a folder of analyses, answered from its Parquet files. Without Streamlit.

In: the output of jobs.analyze, local or s3://, and Filters. Out: pages of reviews, counts by keyword, score and period,
and the most telling words. The table is never loaded: a page resumes after a cursor and stops when it is full; counts
of a large catalog are taken from its first files, which are a random part of it (a unit's name is a hash), unless exact
counts are wanted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any, NotRequired, TypedDict, cast

from ray_app import storage
from ray_app.data.column_names import ROLE_NAMES, folded
from ray_app.data.rows import FindingRow
from ray_app.errors import check
from ray_app.ui.duckdb_files import Database
from ray_app.ui.filters import Filters, Parameter, column_sql, highlight_word_sql

PAGE_ROWS = 50
SAMPLE_ROWS = 500_000  # reviews that counts are taken from unless exact ones are wanted: a second or two
TOP_WORDS = 24
CHOICES = 1_000  # values of a filter that can be chosen from its list
COLUMN_NAMES = {role: ROLE_NAMES[role] for role in ("text", "product", "mall", "category", "rating", "created_at")}
DATE_TYPES = ("TIMESTAMP", "DATE", "VARCHAR")

Cell = tuple[str, int, date | None, int]  # keyword, score, period (None: without dates), findings
TopWords = dict[str, list[tuple[str, int, float]]]  # keyword -> (word, findings, mean score)


class CatalogRow(TypedDict):
    """A review of a catalog, with those of COLUMN_NAMES that the analyses kept."""

    review_id: str
    findings: list[FindingRow] | None
    truncated: bool
    text: NotRequired[str | None]
    product: NotRequired[str | None]
    mall: NotRequired[str | None]
    category: NotRequired[str | None]
    rating: NotRequired[float | None]
    created_at: NotRequired[datetime | None]


class RunRecord(TypedDict):
    """What the page shows of _run.json."""

    analysed: NotRequired[int]
    rejected: NotRequired[int]
    bundle: NotRequired[str]
    config: NotRequired[dict[str, Any]]


@dataclass(frozen=True)
class Cursor:
    """The last row that was shown: the next page begins after it."""

    file: str = ""
    row: int = -1


@dataclass(frozen=True)
class Page:
    """Reviews, and the cursor for the next page (None: this is the last one)."""

    rows: list[CatalogRow]
    next: Cursor | None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Matching reviews and their findings, counted in `read` of `total` reviews."""

    reviews: int
    read: int
    total: int
    cells: list[Cell]


def list_analyses(uri: str) -> list[storage.FileInfo]:
    """The Parquet files of a folder of analyses, by name. Raises UserError where there are none."""
    files = storage.list_files(storage.join(uri, "data"), ".parquet")
    check(files, f"{uri}: no analyses there")
    return files


class Catalog:
    """One folder of analyses and its files at that moment. Raises UserError where they cannot be read."""

    def __init__(self, uri: str, files: Sequence[storage.FileInfo], sample_rows: int = SAMPLE_ROWS) -> None:
        self.uri, self.sample_rows = uri, sample_rows
        self.uris = [file.uri for file in files]
        self.signature = hash(tuple((f.uri, f.size, f.modified) for f in files))
        self.database = Database(uri, self.uris)
        self.files = self.database.files
        description = self.database.rows("DESCRIBE SELECT * FROM read_parquet($files)", self.files[:1])
        self.types: dict[str, str] = {name: kind for name, kind, *_ in description}
        check("findings" in self.types, f"{uri}: these are not analyses (no findings column)")
        self.columns = dict(self._kept_columns())

    def _kept_columns(self) -> Iterator[tuple[str, str]]:
        """(role, the column's own name) of each of COLUMN_NAMES that was kept."""
        by_fold = {folded(name): name for name in reversed(self.types)}
        for role, names in COLUMN_NAMES.items():
            column = next((by_fold[folded(n)] for n in names if folded(n) in by_fold), None)
            if column and (role != "created_at" or self.types[column].startswith(DATE_TYPES)):
                yield role, column

    @cached_property
    def run(self) -> RunRecord | None:
        """_run.json, or None while the job is still writing."""
        uri = storage.join(self.uri, "_run.json")
        record: RunRecord | None = storage.read_json(uri) if storage.exists(uri) else None
        return record

    @cached_property
    def total(self) -> int:
        """Reviews in all files, from the job's own count or the files' footers."""
        if self.run and "analysed" in self.run:
            return int(self.run["analysed"])
        return int(self.database.rows("SELECT count(*) FROM read_parquet($files)", self.files)[0][0])

    @cached_property
    def span(self) -> tuple[date, date] | None:
        """First and last day of the reviews that are counted; None without dates."""
        if "created_at" not in self.columns:
            return None
        moment = self._column("created_at")
        sql = f"SELECT min({moment}), max({moment}) FROM read_parquet($files)"
        first, last = self.database.rows(sql, self._counted_files(exact=False))[0]
        return (first.date(), last.date()) if first else None

    @property
    def period(self) -> str:
        """The step of the trend: day, week or month."""
        days = (self.span[1] - self.span[0]).days if self.span else 0
        return "day" if days <= 31 else "week" if days <= 182 else "month"

    def page(self, filters: Filters, after: Cursor, rows: int = PAGE_ROWS) -> Page:
        """The next matching reviews after a cursor, in the order of the files."""
        start = next((i for i, uri in enumerate(self.uris) if uri >= after.file), len(self.uris))
        files = self.files[start:]
        if not files:
            return Page([], None)
        where, parameters = filters.where(self.columns)
        same_file = self.uris[start] == after.file
        limits: dict[str, Parameter] = {"first": files[0], "row": after.row if same_file else -1, "limit": rows + 1}
        kept = [f"{self._column(role)} AS {role}" for role in self.columns]
        sql = f"""SELECT {", ".join(["review_id", "findings", "truncated", *kept, "filename", "file_row_number"])}
            FROM read_parquet($files, filename = true, file_row_number = true)
            WHERE {where} AND (filename <> $first OR file_row_number > $row) LIMIT $limit"""
        reviews = self.database.dicts(sql, files, parameters | limits)
        positions = [(review.pop("filename"), review.pop("file_row_number")) for review in reviews]
        shown = cast(list[CatalogRow], reviews[:rows])  # DuckDB's rows have no types
        if len(reviews) <= rows:
            return Page(shown, None)
        file, row = positions[rows - 1]
        return Page(shown, Cursor(self.uris[self.files.index(file)], row))

    def counts(self, filters: Filters, exact: bool = False) -> Counts:
        """Findings of the matching reviews by keyword, score and period."""
        files, (where, parameters) = self._counted_files(exact), filters.where(self.columns)
        period = f"CAST(date_trunc('{self.period}', {self._column('created_at')}) AS DATE)" if self.span else "NULL"
        cells = self.database.rows(
            f"""SELECT f.keyword, f.score, period, count(*) FROM
            (SELECT unnest(findings) AS f, {period} AS period FROM read_parquet($files) WHERE {where})
            GROUP BY ALL ORDER BY ALL""",
            files,
            parameters,
        )
        matching, read = self.database.rows(
            f"SELECT count(*) FILTER ({where}), count(*) FROM read_parquet($files)", files, parameters
        )[0]
        total = max(read, self.total)
        return Counts(reviews=matching, read=read, total=total, cells=[(k, s, p, n) for k, s, p, n in cells])

    def words(self, filters: Filters, exact: bool = False) -> TopWords:
        """Per keyword its TOP_WORDS highlight words, by the sum of their drops."""
        where, parameters = filters.where(self.columns)
        rows = self.database.rows(
            f"""SELECT keyword, word, count(*), avg(score) FROM
            (SELECT f.keyword AS keyword, {highlight_word_sql("f")} AS word, f.score AS score, f.highlight.drop AS fall
            FROM (SELECT unnest(findings) AS f FROM read_parquet($files) WHERE {where}) WHERE fall > 0)
            GROUP BY keyword, word
            QUALIFY row_number() OVER (PARTITION BY keyword ORDER BY sum(fall) DESC, word) <= $top
            ORDER BY keyword, sum(fall) DESC, word""",
            self._counted_files(exact),
            {**parameters, "top": TOP_WORDS},
        )
        words: TopWords = {}
        for keyword, word, count, score in rows:
            words.setdefault(keyword, []).append((word, count, score))
        return words

    def choices(self, role: str) -> list[str]:
        """The most frequent values of product, mall or category, in alphabetical order."""
        value = self._column(role)
        sql = f"""SELECT {value} FROM read_parquet($files) WHERE {value} IS NOT NULL
            GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT $limit"""
        rows = self.database.rows(sql, self._counted_files(exact=False), {"limit": CHOICES})
        return sorted(value for (value,) in rows)

    def _counted_files(self, exact: bool) -> list[str]:
        """All files, or the first ones that hold about `sample_rows` reviews."""
        share = 1.0 if exact else min(1.0, self.sample_rows / max(1, self.total))
        return self.files[: math.ceil(share * len(self.files))]

    def _column(self, role: str) -> str:
        return column_sql(role, self.columns[role])
