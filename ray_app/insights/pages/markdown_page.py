"""The report as Markdown for chat tools and pull requests: its sentences and the tables that carry them.

In: a Report and a language. Out: Markdown, strangers' texts escaped.
"""

from ray_app.insights.findings import Report
from ray_app.insights.pages import sentences
from ray_app.insights.pages.parts import percent, signed
from ray_app.insights.pages.sentences import Sentence
from ray_app.insights.store import Row
from ray_app.markdown import escape, table

FEW = 10


def page(report: Report, language: str) -> str:
    """The whole report, short enough to be pasted."""
    at = 0 if language == "ko" else 1
    lines = [f"# {escape(report.title)}", ""]
    lines += [f"- {escape(line)}" for line in headlines(report, language)]
    lines += ["", f"## {('키워드', 'Keywords')[at]}", ""]
    head = [("키워드", "리뷰 중", "불만", "만족"), ("keyword", "in reviews", "complaints", "satisfied")][at]
    lines += table(
        head,
        [
            [escape(row["keyword"]), percent(row["share"]), percent(row["complaints"]), _share(row["satisfaction"])]
            for row in report.tables.keywords.to_pylist()
        ],
    )
    changed = report.tables.changes.to_pylist()[:FEW]
    if changed:
        lines += ["", f"## {('변화', 'Changes')[at]}", ""]
        lines += [f"- {escape(sentences.change(row)[at])}" for row in changed]
    drivers = [row for row in report.tables.star_drivers.to_pylist() if row["sign"] == "negative"][:FEW]
    if drivers:
        lines += ["", f"## {('별점을 깎는 것', 'What costs stars')[at]}", ""]
        head = [("키워드", "별점", "95% 구간", "평균에서"), ("keyword", "stars", "95% interval", "off the mean")][at]
        lines += table(head, [_driver(row) for row in drivers])
    lines += [
        "",
        ("다음에 라벨을 달 리뷰 고르기:", "Choose what to label next:")[at],
        f"`{sentences.next_labels(report)}`",
    ]
    return "\n".join([*lines, ""])


def headlines(report: Report, language: str) -> list[str]:
    """The sentences in one language, plain text."""
    said: list[Sentence] = sentences.headlines(report)
    return [pair[0 if language == "ko" else 1] for pair in said]


def _share(value: float | None) -> str:
    return "" if value is None else percent(value, 0)


def _driver(row: Row) -> list[str]:
    span = f"{signed(row['effect_low'])} … {signed(row['effect_high'])}"
    return [escape(row["keyword"]), signed(row["effect"]), span, signed(row["impact"], 3)]
