"""The second tab: what a folder of analyses says, by keyword and over time, and the reviews, page by page."""

from typing import Any

import altair as alt
import streamlit as st

from ray_app import storage
from ray_app.errors import UserError
from ray_app.ui import cached_queries, components, filter_bar, review_list
from ray_app.ui.cached_queries import Words
from ray_app.ui.filters import Filters
from ray_app.ui.queries import Catalog, Counts
from ray_app.ui.summary import by_keyword, decided, totals, trend
from ray_app.ui.translations import Translate


def show(analyses: str, bundle: str, say: Translate) -> None:
    """Draws the tab."""
    uri = st.text_input(say("folder"), value=analyses, key="folder", help=say("folder_hint"), persist_state="session")
    try:
        with st.spinner(say("reading")):
            catalog = _opened(uri or analyses, bundle, say)
        if catalog:
            _draw(catalog, say)
    except UserError as error:
        st.error(components.plain(str(error)))


def _opened(uri: str, bundle: str, say: Translate) -> Catalog | None:
    if not storage.exists(storage.join(uri, "data")):
        st.info(say("no_folder", place=components.plain(uri)))
        st.code(
            f"python -m jobs.analyze --bundle {bundle} --keep {filter_bar.KEEP} --output {uri}",
            language="bash",
            wrap_lines=True,
        )
        return None
    return cached_queries.opened(uri)


def _draw(catalog: Catalog, say: Translate) -> None:
    st.html(components.note(_provenance(catalog, say)))
    everything = bool(st.session_state.get(f"exact {catalog.uri}"))
    whole = cached_queries.counts(catalog, Filters(), False)
    filters = filter_bar.ask(
        catalog, sorted({k for k, *_ in whole.cells}), sorted({s for _, s, *_ in whole.cells}), say
    )
    views = {"summary": say("view_summary"), "reviews": say("view_reviews")}
    view = st.segmented_control(
        say("view"),
        list(views),
        format_func=views.__getitem__,
        default="summary",
        key="view",
        label_visibility="collapsed",
        required=True,
        persist_state="session",
    )
    if view == "reviews":
        review_list.show(catalog, filters, everything, say)
    else:
        _summary(catalog, filters, everything, say)


def _provenance(catalog: Catalog, say: Translate) -> str:
    run = catalog.run
    if run is None:
        return say("run_open")
    line = say("run_line", analyzed=f"{run.get('analysed', 0):,}", rejected=f"{run.get('rejected', 0):,}")
    return f"{line} · {say('run_bundle', bundle=run.get('bundle', '?'))}"


def _summary(catalog: Catalog, filters: Filters, everything: bool, say: Translate) -> None:
    with st.spinner(say("reading")):
        counts = cached_queries.counts(catalog, filters, everything)
        words = cached_queries.words(catalog, filters, everything)
    if counts.read < counts.total:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.html(
                components.note(say("sampled", read=f"{counts.read:,}", total=f"{counts.total:,}")), width="content"
            )
            st.button(say("exact"), on_click=lambda: st.session_state.update({f"exact {catalog.uri}": True}))
    if not counts.reviews:
        st.info(say("nothing"))
        return
    st.html(components.figures(_figures(counts, say)))
    st.html(components.heading(say("shares"), say("shares_hint")))
    st.html(components.legend(say))
    st.html(components.shares([_share(name, cells, words, say) for name, cells in by_keyword(counts.cells)]))
    _closer(catalog, counts, words, filters, say)


def _figures(counts: Counts, say: Translate) -> list[tuple[str, str, str]]:
    negative, neutral, positive = totals(counts.cells)
    findings = negative + neutral + positive
    return [
        (
            say("figure_reviews"),
            review_list.matching(counts, say),
            say("of_all", share=f"{counts.reviews / max(1, counts.read):.1%}"),
        ),
        (say("figure_per_review"), f"{findings / counts.reviews:.1f}", ""),
        (say("figure_positive"), f"{positive / max(1, findings):.0%}", ""),
        (say("figure_negative"), f"{negative / max(1, findings):.0%}", ""),
    ]


def _share(name: str, cells: list[tuple[int, int]], words: Words, say: Translate) -> tuple[str, str, Any, str]:
    """One keyword's row: its count, a part for every score, its first words."""
    count = sum(n for _, n in cells)
    parts = [
        (
            components.tone(s),
            n / count,
            f"{n / count:.0%}",
            f"{components.score_name(s, say)} ({components.signed(s)}): {n:,}",
        )
        for s, n in cells
    ]
    return name, f"{count:,}", parts, components.top_words((word, n) for word, n, _ in words.get(name, ())[:3])


def _closer(catalog: Catalog, counts: Counts, words: Words, filters: Filters, say: Translate) -> None:
    """One keyword: how its shares move, and its words, each of which leads to its reviews."""
    names = [name for name, _ in by_keyword(counts.cells)]
    st.html(components.heading(say("focus")))
    name = st.pills(
        say("focus"),
        names,
        default=filters.keywords[0] if filters.keywords and filters.keywords[0] in names else decided(counts.cells),
        format_func=components.plain,
        label_visibility="collapsed",
        required=True,
    )
    if not name:
        return
    _trend(catalog, counts, name, say)
    st.html(components.heading(say("words"), say("words_hint")))
    chosen = words.get(name, [])
    if not chosen:
        st.html(components.note(say("words_none")))
        return
    labels = {word: f"{components.plain(_short(word))} · {n:,}" for word, n, _ in chosen}
    key = f"words of {name}"
    st.pills(
        say("words"),
        list(labels),
        format_func=labels.__getitem__,
        key=key,
        on_change=lambda: filter_bar.follow(name, str(st.session_state[key] or "")),
        label_visibility="collapsed",
    )


def _short(word: str) -> str:
    return word if len(word) <= 16 else word[:15] + "…"


def _trend(catalog: Catalog, counts: Counts, name: str, say: Translate) -> None:
    steps = trend(counts.cells, name)
    if catalog.span is None or len({step["period"] for step in steps}) < 2:
        st.html(components.note(say("trend_short" if catalog.span else "trend_none")))
        return
    st.html(components.note(f"{say('trend')}, {say(f'period_{catalog.period}')}"))
    st.altair_chart(_trend_chart(steps, say), width="stretch")


def _trend_chart(steps: list[dict[str, Any]], say: Translate) -> alt.Chart:
    rows = [{**step, "side": say(step["side"])} for step in steps]
    days = sorted({step["period"] for step in steps})
    named = days[:: -(-len(days) // 8)]  # no more dates than fit a telephone
    colors = alt.Scale(domain=[say("positive"), say("negative")], range=["#1a5ea8", "#a8201a"])
    axis = alt.Axis(
        format="%y-%m-%d" if len({day[8:] for day in days}) > 1 else "%y-%m", values=named, labelOverlap=True
    )
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=True, strokeWidth=2)
        .encode(
            x=alt.X("period:T", title=None, axis=axis, scale=alt.Scale(domain=[days[0], days[-1]])),
            y=alt.Y("share:Q", title=None, axis=alt.Axis(format="%", tickCount=5), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("side:N", scale=colors, legend=alt.Legend(orient="top", title=None)),
            tooltip=[
                alt.Tooltip("period:T", format="%Y-%m-%d"),
                "side:N",
                alt.Tooltip("share:Q", format=".0%"),
                "count:Q",
            ],
        )
        .properties(height=300)
    )
