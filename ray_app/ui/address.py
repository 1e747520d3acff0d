"""The page's address keeps what is shown: tab, view, folder and filters, so that a link shows another person the same.

In: the address that a session began with, and its state. Out: state that widgets begin with, and the address after
every drawing. Values that no widget takes are dropped by whoever draws it; nothing here decides what may be opened.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date
from typing import Any

import streamlit as st

Read = Callable[[list[str]], object]


def _one(values: list[str]) -> str:
    return values[-1]


def _many(values: list[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, values)))


def _whole(values: list[str]) -> list[int]:
    return [int(value) for value in values]


def _days(values: list[str]) -> tuple[date, ...]:
    return tuple(date.fromisoformat(value) for value in values[:2])


def _pair(values: list[str]) -> tuple[str, str]:
    keyword, word = values
    return keyword, word


def _number(values: list[str]) -> int:
    return int(values[-1])


PARAMETERS: Mapping[str, tuple[str, Read]] = {  # in the address -> the key of the state, and how it is read
    "tab": ("open_tab", _number),
    "folder": ("folder", _one),
    "view": ("view", _one),
    "keyword": ("f_keywords", _many),
    "score": ("f_scores", _whole),
    "text": ("f_text", _one),
    "product": ("f_products", _many),
    "mall": ("f_malls", _many),
    "category": ("f_categories", _many),
    "days": ("f_dates", _days),
    "word": ("f_word", _pair),
    "sort": ("sort", _one),
    "by": ("v_level", _one),
    "of": ("v_keyword", _one),
    "with": ("v_compare", _one),
    "against": ("v_against", _one),
    "before": ("v_days", _days),
    "report": ("report", _one),
}


def restore() -> None:
    """Fills the state of a new session from the address; what cannot be read is left out."""
    if st.session_state.get("address_read"):
        return
    st.session_state["address_read"] = True
    for name, (key, read) in PARAMETERS.items():
        if values := st.query_params.get_all(name):
            with suppress(ValueError):
                st.session_state[key] = read(values)


def keep(defaults: Mapping[str, object]) -> None:
    """Writes the state into the address, without what is as in `defaults` (by key of the state)."""
    wanted: dict[str, list[str]] = {}
    for name, (key, _) in PARAMETERS.items():
        value = st.session_state.get(key)
        if value not in (None, "", (), [], defaults.get(key)):
            wanted[name] = _texts(value)
    here = {name: st.query_params.get_all(name) for name in PARAMETERS if name in st.query_params}
    if here != wanted:
        own = {name: st.query_params.get_all(name) for name in st.query_params if name not in PARAMETERS}
        st.query_params.from_dict({**own, **wanted})


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else [str(value)]
