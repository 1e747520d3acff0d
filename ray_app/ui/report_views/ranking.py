"""Products, malls and categories by what customers say of one keyword, and which are worse than chance explains."""

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from ray_app.insights.findings import LEAST_RANKED, Report
from ray_app.insights.pages import sentences
from ray_app.insights.pages.parts import percent
from ray_app.ui import components, filter_bar
from ray_app.ui.figures import box, svg
from ray_app.ui.report_views import report as reports
from ray_app.ui.translations import Translate

SHOWN = 12  # groups of the chart
LEVELS = ("product", "category", "mall")
FILTERS = {"product": "f_products", "category": "f_categories", "mall": "f_malls"}


def show(report: Report, say: Translate) -> None:
    """Draws the view."""
    table = report.tables.groups
    levels = [level for level in LEVELS if pc.any(pc.equal(table["level"], level)).as_py()]
    if not levels:
        reports.missing(say, say("groups_of"), "product,category,mall")
        return
    reports.claim(sentences.groups(report), say)
    level, keyword, order = _choices(report, levels, say)
    rows = ranked(table, level, keyword, descending=order == "best")
    if not len(rows):
        st.info(say("ranking_few", least=LEAST_RANKED))
    else:
        mean = _mean(report, keyword)
        label = say("ranking_label", keyword=keyword, mean=percent(mean, 0), groups=f"{len(rows):,}")
        st.html(components.note(f"{label} {say('ranking_hint', least=LEAST_RANKED)}"))
        head = [say(name) for name in (f"level_{level}", "satisfaction", "interval", "figure_reviews", "complaints")]
        drawn = svg.intervals([_interval(row) for row in rows.slice(0, SHOWN).to_pylist()], label, mean)
        box.show(f"ranking-{level}-{keyword}", drawn, label, rows, head, _cells, say)
        _lead_to_reviews(rows, level, say)
    _standing(report, say)


def _choices(report: Report, levels: list[str], say: Translate) -> tuple[str, str, str]:
    """(level, keyword, order) as chosen."""
    keywords = report.tables.keywords["keyword"].to_pylist()
    left, middle, right = st.columns(3)
    for key, options in (("v_level", levels), ("v_keyword", keywords)):
        if st.session_state.get(key) not in options:
            st.session_state[key] = report.ranking if key == "v_keyword" else options[0]
    name = {level: say(f"level_{level}") for level in levels}
    level = left.selectbox(say("level"), levels, format_func=name.__getitem__, key="v_level", persist_state="session")
    keyword = middle.selectbox(say("keyword"), keywords, key="v_keyword", persist_state="session")
    orders = {"worst": say("worst_first"), "best": say("best_first")}
    order = right.selectbox(say("order"), list(orders), format_func=orders.__getitem__, key="v_order")
    return level or levels[0], keyword or report.ranking, order or "worst"


def ranked(table: pa.Table, level: str, keyword: str, descending: bool = False) -> pa.Table:
    """The GROUPS rows of a level and keyword with findings enough to be ranked, by satisfaction."""
    findings = pc.add(table["negative"], table["positive"])
    mine = pc.and_(pc.equal(table["level"], level), pc.equal(table["keyword"], keyword))
    rows = table.filter(pc.and_(mine, pc.greater_equal(findings, LEAST_RANKED)))
    order = "descending" if descending else "ascending"
    return rows.sort_by([("satisfaction", order), ("reviews", "descending"), ("value", "ascending")])


def _mean(report: Report, keyword: str) -> float:
    """The catalog's satisfaction with the keyword."""
    table = report.tables.keywords
    return float(table.filter(pc.equal(table["keyword"], keyword))["satisfaction"][0].as_py() or 0.0)


def _interval(row: dict[str, object]) -> svg.Interval:
    low, middle, high = (float(str(row[f"satisfaction{end}"])) for end in ("_low", "", "_high"))
    count = f"n {int(str(row['negative'])) + int(str(row['positive'])):,}"
    return svg.Interval(name=str(row["value"]), note=count, low=low, middle=middle, high=high, value=percent(middle, 0))


def _cells(row: dict[str, object]) -> list[str | float | None]:
    low, middle, high = (percent(float(str(row[f"satisfaction{end}"])), 0) for end in ("_low", "", "_high"))
    share = f"{percent(float(str(row['complaints'])))} ({row['negative']:,})"
    return [svg.shortened(str(row["value"])), middle, f"{low} – {high}", f"{row['reviews']:,}", share]


def _lead_to_reviews(rows: pa.Table, level: str, say: Translate) -> None:
    """A list whose choice opens the reviews of that product."""
    key = f"open {level}"
    st.selectbox(
        say("open_reviews"),
        rows["value"].to_pylist(),
        index=None,
        key=key,
        placeholder=say("open_hint"),
        format_func=svg.shortened,
        on_change=lambda: filter_bar.open_group(FILTERS[level], str(st.session_state[key] or "")),
    )


def _standing(report: Report, say: Translate) -> None:
    """What is worse than the others beyond chance, the surest first."""
    table = report.tables.groups
    rows = table.filter(table["stands_out"]).sort_by([("q", "ascending"), ("p", "ascending")])
    if not len(rows):
        return
    st.html(components.heading(say("standing"), say("standing_hint", alpha=report.facts["alpha"])))
    head = [say(name) for name in ("where", "keyword", "complaints", "elsewhere", "chance")]
    position = reports.language(say)

    def cells(row: dict[str, object]) -> list[str | float | None]:
        share = percent(int(str(row["negative"])) / max(1, int(str(row["reviews"]))))
        usual, where = percent(float(str(row["usual_complaints"]))), sentences.where(row)[position]
        return [
            where,
            str(row["keyword"]),
            f"{share} ({row['negative']:,}/{row['reviews']:,})",
            usual,
            chance(row["q"]),
        ]

    box.show("standing-out", "", say("standing"), rows, head, cells, say)


def chance(value: object) -> str:
    """A probability that something is chance: `< 0.0001`, `0.0123`."""
    number = float(str(value))
    return "< 0.0001" if number < 0.0001 else f"{number:.4f}"
