"""The reviews of a catalog as pages of cards."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from ray_app.ui import cached_queries, components
from ray_app.ui.filters import Filters
from ray_app.ui.queries import PAGE_ROWS, Catalog, CatalogRow, Counts, Cursor, Page
from ray_app.ui.translations import Translate

FEW = 10  # a page with no more cards than this has buttons only at the top


def show(catalog: Catalog, filters: Filters, exact: bool, say: Translate) -> None:
    """Draws a page. The cursors of earlier pages are kept for the way back."""
    cursors_by_query = st.session_state.setdefault("pages", {})
    cursors = cursors_by_query.setdefault((catalog.uri, catalog.signature, filters), [Cursor()])
    with st.spinner(say("reading")):
        page = cached_queries.page(catalog, filters, cursors[-1])
    if not page.rows:
        st.info(say("nothing"))
        return
    range_line = _pager(cursors, page, "top", say)
    st.html(components.cards(_card(row, say) for row in page.rows))
    if len(page.rows) > FEW:
        _pager(cursors, page, "bottom", say)
    counts = cached_queries.counts(catalog, filters, exact)  # after the cards, which need no counts
    range_line.html(components.note(_range(cursors, page, say, matching(counts, say))), width="content")


def _pager(cursors: list[Cursor], page: Page, where: str, say: Translate) -> DeltaGenerator:
    """Previous, next, and the range of rows beside them; returns the place of that range."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            say("previous"),
            key=f"previous_{where}",
            disabled=len(cursors) == 1,
            on_click=lambda: cursors.__delitem__(-1),
        )
        st.button(
            say("next"), key=f"next_{where}", disabled=page.next is None, on_click=cursors.append, args=(page.next,)
        )
        range_line = st.empty()
    range_line.html(components.note(_range(cursors, page, say)), width="content")
    return range_line


def _range(cursors: list[Cursor], page: Page, say: Translate, total: str = "") -> str:
    first = (len(cursors) - 1) * PAGE_ROWS + 1
    rows = {"first": f"{first:,}", "last": f"{first + len(page.rows) - 1:,}"}
    return say("page_range_of", total=total, **rows) if total else say("page_range", **rows)


def matching(counts: Counts, say: Translate) -> str:
    """How many reviews match the filters; an estimate where only a part was read."""
    if counts.read >= counts.total:
        return say("exactly", count=f"{counts.reviews:,}")
    return say("about", count=f"{round(counts.reviews * counts.total / counts.read):,}")


def _card(row: CatalogRow, say: Translate) -> str:
    return components.card(row.get("text"), row["findings"] or [], _facts(row), row["truncated"], say)


def _facts(row: CatalogRow) -> list[str]:
    """The line above a review: its id, and what was kept of product, mall, category, date and rating."""
    facts = [row["review_id"], row.get("product"), row.get("mall"), row.get("category")]
    if created_at := row.get("created_at"):
        facts.append(created_at.date().isoformat())
    if (rating := row.get("rating")) is not None:
        facts.append(f"★ {rating:g}")
    return [str(fact) for fact in facts if fact]
