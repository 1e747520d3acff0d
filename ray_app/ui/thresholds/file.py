"""Thresholds moved in the page: kept per report, saved as a file that `--thresholds` takes, and found again there."""

import json
from collections.abc import Mapping

import streamlit as st

from ray_app import storage
from ray_app.errors import UserError
from ray_app.inference.thresholds import content
from ray_app.ui import components
from ray_app.ui.error_lines import shown
from ray_app.ui.translations import Translate

STEP = 2  # decimals that a slider moves by


def key_of(uri: str, keyword: str) -> str:
    """The state of one keyword's slider, of one report."""
    return f"threshold {uri} {keyword}"


def place(folder: str, bundle: str) -> str:
    """The file of a bundle's thresholds, of a hidden name: whoever reads a folder of decisions leaves it out."""
    return storage.join(folder, "_thresholds", f"{storage.safe_name(bundle)}.json")


def restore(uri: str, file: str, own: Mapping[str, float]) -> None:
    """Sets the sliders of a report once per session: to what was saved, else to the bundle's own."""
    if st.session_state.get("thresholds of") == uri:
        return
    st.session_state["thresholds of"] = uri
    saved: Mapping[str, float] = {}
    try:
        if storage.exists(file):
            saved = json.loads(content(file))["thresholds"]
    except (UserError, OSError):
        saved = {}  # someone else's file: it is told of where it is used
    st.session_state[f"saved {uri}"] = {name: round(cut, STEP) for name, cut in saved.items() if name in own}
    for keyword, cut in own.items():
        st.session_state.setdefault(key_of(uri, keyword), round(saved.get(keyword, cut), STEP))


def moved(uri: str, own: Mapping[str, float]) -> dict[str, float]:
    """Keyword -> threshold where it is not the bundle's own."""
    now = {keyword: st.session_state.get(key_of(uri, keyword)) for keyword in own}
    return {name: cut for name, cut in now.items() if cut is not None and cut != round(own[name], STEP)}


def show(uri: str, file: str, bundle: str, own: Mapping[str, float], say: Translate) -> None:
    """What was moved, with buttons that save it and that take all of it back."""
    changed = moved(uri, own)
    if changed:
        listed = ", ".join(f"{keyword} {own[keyword]:.2f} → {cut:.2f}" for keyword, cut in changed.items())
        st.html(components.note(say("moved", list=listed)))
    text = json.dumps({"bundle": bundle, "thresholds": changed}, ensure_ascii=False, indent=1) + "\n"
    with st.container(horizontal=True):
        if changed or st.session_state.get(f"saved {uri}"):  # having taken all back is saved too
            told = (uri, file, text, changed)
            st.button(say("save_thresholds"), type="primary", key="save_thresholds", on_click=_save, args=told)
        if changed:
            st.download_button(say("download_thresholds"), text.encode(), "thresholds.json", "application/json")
            st.button(say("reset_all"), key="reset_all", on_click=_reset, args=(uri, own))
    if problem := st.session_state.pop("thresholds_failed", None):
        st.error(components.plain(shown(problem, say)))
    if changed and st.session_state.get("thresholds_saved") == text:
        st.success(say("saved", path=components.plain(file)), icon=":material/check:")
        st.html(components.note(say("thresholds_next")))
        st.code(f"python -m jobs.analyze --thresholds {file}", language=None, wrap_lines=True)


def _save(uri: str, file: str, text: str, changed: Mapping[str, float]) -> None:
    """Writes the file; where all are the bundle's own, removes it."""
    try:
        if changed:
            storage.write_bytes(file, text.encode())
        elif storage.exists(file):
            storage.remove(file)
        st.session_state[f"saved {uri}"] = dict(changed)
        st.session_state["thresholds_saved"] = text
    except (UserError, OSError) as error:
        st.session_state["thresholds_failed"] = error


def _reset(uri: str, own: Mapping[str, float]) -> None:
    for keyword, cut in own.items():
        st.session_state[key_of(uri, keyword)] = round(cut, STEP)
