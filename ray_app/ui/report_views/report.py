"""The report of a folder of analyses, made once per run and comparison.

In: a catalog, and what it is compared with. Out: `insights.findings.Report`; None while a large catalog has not been
asked for.
"""

import streamlit as st

from ray_app.insights.findings import Report, collect
from ray_app.insights.options import Config
from ray_app.ui import components
from ray_app.ui.queries import Catalog
from ray_app.ui.translations import Translate

AT_ONCE = 200_000  # reviews that are read without asking: some five seconds
PER_SECOND = 40_000  # reviews that a busy core reads, docs/insights.md


def of(catalog: Catalog, against: str, say: Translate) -> Report | None:
    """The report, or None and a button that asks for it. Raises UserError where the analyses cannot be compared."""
    key = f"report {catalog.uri}"
    if catalog.total > AT_ONCE and not st.session_state.get(key):
        seconds = f"{catalog.total / PER_SECOND:.0f}"
        st.info(say("report_large", reviews=f"{catalog.total:,}", seconds=seconds))
        st.button(say("report_read"), on_click=lambda: st.session_state.update({key: True}), type="primary")
        st.code(f"python -m jobs.report --analyses {catalog.uri} --output runs/report", language=None, wrap_lines=True)
        return None
    with st.spinner(say("counting")):
        report: Report = _collect(catalog.uri, catalog.signature, against)
    return report


@st.cache_data(show_spinner=False, max_entries=8)
def _collect(uri: str, signature: int, against: str) -> Report:
    """`signature` changes with the files, so that a finished run is read again."""
    return collect(Config(analyses=uri, against=against))


def language(say: Translate) -> int:
    """Which of the report's two languages the page speaks: 0 Korean, 1 English."""
    return int(say("language"))


def missing(say: Translate, what: str, keep: str) -> None:
    """Says which column a view needs, and how the analyses get it."""
    st.info(say("column_missing", what=what))
    st.code(f"python -m jobs.analyze --keep {keep} …", language=None, wrap_lines=True)


def claim(sentence: tuple[str, str], say: Translate) -> None:
    """A sentence of the report as a heading."""
    st.html(components.heading(sentence[language(say)]))
