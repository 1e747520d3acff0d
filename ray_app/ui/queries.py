"""Questions to a folder of analyses, answered out of its Parquet files. Without Streamlit.

In: OUT of jobs.analyze, local or s3://, and Filters. Out: pages of reviews, counts by keyword, score and period, and
the most telling words. The table is never loaded: a page reads on from a place and stops when it is full; counts of a
large catalog are taken from its first files, a random part of it (a unit's name is a hash), unless all is asked.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from ray_app import storage
from ray_app.data.columns import TEXT_NAMES, folded
from ray_app.errors import check
from ray_app.ui.duckdb_files import Database
from ray_app.ui.filters import Filters, value_of, word_of

PAGE_ROWS = 200
SAMPLE_ROWS = 500_000  # reviews that counts are taken from unless all are asked for: a second or two
TOP_WORDS = 24
CHOICES = 200
NAMES = {
    "text": TEXT_NAMES,
    "product": ("product", "product_name", "product_id", "item", "상품", "상품명"),
    "mall": ("mall", "shop", "store", "쇼핑몰", "몰"),
    "category": ("category", "product_category", "카테고리"),
    "rating": ("rating", "stars", "star", "평점", "별점"),
    "created_at": ("created_at", "created", "date", "written_at", "작성일", "날짜"),
}
DATED = ("TIMESTAMP", "DATE", "VARCHAR")


@dataclass(frozen=True)
class Place:
    """The last row that was shown: reading goes on behind it."""

    file: str = ""
    row: int = -1


@dataclass(frozen=True)
class Page:
    """Reviews as dicts (review_id, findings, truncated, and of NAMES what was kept), and where the next page begins."""

    rows: list[dict[str, Any]]
    next: Place | None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """`cells` are (keyword, score, period or None, findings); all counted in `read` of `total` reviews."""

    reviews: int
    read: int
    total: int
    cells: list[tuple[str, int, date | None, int]]


def files_of(uri: str) -> list[storage.FileInfo]:
    """The Parquet files of a folder of analyses, by name. Raises UserError where there are none."""
    files = storage.list_files(storage.join(uri, "data"), ".parquet")
    check(files, f"{uri}: no analyses there")
    return files


class Catalog:
    """One folder of analyses and the files it had. Raises UserError where they cannot be read."""

    def __init__(self, uri: str, files: Sequence[storage.FileInfo], sample_rows: int = SAMPLE_ROWS) -> None:
        self.uri, self.sample_rows = uri, sample_rows
        self.uris = [file.uri for file in files]
        self.signature = hash(tuple((f.uri, f.size, f.modified) for f in files))
        self.database = Database(uri, self.uris)
        self.files = self.database.files
        found = self.database.rows("DESCRIBE SELECT * FROM read_parquet($files)", self.files[:1])
        self.types = {name: kind for name, kind, *_ in found}
        check("findings" in self.types, f"{uri}: these are not analyses (no findings column)")
        self.columns = dict(self._kept())

    def _kept(self) -> Iterator[tuple[str, str]]:
        """(what it is, the column's own name) of each of NAMES that was kept."""
        by_fold = {folded(name): name for name in reversed(self.types)}
        for role, names in NAMES.items():
            column = next((by_fold[folded(n)] for n in names if folded(n) in by_fold), None)
            if column and (role != "created_at" or self.types[column].startswith(DATED)):
                yield role, column

    @cached_property
    def run(self) -> dict[str, Any] | None:
        """_run.json, or None while the job is still writing."""
        uri = storage.join(self.uri, "_run.json")
        content: dict[str, Any] | None = storage.read_json(uri) if storage.exists(uri) else None
        return content

    @cached_property
    def total(self) -> int:
        """Reviews in all files, from the job's own count or the files' footers."""
        if self.run and "analysed" in self.run:
            return int(self.run["analysed"])
        return int(self.database.rows("SELECT count(*) FROM read_parquet($files)", self.files)[0][0])

    @cached_property
    def span(self) -> tuple[date, date] | None:
        """First and last day of what counts are taken from, None without dates."""
        if "created_at" not in self.columns:
            return None
        at = self._value("created_at")
        sql = f"SELECT min({at}), max({at}) FROM read_parquet($files)"
        first, last = self.database.rows(sql, self._part(False))[0]
        return (first.date(), last.date()) if first else None

    @property
    def period(self) -> str:
        """How long a step of the trend is: day, week or month."""
        days = (self.span[1] - self.span[0]).days if self.span else 0
        return "day" if days <= 31 else "week" if days <= 182 else "month"

    def page(self, filters: Filters, behind: Place, rows: int = PAGE_ROWS) -> Page:
        """The next reviews behind a place, in the order of the files."""
        start = next((i for i, uri in enumerate(self.uris) if uri >= behind.file), len(self.uris))
        files = self.files[start:]
        if not files:
            return Page([], None)
        where, values = filters.where(self.columns)
        resumed = self.uris[start] == behind.file
        values |= {"first": files[0], "row": behind.row if resumed else -1, "limit": rows + 1}
        wanted = [f"{self._value(role)} AS {role}" for role in self.columns]
        sql = f"""SELECT {", ".join(["review_id", "findings", "truncated", *wanted, "filename", "file_row_number"])}
            FROM read_parquet($files, filename = true, file_row_number = true)
            WHERE {where} AND (filename <> $first OR file_row_number > $row) LIMIT $limit"""
        found = self.database.dicts(sql, files, values)
        at = [(row.pop("filename"), row.pop("file_row_number")) for row in found]
        more = len(found) > rows
        last = Place(self.uris[self.files.index(at[rows - 1][0])], at[rows - 1][1]) if more else None
        return Page(found[:rows], last)

    def counts(self, filters: Filters, everything: bool = False) -> Counts:
        """Findings of the matching reviews by keyword, score and period."""
        files, where, values = self._part(everything), *filters.where(self.columns)
        moment = f"CAST(date_trunc('{self.period}', {self._value('created_at')}) AS DATE)" if self.span else "NULL"
        cells = self.database.rows(
            f"""SELECT f.keyword, f.score, moment, count(*) FROM
            (SELECT unnest(findings) AS f, {moment} AS moment FROM read_parquet($files) WHERE {where})
            GROUP BY ALL ORDER BY ALL""",
            files,
            values,
        )
        matching, read = self.database.rows(
            f"SELECT count(*) FILTER ({where}), count(*) FROM read_parquet($files)", files, values
        )[0]
        return Counts(reviews=matching, read=read, total=max(read, self.total), cells=[tuple(cell) for cell in cells])

    def words(self, filters: Filters, everything: bool = False) -> dict[str, list[tuple[str, int, float]]]:
        """Per keyword its TOP_WORDS highlight words: (word, findings, mean score), by the sum of their drops."""
        where, values = filters.where(self.columns)
        found = self.database.rows(
            f"""SELECT keyword, word, count(*), avg(score) FROM
            (SELECT f.keyword AS keyword, {word_of("f")} AS word, f.score AS score, f.highlight.drop AS fall FROM
            (SELECT unnest(findings) AS f FROM read_parquet($files) WHERE {where}) WHERE fall > 0)
            GROUP BY keyword, word
            QUALIFY row_number() OVER (PARTITION BY keyword ORDER BY sum(fall) DESC, word) <= $top
            ORDER BY keyword, sum(fall) DESC, word""",
            self._part(everything),
            {**values, "top": TOP_WORDS},
        )
        words: dict[str, list[tuple[str, int, float]]] = {}
        for keyword, word, count, score in found:
            words.setdefault(keyword, []).append((word, count, score))
        return words

    def choices(self, role: str) -> list[str]:
        """The most frequent values of mall or category, in alphabetical order."""
        value = self._value(role)
        sql = f"""SELECT {value} FROM read_parquet($files) WHERE {value} IS NOT NULL
            GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT $limit"""
        return sorted(row[0] for row in self.database.rows(sql, self._part(False), {"limit": CHOICES}))

    def _part(self, everything: bool) -> list[str]:
        share = 1.0 if everything else min(1.0, self.sample_rows / max(1, self.total))
        return self.files[: math.ceil(share * len(self.files))]

    def _value(self, role: str) -> str:
        return value_of(role, self.columns[role])
