"""The catalog's queries, cached by folder and filters: a click that changes neither costs nothing."""

from collections.abc import Callable

import streamlit as st

from ray_app import storage
from ray_app.ui.filters import Filters
from ray_app.ui.queries import Catalog, Counts, Cursor, Page, TopWords, list_analyses

HASHES: dict[str | type, Callable[..., object]] = {  # how Streamlit tells arguments apart
    Filters: repr,
    Cursor: repr,
    Catalog: lambda catalog: (catalog.uri, catalog.signature),
}


def open_catalog(uri: str) -> Catalog:
    """The folder as it was at most a minute ago; opened anew only if its files have changed."""
    catalog: Catalog = _open(uri, _files(uri))
    return catalog


@st.cache_data(show_spinner=False, ttl=60)
def _files(uri: str) -> list[storage.FileInfo]:
    return list_analyses(uri)


@st.cache_resource(show_spinner=False, max_entries=4, hash_funcs={storage.FileInfo: repr})
def _open(uri: str, files: list[storage.FileInfo]) -> Catalog:
    return Catalog(uri, files)


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=HASHES)
def counts(catalog: Catalog, filters: Filters, exact: bool) -> Counts:
    """See `Catalog.counts`."""
    return catalog.counts(filters, exact)


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=HASHES)
def words(catalog: Catalog, filters: Filters, exact: bool) -> TopWords:
    """See `Catalog.words`."""
    return catalog.words(filters, exact)


@st.cache_data(show_spinner=False, max_entries=32, hash_funcs=HASHES)
def page(catalog: Catalog, filters: Filters, after: Cursor) -> Page:
    """See `Catalog.page`."""
    return catalog.page(filters, after)


@st.cache_data(show_spinner=False, max_entries=16, hash_funcs=HASHES)
def choices(catalog: Catalog, role: str) -> list[str]:
    """See `Catalog.choices`."""
    return catalog.choices(role)
