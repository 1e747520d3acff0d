"""A small database of what the analyses say, in a private folder that goes away: nothing here grows with memory.

In: batches of reviews as numbers, from `reading/`. Out: counts by group, keyword and period, and the reviews again as
batches of numbers. A finding is one number, its code: keyword * 5 + score + 2.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import duckdb
import numpy as np
import pyarrow as pa

from ray_app.arrays import Doubles, Ints
from ray_app.errors import UserError, first_line
from ray_app.storage import node_cache

Row = dict[str, Any]  # a row of a table, as its schema says
Level = Literal["all", "category", "mall", "product"]
LEVELS: tuple[Level, ...] = ("all", "category", "mall", "product")
SIDES = ("negative", "neutral", "positive")
SCORES = 5  # codes per keyword
MEMORY = "700MB"  # DuckDB's; what does not fit goes to its folder
BATCH = 131_072
BLOCK_BITS, BLOCKS = (
    15,
    24,
)  # 2 to that power are rows near one another; how many such blocks are enough
SAID = "CREATE OR REPLACE TABLE said(cell USMALLINT, role UTINYINT, word UINTEGER)"  # a row per word, by its number


@dataclass
class Store:
    """One database; use it as a context. `keywords` and `names` say what the numbers stand for."""

    keywords: list[str] = field(default_factory=list)
    names: dict[Level, list[str]] = field(default_factory=dict)
    period: str = "month"
    first_day: int = 0  # of the first period, days since 1970
    periods: int = 0

    def __enter__(self) -> "Store":
        self.folder, self.lock = _own_folder(node_cache.path_of("report"))
        settings: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,  # nothing may leave the machine
            "autoload_known_extensions": False,
            "memory_limit": MEMORY,
            "temp_directory": self.folder,
            "preserve_insertion_order": False,
        }
        try:
            self.connection = duckdb.connect(f"{self.folder}/report.db", config=settings)
            self.run(
                "CREATE TABLE reviews(id UBIGINT, pos BIGINT, category INTEGER, mall INTEGER, product INTEGER,"
                " day INTEGER, rating FLOAT, codes USMALLINT[])"
            )
            self.run("CREATE TABLE words(keyword USMALLINT, negative BOOLEAN, role UTINYINT, word VARCHAR, n BIGINT)")
            self.run(SAID)
        except duckdb.Error as failed:
            self._remove()
            raise _one_line(self.folder, failed) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        self._remove()
        if isinstance(error, duckdb.Error):  # a full disk, as a rule
            raise _one_line(self.folder, error) from error

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.close()

    def run(self, sql: str) -> None:
        """Executes a statement."""
        self.connection.execute(sql)

    def add(self, table: str, batch: pa.Table) -> None:
        """Appends rows to a table; a column `id` as its hash, null as null."""
        self.connection.register("batch", batch)
        columns = "* REPLACE (if(id IS NULL, NULL, hash(id)) AS id)" if "id" in batch.column_names else "*"
        self.connection.execute(f"INSERT INTO {table} SELECT {columns} FROM batch")
        self.connection.unregister("batch")

    def name_words(self, words: Sequence[str]) -> None:
        """Counts the words said so far by what their numbers stand for; the next ones may have the same numbers."""
        self.connection.register("vocabulary", pa.table({"number": np.arange(len(words)), "word": pa.array(words)}))
        self.run(
            """INSERT INTO words SELECT cell // 2, cell % 2 = 1, role, vocabulary.word, n
            FROM (SELECT cell, role, word, count(*) AS n FROM said GROUP BY ALL) counted
            JOIN vocabulary ON vocabulary.number = counted.word"""
        )
        self.connection.unregister("vocabulary")
        self.run(SAID)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a small result."""
        return self.connection.execute(sql, list(parameters)).fetchall()

    def columns(self, sql: str, parameters: Sequence[object] = ()) -> dict[str, Doubles]:
        """A result's columns as doubles, null as NaN."""
        table = self.connection.sql(sql, params=list(parameters)).to_arrow_table()
        return {name: _doubles(table[name]) for name in table.column_names}

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """A large result, batch by batch."""
        with self.connection.cursor() as cursor:  # the reader lives as long as its cursor
            yield from cursor.sql(sql).to_arrow_reader(BATCH)

    def attach(self, other: "Store", name: str) -> None:
        """Makes another store's tables readable as `name.TABLE`; the other store may not write meanwhile."""
        other.connection.close()
        folder = other.folder.replace("'", "''")
        self.run(f"ATTACH '{folder}/report.db' AS {name} (READ_ONLY)")

    def detach(self, name: str) -> None:
        """Lets go of another store."""
        self.run(f"DETACH {name}")

    def order(self) -> str:
        """SQL for the place of a review in a random order that comes to those of a few blocks of rows first, so that
        whoever reads some texts does not read all files."""
        blocks = int(self.rows(f"SELECT count(DISTINCT pos >> {BLOCK_BITS}) FROM reviews")[0][0])
        near = f"hash(pos >> {BLOCK_BITS}) <= {int(min(1.0, BLOCKS / max(1, blocks)) * (2**64 - 1))}"
        return f"if({near}, 0, 1::UBIGINT << 63) | (hash(pos) >> 1)"

    def has(self, level: Level) -> bool:
        """Whether the analyses kept a column for it, with two values or more (`all` always is there)."""
        return level == "all" or len(self.names.get(level, ())) > 1

    def set_period(self, wanted: str) -> None:
        """Makes `month` or `week` the step of time; `auto` is weeks up to half a year."""
        first, last = self.rows("SELECT min(day), max(day) FROM reviews")[0]
        if first is None:
            self.periods = 0
            return
        self.period = wanted if wanted != "auto" else "week" if last - first <= 184 else "month"
        self.first_day = int(self.rows(f"SELECT min({self._start('day')}) FROM reviews")[0][0])
        self.periods = int(self.rows(f"SELECT max({self.number('day')}) FROM reviews")[0][0]) + 1

    def number(self, day: str) -> str:
        """SQL for the number of a day's period, from 0; null without a day."""
        date = f"(DATE '1970-01-01' + {day})"
        first = f"(DATE '1970-01-01' + {self.first_day})"
        return f"CAST(datediff('{self.period}', {first}, {date}) AS INTEGER)"

    def _start(self, day: str) -> str:
        """SQL for the first day of a day's period."""
        return f"(CAST(date_trunc('{self.period}', DATE '1970-01-01' + {day}) AS DATE) - DATE '1970-01-01')"

    def period_days(self) -> list[int]:
        """The first day of every period, days since 1970, and of the one after the last."""
        step = f"INTERVAL 1 {self.period}"
        day = f"CAST(DATE '1970-01-01' + {self.first_day} + {step} * i AS DATE) - DATE '1970-01-01'"
        return [int(number) for (number,) in self.rows(f"SELECT {day} FROM range({self.periods + 1}) t(i)")]

    def count(self) -> None:
        """Makes the tables of counts, once all reviews are there: findings and reviews by level, value and period."""
        levels = [level for level in LEVELS if self.has(level)]
        groups = [level for level in levels if level != "all"]
        names = "".join(f"{level}, " for level in groups)
        period = f"{self.number('day')} AS period"
        for table, key, source in (
            ("findings", "period, code", f"SELECT {names}{period}, unnest(codes) AS code FROM reviews"),
            ("reviews", "period", f"SELECT {names}{period} FROM reviews"),
        ):
            sets = ", ".join(f"({key})" if level == "all" else f"({level}, {key})" for level in levels)
            kind = f"GROUPING({', '.join(groups)})" if groups else "0"
            self.run(  # in one pass over the reviews for all levels
                f"""CREATE TABLE counted AS SELECT {names}{key}, {kind} AS kind, count(*)::INTEGER AS n
                FROM ({source}) GROUP BY GROUPING SETS ({sets})"""
            )
            for level in levels:
                self.run(_by_level(table, level, groups))
            self.run("DROP TABLE counted")

    def totals(self, level: Level) -> tuple[Doubles, Doubles]:
        """([values] reviews, [values, keywords, 3 SIDES] findings), over all time."""
        values = len(self.names.get(level, ())) or 1
        reviews = np.zeros(values)
        found = self.columns(f"SELECT value, sum(n) AS n FROM reviews_{level} GROUP BY 1")
        reviews[found["value"].astype(int)] = found["n"]
        counts = np.zeros((values, len(self.keywords), len(SIDES)))
        sums = ", ".join(f"sum({side}) AS {side}" for side in SIDES)
        cells = self.columns(f"SELECT value, keyword, {sums} FROM findings_{level} GROUP BY 1, 2")
        for number, side in enumerate(SIDES):
            counts[cells["value"].astype(int), cells["keyword"].astype(int), number] = cells[side]
        return reviews, counts

    def series(self, level: Level, values: Ints) -> tuple[Doubles, Doubles]:
        """([values, periods] reviews, [values, keywords, periods, 3 SIDES] findings) of ascending `values`."""
        low, high = int(values[0]), int(values[-1])
        row = np.full(high - low + 1, -1)
        row[values - low] = np.arange(len(values))
        where = f"WHERE value BETWEEN {low} AND {high} AND period IS NOT NULL"
        found = self.columns(f"SELECT value, period, n FROM reviews_{level} {where}")
        reviews = np.zeros((len(values), self.periods))
        at = row[found["value"].astype(int) - low]
        reviews[at[at >= 0], found["period"].astype(int)[at >= 0]] = found["n"][at >= 0]
        counts = np.zeros((len(values), len(self.keywords), self.periods, len(SIDES)))
        cells = self.columns(f"SELECT value, keyword, period, {', '.join(SIDES)} FROM findings_{level} {where}")
        at = row[cells["value"].astype(int) - low]
        keyword, period = (cells[name].astype(int)[at >= 0] for name in ("keyword", "period"))
        for number, side in enumerate(SIDES):
            counts[at[at >= 0], keyword, period, number] = cells[side][at >= 0]
        return reviews, counts


