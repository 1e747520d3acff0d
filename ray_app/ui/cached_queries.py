"""The catalog's questions, cached by folder and filter: a click that changes neither costs nothing."""

from typing import Any

import streamlit as st

from ray_app import storage
from ray_app.ui.filters import Filters
from ray_app.ui.queries import Catalog, Counts, Page, Place, files_of

Words = dict[str, list[tuple[str, int, float]]]
BY_VALUE: dict[Any, Any] = {Filters: repr, Place: repr, Catalog: lambda catalog: (catalog.uri, catalog.signature)}


def opened(uri: str) -> Catalog:
    """The folder as it is now, or was a minute ago; opened anew only where its files have changed."""
    catalog: Catalog = _open(uri, _files(uri))
    return catalog


@st.cache_data(show_spinner=False, ttl=60)
def _files(uri: str) -> list[storage.FileInfo]:
    return files_of(uri)


@st.cache_resource(show_spinner=False, max_entries=4, hash_funcs={storage.FileInfo: repr})
def _open(uri: str, files: list[storage.FileInfo]) -> Catalog:
    return Catalog(uri, files)


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=BY_VALUE)
def counts(catalog: Catalog, filters: Filters, everything: bool) -> Counts:
    return catalog.counts(filters, everything)


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=BY_VALUE)
def words(catalog: Catalog, filters: Filters, everything: bool) -> Words:
    return catalog.words(filters, everything)


@st.cache_data(show_spinner=False, max_entries=32, hash_funcs=BY_VALUE)
def page(catalog: Catalog, filters: Filters, behind: Place) -> Page:
    return catalog.page(filters, behind)


@st.cache_data(show_spinner=False, max_entries=16, hash_funcs=BY_VALUE)
def choices(catalog: Catalog, role: str) -> list[str]:
    return catalog.choices(role)
