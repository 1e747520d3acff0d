"""The catalog's filters as widgets. In: a catalog. Out: Filters. A filter without its column is left out and named."""

from collections.abc import Sequence
from datetime import date

import streamlit as st

from ray_app.ui import cached_queries, components
from ray_app.ui.figures import svg
from ray_app.ui.filters import Filters
from ray_app.ui.queries import Catalog
from ray_app.ui.translations import Translate

FILTER_COLUMNS = {  # the text of a filter -> the column it needs
    "filter_text": "text",
    "filter_product": "product",
    "filter_mall": "mall",
    "filter_category": "category",
    "filter_dates": "created_at",
}
KEEP = ",".join([*FILTER_COLUMNS.values(), "rating"])
LISTS = (("product", "f_products"), ("mall", "f_malls"), ("category", "f_categories"))  # (column, key) of a list
KEYS = ("keywords", "scores", "text", "products", "malls", "categories", "dates")


def show(catalog: Catalog, keywords: list[str], scores: list[int], say: Translate) -> Filters:
    """Draws the filters; returns what is chosen."""
    left, right = st.columns(2) if "text" in catalog.columns else (st.container(), None)
    with left:
        chosen_keywords = _keywords(keywords, say)
    if right:
        right.text_input(say("filter_text"), key="f_text", icon=":material/search:", persist_state="session")
    chosen_scores = _scores(scores, say)
    _more_filters(catalog, say)
    _missing_columns(catalog, say)
    word = _chosen_word(say)
    since, until = _date_range(st.session_state.get("f_dates"))
    filters = Filters(
        keywords=(word[0],) if word else chosen_keywords,
        scores=chosen_scores,
        word=word[1] if word else "",
        text=_typed_text("text"),
        products=tuple(st.session_state.get("f_products") or ()),
        malls=tuple(st.session_state.get("f_malls") or ()),
        categories=tuple(st.session_state.get("f_categories") or ()),
        since=since,
        until=until,
    )
    if filters != Filters():
        st.button(say("clear"), on_click=clear, icon=":material/filter_alt_off:")
    return filters


def open_reviews(keyword: str, word: str) -> None:
    """Switches to the reviews in which this word stands for this keyword."""
    if word:
        st.session_state["f_word"] = (keyword, word)
        st.session_state["view"] = "reviews"


def open_group(key: str, value: str) -> None:
    """Switches to the reviews of one product, mall or category; `key` is that of its filter."""
    if value:
        clear()
        st.session_state[key] = [value]
        st.session_state["view"] = "reviews"


def active() -> bool:
    """Whether any filter is set."""
    return any(st.session_state.get(key) for key in ("f_word", *(f"f_{name}" for name in KEYS)))


def clear() -> None:
    """Empties every filter."""
    st.session_state.pop("f_word", None)
    for key in KEYS:
        st.session_state[f"f_{key}"] = "" if key == "text" else () if key == "dates" else []


def _keywords(keywords: list[str], say: Translate) -> tuple[str, ...]:
    still_there = [name for name in st.session_state.get("f_keywords", []) if name in keywords]
    st.session_state["f_keywords"] = still_there
    chosen = st.multiselect(
        say("filter_keywords"), keywords, key="f_keywords", placeholder=say("all"), persist_state="session"
    )
    return tuple(chosen)


def _scores(scores: list[int], say: Translate) -> tuple[int, ...]:
    st.session_state["f_scores"] = [score for score in st.session_state.get("f_scores", []) if score in scores]
    chosen = st.pills(
        say("filter_scores"),
        scores,
        selection_mode="multi",
        format_func=lambda score: f"{components.signed(score)} {components.score_name(score, say)}",
        key="f_scores",
        persist_state="session",
    )
    return tuple(chosen)


def _more_filters(catalog: Catalog, say: Translate) -> None:
    """Product, mall, category and dates, as far as the analyses have them."""
    if not {"product", "mall", "category", "created_at"} & set(catalog.columns):
        return
    with st.expander(say("more_filters")):
        for role, key in LISTS:
            if role in catalog.columns:
                _choose_from(cached_queries.choices(catalog, role), role, key, say)
        if catalog.span:
            st.date_input(
                say("filter_dates"),
                value=(),  # type: ignore[call-overload]  # an empty range: nothing is chosen yet
                min_value=date(1990, 1, 1),
                max_value=date(2099, 12, 31),
                key="f_dates",
                persist_state="session",
            )


def _choose_from(options: list[str], role: str, key: str, say: Translate) -> None:
    """A list to choose from; of products, of which there may be more than it holds, parts of a name can be typed."""
    typed = role == "product"
    chosen = [value for value in st.session_state.get(key) or [] if typed or value in options]
    st.session_state[key] = chosen
    st.multiselect(
        say(f"filter_{role}"),
        [*options, *(value for value in chosen if value not in options)],
        key=key,
        placeholder=say("all_or_type" if typed else "all"),
        format_func=lambda value: svg.shortened(value, 60),
        accept_new_options=typed,
        persist_state="session",
    )


def _missing_columns(catalog: Catalog, say: Translate) -> None:
    missing = {say(label): role for label, role in FILTER_COLUMNS.items() if role not in catalog.columns}
    if missing:
        st.html(components.note(say("absent", filters=", ".join(missing), columns=",".join(missing.values()))))


def _chosen_word(say: Translate) -> tuple[str, str] | None:
    """(keyword, word) that was pressed in the summary, with a button that drops it."""
    word: tuple[str, str] | None = st.session_state.get("f_word")
    if word:
        label = say("drop_word", keyword=components.plain(word[0]), word=components.plain(word[1]))
        st.button(label, on_click=lambda: st.session_state.pop("f_word", None), key="drop_word")
    return word


def _typed_text(name: str) -> str:
    return str(st.session_state.get(f"f_{name}") or "").strip()


def _date_range(chosen: Sequence[date] | None) -> tuple[date | None, date | None]:
    """First and last day; a date input gives nothing, the first day alone, or both."""
    days = [*(chosen or ()), None, None]
    return days[0], days[1]
