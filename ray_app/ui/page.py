"""The page, in a browser: try a review, look through analyses, read the evaluation report.

example: streamlit run ray_app/ui/page.py -- --endpoint http://127.0.0.1:8000 --analyses runs/quickstart/analyses

Without --endpoint it loads the bundle itself. The endpoint's token is read from NUNCHI_TOKEN. Streamlit's own settings
lie in `.streamlit/config.toml` beside this file: nothing leaves the machine, and it listens at 127.0.0.1 only.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from ray_app.cli import parse
from ray_app.errors import UserError
from ray_app.options import option
from ray_app.ui import catalog_tab, components, model_tab, try_tab
from ray_app.ui.translations import LANGUAGES, Translate, speaker

FOLDER = Path(__file__).parent
NAME = "Nunchi 눈치"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the page."""

    endpoint: str = option("", "address of a running jobs.serve; without one the bundle is loaded here", "Page")
    bundle: str = option("runs/quickstart/bundle", "bundle to load where there is no endpoint", "Page")
    words: str = option("space", "what a word is, where the bundle is loaded here", "Page", ("space", "kiwi"))
    analyses: str = option("runs/quickstart/analyses", "folder that jobs.analyze wrote, local or s3://", "Page")
    report: str = option("runs/quickstart/evaluation/report.json", "report that jobs.evaluate wrote", "Page")


def main() -> None:
    """Draws the page once, as Streamlit does at every click."""
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
    """Title and language."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        place = st.container(width="stretch")
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
    say = speaker(chosen or "ko")
    place.html(components.title(NAME, say("tagline")))
    return say


def _first_language() -> str:
    """What the address asks for (?lang=en), else the browser's own."""
    asked = st.query_params.get("lang", "")
    return asked if asked in LANGUAGES else "ko" if (st.context.locale or "ko").startswith("ko") else "en"


def _tabs(config: Config, say: Translate) -> None:
    """Only the open tab is drawn."""
    names = [say(key) for key in ("tab_try", "tab_catalog", "tab_model")]
    state = st.session_state
    if state.get("tabs_named") != names:  # in another language they are other tabs: the same one opens
        state.update(tabs_named=names, first_tab=state.get("open_tab", 0))
    tabs = st.tabs(names, default=names[state["first_tab"]], key="/".join(names), on_change="rerun")
    draw = (
        lambda: try_tab.show(config.endpoint, os.environ.get("NUNCHI_TOKEN", ""), config.bundle, config.words, say),
        lambda: catalog_tab.show(config.analyses, config.bundle, say),
        lambda: model_tab.show(config.report, config.bundle, say),
    )
    for i, tab in enumerate(tabs):
        if tab.open:
            state["open_tab"] = i
            with tab:
                draw[i]()


main()
