"""The reviews of a catalog, a page of cards at a time."""

from typing import Any

import streamlit as st

from ray_app.ui import cached_queries, components
from ray_app.ui.filters import Filters
from ray_app.ui.queries import PAGE_ROWS, Catalog, Counts, Page, Place
from ray_app.ui.translations import Translate


def show(catalog: Catalog, filters: Filters, everything: bool, say: Translate) -> None:
    """A page of cards. The places where earlier pages began are kept, so that one can go back."""
    begun = st.session_state.setdefault("pages", {})
    places = begun.setdefault((catalog.uri, catalog.signature, filters), [Place()])
    with st.spinner(say("reading")):
        page = cached_queries.page(catalog, filters, places[-1])
    if not page.rows:
        st.info(say("nothing"))
        return
    told = _pager(places, page, "top", say)
    st.html(components.cards(components.card(row, _meta(row), say) for row in page.rows))
    if len(page.rows) > 10:
        _pager(places, page, "bottom", say)
    counts = cached_queries.counts(catalog, filters, everything)  # after the rows: they come first
    told.html(components.note(_range(places, page, say, matching(counts, say))), width="content")


def _pager(places: list[Place], page: Page, where: str, say: Translate) -> Any:
    """Back and on, with the rows between; returns where those are written."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            say("previous"), key=f"previous_{where}", disabled=len(places) == 1, on_click=lambda: places.__delitem__(-1)
        )
        st.button(
            say("next"), key=f"next_{where}", disabled=page.next is None, on_click=places.append, args=(page.next,)
        )
        told = st.empty()
    told.html(components.note(_range(places, page, say)), width="content")
    return told


def _range(places: list[Place], page: Page, say: Translate, total: str = "") -> str:
    first = (len(places) - 1) * PAGE_ROWS + 1
    rows = {"first": f"{first:,}", "last": f"{first + len(page.rows) - 1:,}"}
    return say("page_range_of", total=total, **rows) if total else say("page_range", **rows)


def matching(counts: Counts, say: Translate) -> str:
    """How many reviews meet the filters; an estimate where only a part was read."""
    if counts.read >= counts.total:
        return say("exactly", count=f"{counts.reviews:,}")
    return say("about", count=f"{round(counts.reviews * counts.total / counts.read):,}")


def _meta(row: dict[str, Any]) -> list[str]:
    """What stands above a review, of what was kept."""
    facts = [row["review_id"], *(row.get(role) for role in ("product", "mall", "category"))]
    if row.get("created_at"):
        facts.append(row["created_at"].date().isoformat())
    if row.get("rating") is not None:
        facts.append(f"★ {row['rating']:g}")
    return [str(fact) for fact in facts if fact]
