"""The catalog's filters as widgets. In: a catalog. Out: Filters. One without its column is left out, which is said."""

from datetime import date
from typing import Any

import streamlit as st

from ray_app.ui import cached_queries, components
from ray_app.ui.filters import Filters
from ray_app.ui.queries import Catalog
from ray_app.ui.translations import Translate

NEEDS = {
    "filter_text": "text",
    "filter_product": "product",
    "filter_mall": "mall",
    "filter_category": "category",
    "filter_dates": "created_at",
}
KEEP = ",".join([*NEEDS.values(), "rating"])
KEYS = ("keywords", "scores", "text", "product", "malls", "categories", "dates")


def ask(catalog: Catalog, keywords: list[str], scores: list[int], say: Translate) -> Filters:
    """Draws the filters; returns what is asked for."""
    left, right = st.columns(2) if "text" in catalog.columns else (st.container(), None)
    with left:
        named = _keywords(keywords, say)
    if right:
        right.text_input(say("filter_text"), key="f_text", icon=":material/search:", persist_state="session")
    scored = _scores(scores, say)
    _more(catalog, say)
    _absent(catalog, say)
    word = _word(say)
    since, until = _dates(st.session_state.get("f_dates"))
    filters = Filters(
        keywords=(word[0],) if word else named,
        scores=scored,
        word=word[1] if word else "",
        text=_typed("text"),
        product=_typed("product"),
        malls=tuple(st.session_state.get("f_malls") or ()),
        categories=tuple(st.session_state.get("f_categories") or ()),
        since=since,
        until=until,
    )
    if filters != Filters():
        st.button(say("clear"), on_click=clear, icon=":material/filter_alt_off:")
    return filters


def follow(keyword: str, word: str) -> None:
    """Leads to the reviews in which a word stands for a keyword."""
    if word:
        st.session_state["f_word"] = (keyword, word)
        st.session_state["view"] = "reviews"


def clear() -> None:
    """Forgets every filter."""
    st.session_state.pop("f_word", None)
    for key in KEYS:
        st.session_state[f"f_{key}"] = "" if key in ("text", "product") else () if key == "dates" else []


def _keywords(keywords: list[str], say: Translate) -> tuple[str, ...]:
    kept = [name for name in st.session_state.get("f_keywords", []) if name in keywords]
    st.session_state["f_keywords"] = kept
    return tuple(st.multiselect(say("filter_keywords"), keywords, key="f_keywords", placeholder=say("all")))


def _scores(scores: list[int], say: Translate) -> tuple[int, ...]:
    chosen = st.pills(
        say("filter_scores"),
        scores,
        selection_mode="multi",
        format_func=lambda score: f"{components.signed(score)} {components.score_name(score, say)}",
        key="f_scores",
        persist_state="session",
    )
    return tuple(chosen)


def _more(catalog: Catalog, say: Translate) -> None:
    """Product, mall, category and dates: what there is of them."""
    if not {"product", "mall", "category", "created_at"} & set(catalog.columns):
        return
    with st.expander(say("more_filters")):
        if "product" in catalog.columns:
            st.text_input(say("filter_product"), key="f_product", persist_state="session")
        for role, key in (("mall", "f_malls"), ("category", "f_categories")):
            if role in catalog.columns:
                options = cached_queries.choices(catalog, role)
                st.multiselect(say(f"filter_{role}"), options, key=key, placeholder=say("all"), persist_state="session")
        if catalog.span:
            st.date_input(
                say("filter_dates"),
                value=(),  # type: ignore[call-overload]  # a range that nobody has chosen yet
                min_value=date(1990, 1, 1),
                max_value=date(2099, 12, 31),
                key="f_dates",
                persist_state="session",
            )


def _absent(catalog: Catalog, say: Translate) -> None:
    lost = {say(label): role for label, role in NEEDS.items() if role not in catalog.columns}
    if lost:
        st.html(components.note(say("absent", filters=", ".join(lost), columns=",".join(lost.values()))))


def _word(say: Translate) -> tuple[str, str] | None:
    """The word that was followed, with a button that lets it go."""
    word: tuple[str, str] | None = st.session_state.get("f_word")
    if word:
        label = say("drop_word", keyword=components.plain(word[0]), word=components.plain(word[1]))
        st.button(label, on_click=lambda: st.session_state.pop("f_word", None), key="drop_word")
    return word


def _typed(name: str) -> str:
    return str(st.session_state.get(f"f_{name}") or "").strip()


def _dates(chosen: Any) -> tuple[date | None, date | None]:
    """A date input gives nothing, the first day alone, or both."""
    days = [*(chosen or ()), None, None]
    return days[0], days[1]
