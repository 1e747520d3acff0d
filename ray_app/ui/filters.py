"""Which reviews are asked for, as SQL. In: Filters and the columns that were kept. Out: a condition and its values.

Values never become part of the SQL; columns do, quoted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

PUNCTUATION = ".,!?~…'\"()[]:;·"


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What is empty asks for nothing. Keyword, score and word are those of one finding."""

    keywords: tuple[str, ...] = ()
    scores: tuple[int, ...] = ()
    word: str = ""
    text: str = ""
    product: str = ""
    malls: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None

    def where(self, columns: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        """The condition a review must meet; what the analyses have no column for is not asked."""
        asked = [(role, sql, value) for role, sql, value in self._columns() if value and role in columns]
        parts = [sql.format(value_of(role, columns[role])) for role, sql, _ in asked]
        values = {_name(sql): value for _, sql, value in asked}
        finding, more = self._finding()
        return " AND ".join(["true", *parts, *finding]), values | more

    def _columns(self) -> list[tuple[str, str, Any]]:
        """(column, condition, value); the value's name is the condition's last word."""
        return [
            ("text", "contains(lower({}), lower( $text ))", self.text),
            ("product", "contains(lower({}), lower( $product ))", self.product),
            ("mall", "list_contains( $malls , {})", list(self.malls)),
            ("category", "list_contains( $categories , {})", list(self.categories)),
            ("created_at", "CAST({} AS DATE) >= $since", self.since),
            ("created_at", "CAST({} AS DATE) <= $until", self.until),
        ]

    def _finding(self) -> tuple[list[str], dict[str, Any]]:
        """That one finding has one of the keywords, one of the scores and the word, of those that are asked."""
        parts = {
            "keywords": ("list_contains($keywords, f.keyword)", list(self.keywords)),
            "scores": ("list_contains($scores, f.score)", list(self.scores)),
            "word": (f"{word_of('f')} = $word", self.word),
        }
        asked = {name: part for name, part in parts.items() if part[1]}
        if not asked:
            return [], {}
        values = {name: value for name, (_, value) in asked.items()}
        tests = " AND ".join(sql for sql, _ in asked.values())
        return [f"len(list_filter(findings, lambda f: {tests})) > 0"], values


def value_of(role: str, column: str) -> str:
    """SQL for a kept column; a date that cannot be read is null."""
    quoted = '"' + column.replace('"', '""') + '"'
    kind = {"created_at": "TIMESTAMP", "rating": "DOUBLE"}.get(role, "VARCHAR")
    return f"TRY_CAST({quoted} AS {kind})"


def word_of(finding: str) -> str:
    """SQL for a highlighted word without the punctuation around it: `빨라요!!` is `빨라요`."""
    word, marks = f"{finding}.highlight.word", PUNCTUATION.replace("'", "''")
    return f"coalesce(nullif(trim({word}, '{marks}'), ''), {word})"


def _name(sql: str) -> str:
    return next(part[1:] for part in sql.split() if part.startswith("$"))
