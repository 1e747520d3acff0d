"""What moved: days of the analyses against all later ones, or another folder of analyses as what was before."""

from collections.abc import Sequence
from datetime import date

import streamlit as st

from ray_app.insights.findings import Report
from ray_app.insights.pages.parts import percent, signed
from ray_app.insights.store import Row
from ray_app.ui import components
from ray_app.ui.figures import box, svg
from ray_app.ui.queries import Catalog
from ray_app.ui.report_views import report as reports
from ray_app.ui.translations import Translate
from ray_app.ui.within import check_within

SURE = 0.05  # q below which a keyword has moved


def show(catalog: Catalog, given: str, say: Translate) -> None:
    """Draws the view; `given` is the folder that the page may open. Raises UserError where nothing can be compared."""
    against = _chosen(catalog, given, say)
    if not against:
        st.info(say("compare_start"))
        return
    report = reports.of(catalog, against, say)
    if report is None:
        return
    rows = report.tables.against
    moved = [row["keyword"] for row in rows.to_pylist() if row["q"] <= SURE]
    st.html(components.heading(say("compare_moved", moved=len(moved), all=len(rows)), _part(report, say)))
    label = say("compare_label")
    drawn = svg.intervals([_interval(row) for row in rows.to_pylist()], label, 0.0)
    head = [say(name) for name in ("keyword", "before", "after", "difference", "interval", "by_model", "by_customers")]
    box.show("compare", drawn, label, rows, head, _cells, say)


def _chosen(catalog: Catalog, given: str, say: Translate) -> str:
    """What is compared with, as `--against` takes it; "" while nothing is."""
    kinds = {"days": say("compare_days"), "folder": say("compare_folder")}
    if not catalog.span:
        kinds.pop("days")
    if st.session_state.get("v_compare") not in kinds:
        st.session_state["v_compare"] = next(iter(kinds))
    kind = st.segmented_control(
        say("compare_with"), list(kinds), format_func=kinds.__getitem__, key="v_compare", persist_state="session"
    )
    if kind == "folder":
        folder = st.text_input(say("compare_path"), key="v_against", help=say("folder_hint"), persist_state="session")
        if folder:
            check_within(folder, given, say)
        return folder or ""
    first, last = catalog.span or (date.min, date.max)
    kept: Sequence[date] = st.session_state.get("v_days") or ()
    if not all(first <= day <= last for day in kept) or list(kept) != sorted(kept):  # of another folder, or a link's
        st.session_state.pop("v_days")
    days: Sequence[date] = st.date_input(
        say("compare_before"),
        value=st.session_state.get("v_days") or (first, first + (last - first) // 2),
        min_value=first,
        max_value=last,
        key="v_days",
        persist_state="session",
    )
    return f"{days[0]}..{days[1]}" if len(days) == 2 else ""


def _part(report: Report, say: Translate) -> str:
    """Whether the model's part is known."""
    notes = report.facts["against"]
    if notes.get("same_model"):
        return say("compare_same_model")
    known = any(row["by_model"] is not None for row in report.tables.against.to_pylist())
    return say("compare_parts" if known else "compare_no_parts", shared=f"{notes.get('shared', 0):,}")


def _interval(row: Row) -> svg.Interval:
    return svg.Interval(
        name=row["keyword"],
        note=f"{percent(row['complaints_before'])} → {percent(row['complaints_now'])}",
        low=-row["difference_high"],  # a rise of complaints is for the worse: to the left, in red
        middle=-row["difference"],
        high=-row["difference_low"],
        value=points(row["difference"]),
        sure=row["q"] <= SURE,
    )


def points(difference: float | None) -> str:
    """A difference of shares in percentage points: `+1.2 %p`; a dash for an unknown one."""
    return "–" if difference is None else f"{signed(difference * 100, 1)} %p"


def _cells(row: Row) -> list[str | float | None]:
    before, after = percent(row["complaints_before"]), percent(row["complaints_now"])
    ends = f"{points(row['difference_low'])} … {points(row['difference_high'])}"
    parts = (points(row["by_model"]), points(row["by_customers"]))
    return [row["keyword"], before, after, points(row["difference"]), ends, *parts]
