"""The second tab: what a folder of analyses says, by keyword and over time, and its reviews, page by page."""

import altair as alt
import streamlit as st

from ray_app import storage
from ray_app.errors import UserError
from ray_app.ui import cached_queries, components, filter_bar, review_list
from ray_app.ui.filters import Filters
from ray_app.ui.queries import Catalog, Counts, TopWords
from ray_app.ui.summary import TrendRow, by_keyword, most_criticized, totals, trend
from ray_app.ui.translations import Translate
from ray_app.ui.within import check_within

SHOWN_DATES = 8  # on the axis of the trend: no more fit a phone
WORD_CHARACTERS = 16  # longer words are shortened


def show(analyses: str, bundle: str, say: Translate) -> None:
    """Draws the tab."""
    uri = st.text_input(say("folder"), value=analyses, key="folder", help=say("folder_hint"), persist_state="session")
    try:
        check_within(uri or analyses, analyses, say)
        with st.spinner(say("reading")):
            catalog = _open_catalog(uri or analyses, bundle, say)
        if catalog:
            _draw(catalog, say)
    except UserError as error:
        st.error(components.plain(str(error)))


def _open_catalog(uri: str, bundle: str, say: Translate) -> Catalog | None:
    """The folder's catalog; where it has no analyses yet, None and the command that makes some."""
    if storage.exists(storage.join(uri, "data")):
        return cached_queries.open_catalog(uri)
    st.info(say("no_folder", path=components.plain(uri)))
    command = f"python -m jobs.analyze --bundle {bundle} --keep {filter_bar.KEEP} --output {uri}"
    st.code(command, language="bash", wrap_lines=True)
    return None


def _draw(catalog: Catalog, say: Translate) -> None:
    st.html(components.note(_provenance(catalog, say)))
    exact = bool(st.session_state.get(f"exact {catalog.uri}"))
    unfiltered = cached_queries.counts(catalog, Filters(), False)
    keywords = sorted({keyword for keyword, *_ in unfiltered.cells})
    scores = sorted({score for _, score, *_ in unfiltered.cells})
    filters = filter_bar.show(catalog, keywords, scores, say)
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
        review_list.show(catalog, filters, exact, say)
    else:
        _summary(catalog, filters, exact, say)


def _provenance(catalog: Catalog, say: Translate) -> str:
    run = catalog.run
    if run is None:
        return say("run_open")
    line = say("run_line", analyzed=f"{run.get('analysed', 0):,}", rejected=f"{run.get('rejected', 0):,}")
    return f"{line} · {say('run_bundle', bundle=run.get('bundle', '?'))}"


def _summary(catalog: Catalog, filters: Filters, exact: bool, say: Translate) -> None:
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
    st.html(components.heading(say("shares"), say("shares_hint")))
    st.html(components.legend(say))
    rows = [_keyword_bar(name, scores, words, say) for name, scores in by_keyword(counts.cells)]
    st.html(components.stacked_bars(rows))
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


def _keyword_bar(name: str, scores: list[tuple[int, int]], words: TopWords, say: Translate) -> components.StackedBar:
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
    top = components.top_words((word, n) for word, n, _ in words.get(name, ())[:3])
    return components.StackedBar(name=name, note=f"{findings:,}", segments=segments, right_html=top)


def _keyword_details(catalog: Catalog, counts: Counts, words: TopWords, filters: Filters, say: Translate) -> None:
    """One keyword: its shares over time, and its words, each of which leads to its reviews."""
    names = [name for name, _ in by_keyword(counts.cells)]
    filtered = filters.keywords[0] if filters.keywords else None
    st.html(components.heading(say("focus")))
    name = st.pills(
        say("focus"),
        names,
        default=filtered if filtered in names else most_criticized(counts.cells),
        format_func=components.plain,
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
    return word if len(word) <= WORD_CHARACTERS else word[: WORD_CHARACTERS - 1] + "…"


def _trend(catalog: Catalog, counts: Counts, name: str, say: Translate) -> None:
    rows = trend(counts.cells, name)
    if catalog.span is None or len({row["period"] for row in rows}) < 2:
        st.html(components.note(say("trend_short" if catalog.span else "trend_none")))
        return
    st.html(components.note(f"{say('trend')}, {say(f'period_{catalog.period}')}"))
    st.altair_chart(_trend_chart(rows, say), width="stretch")


def _trend_chart(rows: list[TrendRow], say: Translate) -> alt.Chart:
    values = [{**row, "side": say(row["side"])} for row in rows]
    periods = sorted({row["period"] for row in rows})
    every = -(-len(periods) // SHOWN_DATES)
    by_day = len({period[8:] for period in periods}) > 1
    date_format = "%y-%m-%d" if by_day else "%y-%m"
    axis = alt.Axis(format=date_format, values=periods[::every], labelOverlap=True)
    colors = alt.Scale(domain=[say("positive"), say("negative")], range=["#1a5ea8", "#a8201a"])
    return (
        alt.Chart(alt.Data(values=values))
        .mark_line(point=True, strokeWidth=2)
        .encode(
            x=alt.X("period:T", title=None, axis=axis, scale=alt.Scale(domain=[periods[0], periods[-1]])),
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
