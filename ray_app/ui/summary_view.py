"""The summary of the reviews that match the filters: figures, keywords as bars, and one keyword more closely."""

from datetime import date

import pyarrow as pa
import streamlit as st

from ray_app.ui import cached_queries, components, filter_bar, review_list
from ray_app.ui.figures import box, svg
from ray_app.ui.filters import Filters
from ray_app.ui.queries import Catalog, Counts, TopWords
from ray_app.ui.summary import ORDERS, TrendRow, by_keyword, most_criticized, ordered, totals, trend
from ray_app.ui.translations import Translate

WORD_CHARACTERS = 16  # longer words are shortened
COLORS = {"positive": svg.BLUE, "negative": svg.RED}


def show(catalog: Catalog, filters: Filters, exact: bool, say: Translate) -> None:
    """Draws the view."""
    with st.spinner(say("reading")):
        counts = cached_queries.counts(catalog, filters, exact)
        words = cached_queries.words(catalog, filters, exact)
    if counts.read < counts.total:
        with st.container(horizontal=True, vertical_alignment="center"):
            estimate = say("sampled", read=f"{counts.read:,}", total=f"{counts.total:,}")
            st.html(components.note(estimate), width="content")
            st.button(say("exact"), on_click=lambda: st.session_state.update({f"exact {catalog.uri}": True}))
    if not counts.reviews:
        st.info(say("nothing"))
        return
    st.html(components.figures(_figures(counts, say)))
    _bars(counts, words, say)
    _keyword_details(catalog, counts, words, filters, say)


def _figures(counts: Counts, say: Translate) -> list[tuple[str, str, str]]:
    """(label, value, small line) of each figure."""
    negative, neutral, positive = totals(counts.cells)
    findings = negative + neutral + positive
    share = f"{counts.reviews / max(1, counts.read):.1%}"
    return [
        (say("figure_reviews"), review_list.matching(counts, say), say("of_all", share=share)),
        (say("figure_per_review"), f"{findings / counts.reviews:.1f}", ""),
        (say("figure_positive"), f"{positive / max(1, findings):.0%}", ""),
        (say("figure_negative"), f"{negative / max(1, findings):.0%}", ""),
    ]


def _bars(counts: Counts, words: TopWords, say: Translate) -> None:
    """Keywords by how often they are found, or by how much trouble they are."""
    st.html(components.heading(say("shares"), say("shares_hint")))
    names = {order: say(f"sort_{order}") for order in ORDERS}
    if st.session_state.get("sort") not in names:
        st.session_state["sort"] = ORDERS[0]
    order = st.segmented_control(
        say("order"), list(names), format_func=names.__getitem__, key="sort", required=True, persist_state="session"
    )
    rows = ordered(by_keyword(counts.cells), order or ORDERS[0])
    st.html(components.legend(say) + components.stacked_bars([_bar(name, scores, words, say) for name, scores in rows]))
    table = pa.Table.from_pylist(
        [{"keyword": name, "score": score, "findings": n} for name, scores in rows for score, n in scores]
    )
    head = [say("keyword"), say("filter_scores"), say("findings_count")]

    def cells(row: dict[str, object]) -> list[str | float | None]:
        return [str(row["keyword"]), components.signed(int(str(row["score"]))), f"{row['findings']:,}"]

    box.show("keywords", "", say("shares"), table, head, cells, say)


def _bar(name: str, scores: list[tuple[int, int]], words: TopWords, say: Translate) -> components.StackedBar:
    """One keyword: its findings, a segment per score, its first words."""
    findings = sum(n for _, n in scores)
    segments = [
        components.Segment(
            color=components.tone(score),
            share=n / findings,
            label=f"{n / findings:.0%}",
            tooltip=f"{components.score_name(score, say)} ({components.signed(score)}): {n:,}",
        )
        for score, n in scores
    ]
    top = components.top_words((_shortened(word), n) for word, n, _ in words.get(name, ())[:3])
    return components.StackedBar(name=svg.shortened(name), note=f"{findings:,}", segments=segments, right_html=top)


def _keyword_details(catalog: Catalog, counts: Counts, words: TopWords, filters: Filters, say: Translate) -> None:
    """One keyword: its shares over time, and its words, each of which leads to its reviews."""
    names = [name for name, _ in by_keyword(counts.cells)]
    filtered = filters.keywords[0] if filters.keywords else None
    st.html(components.heading(say("focus")))
    name = st.pills(
        say("focus"),
        names,
        default=filtered if filtered in names else most_criticized(counts.cells),
        format_func=lambda one: components.plain(svg.shortened(one)),
        label_visibility="collapsed",
        required=True,
    )
    if not name:
        return
    _trend(catalog, counts, name, say)
    st.html(components.heading(say("words"), say("words_hint")))
    _words(name, words, say)


def _words(keyword: str, words: TopWords, say: Translate) -> None:
    labels = {word: f"{components.plain(_shortened(word))} · {n:,}" for word, n, _ in words.get(keyword, [])}
    if not labels:
        st.html(components.note(say("words_none")))
        return
    key = f"words of {keyword}"
    st.pills(
        say("words"),
        list(labels),
        format_func=labels.__getitem__,
        key=key,
        on_change=lambda: filter_bar.open_reviews(keyword, str(st.session_state[key] or "")),
        label_visibility="collapsed",
    )


def _shortened(word: str) -> str:
    return svg.shortened(word, WORD_CHARACTERS)


def _trend(catalog: Catalog, counts: Counts, name: str, say: Translate) -> None:
    rows = trend(counts.cells, name)
    if catalog.span is None or len({row["period"] for row in rows}) < 2:
        st.html(components.note(say("trend_short" if catalog.span else "trend_none")))
        return
    about = f"{say('trend')}, {say(f'period_{catalog.period}')}"
    st.html(components.note(f"{about}. {say('trend_few', few=svg.FEW)}"))
    head = [say(name) for name in ("since", "side", "share", "findings_count")]

    def cells(row: dict[str, object]) -> list[str | float | None]:
        return [str(row["period"]), say(str(row["side"])), f"{row['share']:.0%}", f"{row['count']:,}"]

    drawn = svg.courses(_courses(rows, say), f"{name}: {about}", top=1.0)
    box.show("trend", drawn, f"{name}: {about}", pa.Table.from_pylist(rows), head, cells, say)


def _courses(rows: list[TrendRow], say: Translate) -> list[svg.Course]:
    days = [date.fromisoformat(row["period"]).toordinal() for row in rows]
    first, span = min(days), max(1, max(days) - min(days))
    courses = []
    for side, color in COLORS.items():
        points = [
            svg.Point(
                at=(day - first) / span,
                date=row["period"][2:] if span < 200 else row["period"][2:7],
                share=row["share"],
                count=row["count"],
            )
            for day, row in zip(days, rows, strict=True)
            if row["side"] == side
        ]
        courses.append(svg.Course(name=say(side), color=color, points=points))
    return courses
