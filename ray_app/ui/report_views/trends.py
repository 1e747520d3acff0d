"""Complaints over time: what got worse or better, since when, and the course of one of them."""

from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from ray_app.insights.findings import Report
from ray_app.insights.pages import sentences
from ray_app.insights.pages.parts import percent
from ray_app.insights.store import Row
from ray_app.ui import components
from ray_app.ui.figures import box, svg
from ray_app.ui.report_views import report as reports
from ray_app.ui.report_views.ranking import chance
from ray_app.ui.translations import Translate

LISTED = 200  # changes that can be chosen


def show(report: Report, say: Translate) -> None:
    """Draws the view."""
    if not len(report.tables.trend):
        reports.missing(say, say("dates_of"), "date")
        return
    reports.claim(sentences.counted(report), say)
    _alerts(report, say)
    st.html(components.heading(say("course"), say("course_hint", few=svg.FEW)))
    chosen = _chosen(report, say)
    if chosen is None:
        return
    rows = _rows(report.tables.trend, chosen)
    if len(rows) < 2:
        st.info(say("trend_short"))
        return
    label = f"{chosen['keyword']}: {sentences.where(chosen)[reports.language(say)]}"
    drawn = svg.courses(*_course(rows.to_pylist(), label, chosen))
    head = [say(name) for name in ("since", "complaints", "interval", "negative", "figure_reviews")]
    box.show(f"trend-{chosen['keyword']}", drawn, label, rows, head, _cells, say)


def _alerts(report: Report, say: Translate) -> None:
    """The changes that were found, for the worse first."""
    changes = report.tables.changes
    if not len(changes):
        return
    position = reports.language(say)
    rows = changes.sort_by([("direction", "descending"), ("q", "ascending")])
    for row in rows.slice(0, 3).to_pylist():
        if row["direction"] == "worse":
            st.warning(components.plain(sentences.change(row)[position]), icon=":material/trending_up:")
    head = [say(name) for name in ("where", "keyword", "since", "before", "after", "chance")]

    def cells(row: Row) -> list[str | float | None]:
        before, after = percent(row["share_before"]), percent(row["share_after"])
        counts = f"{after} ({row['complaints_after']:,}/{row['reviews_after']:,})"
        return [sentences.where(row)[position], row["keyword"], str(row["since"]), before, counts, chance(row["q"])]

    box.show("changes", "", say("changes"), rows, head, cells, say)


def _chosen(report: Report, say: Translate) -> Row | None:
    """A change, or a keyword of the whole catalog."""
    changes = report.tables.changes.slice(0, LISTED).to_pylist()
    known = {(row["level"], row["value"], row["keyword"]) for row in changes}
    names = report.tables.keywords["keyword"].to_pylist()
    catalog = [{"level": "all", "value": "", "keyword": name, "since": None} for name in names]
    options: list[Row] = [
        *changes,
        *(row for row in catalog if (row["level"], row["value"], row["keyword"]) not in known),
    ]
    position = reports.language(say)

    def name(number: int) -> str:
        row = options[number]
        since = f" · {row['since']}" if row["since"] else ""
        return f"{row['keyword']} · {svg.shortened(sentences.where(row)[position])}{since}"

    number = st.selectbox(say("course_of"), range(len(options)), format_func=name, key="course_of")
    return None if number is None else options[number]


def _rows(trend: pa.Table, chosen: Row) -> pa.Table:
    same = [pc.equal(trend[name], chosen[name]) for name in ("level", "value", "keyword")]
    return trend.filter(pc.and_(pc.and_(same[0], same[1]), same[2])).sort_by("since")


def _course(rows: list[Row], label: str, chosen: Row) -> tuple[list[svg.Course], str, float | None]:
    """(The line, what it shows, where its change is) of a chart."""
    days = [row["since"].toordinal() for row in rows]
    first, span = days[0], max(1, days[-1] - days[0])
    points = [
        svg.Point(
            at=(day - first) / span,
            date=row["since"].strftime("%y-%m-%d" if span < 200 else "%y-%m"),
            share=row["complaints"],
            count=row["reviews"],
            low=row["complaints_low"],
            high=row["complaints_high"],
        )
        for day, row in zip(days, rows, strict=True)
    ]
    since = chosen["since"]
    mark = (since.toordinal() - first) / span if isinstance(since, date) else None
    return [svg.Course(name=label, color=svg.RED, points=points)], label, mark


def _cells(row: Row) -> list[str | float | None]:
    share, low, high = (percent(row[f"complaints{end}"]) for end in ("", "_low", "_high"))
    return [str(row["since"]), share, f"{low} – {high}", f"{row['negative']:,}", f"{row['reviews']:,}"]
