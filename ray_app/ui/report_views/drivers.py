"""What costs stars, what adds them, per product too, and well-rated reviews that complain all the same."""

import pyarrow.compute as pc
import streamlit as st

from ray_app.insights.findings import Report
from ray_app.insights.pages import sentences
from ray_app.insights.pages.parts import percent, signed
from ray_app.insights.store import Row
from ray_app.ui import components
from ray_app.ui.figures import box, svg
from ray_app.ui.report_views import report as reports
from ray_app.ui.translations import Translate


def show(report: Report, say: Translate) -> None:
    """Draws the view."""
    if not len(report.tables.stars):
        reports.missing(say, say("ratings_of"), "rating")
        return
    reports.claim(sentences.stars(report), say)
    drivers = report.tables.star_drivers
    for sign in ("negative", "positive"):
        rows = drivers.filter(pc.equal(drivers["sign"], sign))
        if len(rows):
            rows = rows.sort_by([("impact", "ascending" if sign == "negative" else "descending")])
            label = say(f"drivers_{sign}")
            st.html(components.heading(label, say("drivers_hint")))
            drawn = svg.intervals([_interval(row) for row in rows.to_pylist()], label, 0.0)
            head = [say(name) for name in ("keyword", "effect", "interval", "share", "impact")]
            box.show(f"stars-{sign}", drawn, label, rows, head, _cells, say)
    _products(report, say)
    st.html(components.heading(sentences.contradiction(report)[reports.language(say)]))
    head = [say(name) for name in ("rating", "figure_reviews", "with_complaints", "share")]
    box.show("stars-against-text", "", say("rating"), report.tables.stars, head, _star_cells, say)


def _interval(row: Row) -> svg.Interval:
    return svg.Interval(
        name=row["keyword"],
        note=percent(row["share"]),
        low=row["effect_low"],
        middle=row["effect"],
        high=row["effect_high"],
        value=f"★ {signed(row['effect'])}",
    )


def _cells(row: Row) -> list[str | float | None]:
    ends = f"{signed(row['effect_low'])} … {signed(row['effect_high'])}"
    return [row["keyword"], signed(row["effect"]), ends, percent(row["share"]), signed(row["impact"], 3)]


def _products(report: Report, say: Translate) -> None:
    table = report.tables.star_drivers_by_product
    if not len(table):
        return
    st.html(components.heading(say("drivers_products")))
    head = [say(name) for name in ("level_product", "keyword", "complaints", "stars_lost", "interval")]
    box.show("stars-by-product", "", say("drivers_products"), table, head, _product_cells, say)


def _product_cells(row: Row) -> list[str | float | None]:
    ends = f"{signed(row['stars_low'])} … {signed(row['stars_high'])}"
    counts = f"{row['complaints']:,}/{row['reviews']:,}"
    return [svg.shortened(row["product"]), row["keyword"], counts, signed(row["stars"]), ends]


def _star_cells(row: Row) -> list[str | float | None]:
    return [f"★ {row['rating']:g}", f"{row['reviews']:,}", f"{row['with_complaints']:,}", percent(row["complaints"])]