def _own_folder(parent: Path) -> tuple[str, IO[str]]:
    """(A new folder for this user only, the file by whose lock others know that it is in use).

    A killed process lets go of its lock, and the next report removes what it left: reviews are in it.
    """
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (parent / "lock").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        for old in parent.iterdir():
            if old.is_dir() and not _in_use(old / "lock"):
                shutil.rmtree(old, ignore_errors=True)
        folder = tempfile.mkdtemp(dir=parent)
        lock = Path(folder, "lock").open("w")  # noqa: SIM115 - as long as the folder
        fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def _in_use(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _by_level(table: str, level: Level, groups: Sequence[Level]) -> str:
    """SQL for the table of one level's counts, from those of all levels: their `kind` has a bit for each that was not
    grouped by."""
    kind = sum(1 << (len(groups) - 1 - i) for i, one in enumerate(groups) if one != level)
    value = "0" if level == "all" else level
    rows = f"FROM counted WHERE kind = {kind} AND {value} >= 0"
    if table == "reviews":
        return f"CREATE TABLE reviews_{level} AS SELECT {value} AS value, period, n {rows}"
    sides = ", ".join(
        f"coalesce(sum(n) FILTER (code % {SCORES} {test} 2), 0)::INTEGER AS {side}"
        for side, test in zip(SIDES, "<=>", strict=True)
    )
    return f"""CREATE TABLE findings_{level} AS SELECT {value} AS value, period, code // {SCORES} AS keyword, {sides}
        {rows} GROUP BY ALL"""


def _one_line(folder: str, error: duckdb.Error) -> UserError:
    return UserError(f"{folder}: the report's database failed ({first_line(error)}); NUNCHI_CACHE names another place")


def _doubles(column: pa.ChunkedArray) -> Doubles:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
