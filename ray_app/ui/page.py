"""The page in a browser: try a review, look through analyses, read the evaluation report.

example: streamlit run ray_app/ui/page.py -- --endpoint http://127.0.0.1:8000 --analyses runs/quickstart/analyses

Without --endpoint it loads the bundle itself. The endpoint's token is read from NUNCHI_TOKEN. Streamlit's own settings
are in `.streamlit/config.toml` beside this file: nothing leaves the machine, and it listens on 127.0.0.1 only.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from ray_app.cli import parse
from ray_app.data.text import SPLITTERS
from ray_app.errors import UserError
from ray_app.options import Options, option
from ray_app.ui import address, catalog_tab, components, model_tab, try_tab
from ray_app.ui.translations import LANGUAGES, Translate, translator

FOLDER = Path(__file__).parent
NAME = "Nunchi 눈치"
DEFAULTS = {"view": "summary", "sort": "frequent", "v_level": "product", "v_compare": "days"}  # not in the address


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of the page."""

    endpoint: str = option("", "address of a running jobs.serve; without one, the page loads the bundle", "Page")
    bundle: str = option("ready", "bundle to load if there is no endpoint", "Page")
    words: str = option("space", "what a word is, if the page loads the bundle", "Page", tuple(SPLITTERS))
    analyses: str = option("runs/quickstart/analyses", "output of jobs.analyze, local or s3://", "Page")
    decisions: str = option(
        "runs/decisions", "where corrections and moved thresholds are saved, local or s3://", "Page"
    )
    report: str = option("runs/quickstart/evaluation/report.json", "report of jobs.evaluate", "Page")


def main() -> None:
    """Draws the page once; Streamlit runs this script again at every click."""
    st.set_page_config(page_title=NAME, page_icon=str(FOLDER / "icon.svg"), layout="wide")
    st.html(FOLDER / "style.css")
    st.html(components.focus_rules())
    say = _head()
    try:
        config = parse(Config, sys.argv[1:], "streamlit run ray_app/ui/page.py --", __doc__ or "")
    except UserError as error:
        st.error(components.plain(str(error)))
        return
    _tabs(config, say)


def _head() -> Translate:
    """Draws the title and the language switch; returns the texts in that language."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        title = st.container(width="stretch")
        chosen = st.segmented_control(
            "언어 / Language",
            list(LANGUAGES),
            format_func=LANGUAGES.__getitem__,
            default=_first_language(),
            key="language",
            label_visibility="collapsed",
            required=True,
            on_change=lambda: st.query_params.update(lang=st.session_state["language"]),
        )
    say = translator(chosen or "ko")
    title.html(components.title(NAME, say("tagline")))
    return say


def _first_language() -> str:
    """The one in the address (?lang=en), else the browser's own."""
    language = st.query_params.get("lang", "")
    if language in LANGUAGES:
        return language
    return "ko" if (st.context.locale or "ko").startswith("ko") else "en"


def _tabs(config: Config, say: Translate) -> None:
    """Draws the open tab only."""
    names = [say(key) for key in ("tab_try", "tab_catalog", "tab_model")]
    state = st.session_state
    address.restore()
    if state.get("open_tab") not in range(len(names)):
        state["open_tab"] = 0
    if (
        state.get("tab_names") != names
    ):  # to Streamlit these are other tabs after a switch of language: keep the open one
        state.update(tab_names=names, first_tab=state.get("open_tab", 0))
    tabs = st.tabs(names, default=names[state["first_tab"]], key="/".join(names), on_change="rerun")
    places = {"analyses": config.analyses, "bundle": config.bundle, "decisions": config.decisions}
    draw = (
        lambda: try_tab.show(config.endpoint, os.environ.get("NUNCHI_TOKEN", ""), config.bundle, config.words, say),
        lambda: catalog_tab.show(catalog_tab.Places(**places), say),
        lambda: model_tab.show(config.report, config.bundle, config.decisions, say),
    )
    for i, tab in enumerate(tabs):
        if tab.open:
            state["open_tab"] = i
            with tab:
                draw[i]()
    address.keep({"open_tab": 0, "folder": config.analyses, "report": config.report, **DEFAULTS})


main()
