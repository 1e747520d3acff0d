"""The reviews of a catalog as pages of cards; on demand each with a button that corrects it."""

from collections.abc import Mapping

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from ray_app.labels.annotations import completion
from ray_app.labels.decided.page_files import DecidedReview
from ray_app.ui import cached_queries, components
from ray_app.ui.corrections import editor
from ray_app.ui.corrections.editor import Desk
from ray_app.ui.figures.svg import shortened
from ray_app.ui.filters import Filters
from ray_app.ui.queries import PAGE_ROWS, Catalog, CatalogRow, Counts, Cursor, Page
from ray_app.ui.translations import Translate

FEW = 10  # a page with no more cards than this has buttons only at the top
FACT = 60  # characters of a product's or mall's name that are shown
Decided = Mapping[str, list[DecidedReview]]


def show(catalog: Catalog, filters: Filters, exact: bool, desk: Desk, say: Translate) -> None:
    """Draws a page. The cursors of earlier pages are kept for the way back."""
    cursors_by_query = st.session_state.setdefault("pages", {})
    cursors = cursors_by_query.setdefault((catalog.uri, catalog.signature, filters), [Cursor()])
    with st.spinner(say("reading")):
        page = cached_queries.page(catalog, filters, cursors[-1])
    if not page.rows:
        st.info(say("nothing"))
        return
    decided = editor.decided(desk)
    correcting = _corrections(catalog, desk, len(decided), say)
    range_line = _pager(cursors, page, "top", say)
    if correcting:
        _cards_to_correct(page, desk, decided, say)
    else:
        st.html(components.cards(_card(row, decided, say) for row in page.rows))
    if len(page.rows) > FEW:
        _pager(cursors, page, "bottom", say)
    editor.show(desk, say)
    counts = cached_queries.counts(catalog, filters, exact)  # after the cards, which need no counts
    range_line.html(components.note(_range(cursors, page, say, matching(counts, say))), width="content")


def _corrections(catalog: Catalog, desk: Desk, count: int, say: Translate) -> bool:
    """Whether findings are to be corrected; tells what was saved, and how that becomes labels."""
    correcting = st.toggle(say("correct"), key="correct", help=say("correct_hint"), persist_state="session")
    if uri := st.session_state.pop("decision_saved", ""):
        st.success(say("saved", path=components.plain(uri)), icon=":material/check:")
    if correcting and "text" not in catalog.columns:
        st.info(say("correct_no_text"))
        return False
    if correcting and count:
        st.html(components.note(say("decisions_next", count=f"{count:,}")))
        command = f"python -m jobs.acquire merge --answers {desk.folder} --labels LABELS --output runs/labels"
        st.code(command, language=None, wrap_lines=True)
    return correcting


def _cards_to_correct(page: Page, desk: Desk, decided: Decided, say: Translate) -> None:
    for number, row in enumerate(page.rows):
        with st.container(key=f"card {number}"):
            st.html(_card(row, decided, say))
            if text := row.get("text"):
                st.button(
                    say("correct_one"),
                    key=f"correct {number}",
                    on_click=editor.begin,
                    args=(desk, row["review_id"], text, row["findings"] or []),
                )


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


def _card(row: CatalogRow, decided: Decided, say: Translate) -> str:
    facts = _facts(row)
    for one in decided.get(row["review_id"], []):
        if one["text"] == row.get("text"):
            who = say("decided_by", who=shortened(one["labeller"], FACT))
            facts.append(f"✓ {who}: {completion(one['labels'])}")
    return components.card(row.get("text"), row["findings"] or [], facts, row["truncated"], say)


def _facts(row: CatalogRow) -> list[str]:
    """The line above a review: its id, and what was kept of product, mall, category, date and rating."""
    facts = [row["review_id"], row.get("product"), row.get("mall"), row.get("category")]
    if created_at := row.get("created_at"):
        facts.append(created_at.date().isoformat())
    if (rating := row.get("rating")) is not None:
        facts.append(f"★ {rating:g}")
    return [shortened(str(fact), FACT) for fact in facts if fact]
