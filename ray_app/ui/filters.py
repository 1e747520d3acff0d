"""Which reviews are wanted, as SQL. In: Filters and the columns that were kept. Out: a condition and its parameters.

Values never become part of the SQL; column names do, quoted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

PUNCTUATION = ".,!?~…'\"()[]:;·"

PRODUCT = (  # a name from the list, or letters that were typed
    "(list_contains($products, {0}) OR len(list_filter($products, lambda p: contains(lower({0}), lower(p)))) > 0)"
)
Parameter = str | int | date | list[str] | list[int] | None


@dataclass(frozen=True, kw_only=True)
class Filters:
    """An empty filter accepts everything. Keyword, score and word must hold for one and the same finding."""

    keywords: tuple[str, ...] = ()
    scores: tuple[int, ...] = ()
    word: str = ""
    text: str = ""
    products: tuple[str, ...] = ()
    malls: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None

    def where(self, columns: Mapping[str, str]) -> tuple[str, dict[str, Parameter]]:
        """The condition a review must meet, and its parameters; filters whose column is missing are ignored."""
        active = [item for item in self._column_conditions() if item[3] and item[0] in columns]
        conditions = [sql.format(column_sql(role, columns[role])) for role, _, sql, _ in active]
        parameters = {name: value for _, name, _, value in active}
        finding_condition, finding_parameters = self._finding_condition()
        return " AND ".join(["true", *conditions, *finding_condition]), parameters | finding_parameters

    def _column_conditions(self) -> list[tuple[str, str, str, Parameter]]:
        """(column, parameter, condition with a place for the column, value)."""
        return [
            ("text", "text", "contains(lower({}), lower($text))", self.text),
            ("product", "products", PRODUCT, list(self.products)),
            ("mall", "malls", "list_contains($malls, {})", list(self.malls)),
            ("category", "categories", "list_contains($categories, {})", list(self.categories)),
            ("created_at", "since", "CAST({} AS DATE) >= $since", self.since),
            ("created_at", "until", "CAST({} AS DATE) <= $until", self.until),
        ]

    def _finding_condition(self) -> tuple[list[str], dict[str, Parameter]]:
        """That one finding has one of the keywords, one of the scores, and the word, as far as these are set."""
        tests: list[tuple[str, str, Parameter]] = [
            ("keywords", "list_contains($keywords, f.keyword)", list(self.keywords)),
            ("scores", "list_contains($scores, f.score)", list(self.scores)),
            ("word", f"{highlight_word_sql('f')} = $word", self.word),
        ]
        active = [test for test in tests if test[2]]
        if not active:
            return [], {}
        condition = " AND ".join(sql for _, sql, _ in active)
        parameters = {name: value for name, _, value in active}
        return [f"len(list_filter(findings, lambda f: {condition})) > 0"], parameters


def column_sql(role: str, column: str) -> str:
    """SQL for a kept column; a date that cannot be read is null."""
    quoted = '"' + column.replace('"', '""') + '"'
    kind = {"created_at": "TIMESTAMP", "rating": "DOUBLE"}.get(role, "VARCHAR")
    return f"TRY_CAST({quoted} AS {kind})"


def highlight_word_sql(finding: str) -> str:
    """SQL for a highlighted word without the punctuation around it: `빨라요!!` is `빨라요`."""
    word, punctuation = f"{finding}.highlight.word", PUNCTUATION.replace("'", "''")
    return f"coalesce(nullif(trim({word}, '{punctuation}'), ''), {word})"
