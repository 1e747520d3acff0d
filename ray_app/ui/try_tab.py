"""The first tab: one review, its findings as chips, its highlighted words, what each word contributes."""

from typing import Any

import streamlit as st

from ray_app import sample
from ray_app.data.schema import MAX_CHARACTERS
from ray_app.data.text import is_blank, words
from ray_app.errors import UserError
from ray_app.ui import components
from ray_app.ui.analyzers import Endpoint, Here, Source, stamp
from ray_app.ui.translations import Translate

NO_SPACES = 12  # a word of so many characters is probably several without spaces
BARS = 12
EXAMPLES = (
    "옷은 예쁘지만 배송은 늦어요",
    "배송빠르고옷도이쁘네요굿",
    "가격 대비 원단이 부드럽고 핏도 예뻐요. 다만 실밥이 좀 나와 있네요",
)


@st.cache_resource(show_spinner=False, ttl=30)
def _endpoint(url: str, token: str) -> Endpoint:
    return Endpoint(url, token or None)


@st.cache_resource(show_spinner=False, max_entries=2)
def _here(bundle: str, words_are: str, stamped: str) -> Here:
    return Here(bundle, words_are)


def show(endpoint: str, token: str, bundle: str, words_are: str, say: Translate) -> None:
    """Draws the tab."""
    if not endpoint and "://" not in bundle and not stamp(bundle):
        st.info(say("no_bundle", place=components.plain(bundle)))
        st.code("python -m jobs.quickstart", language="bash")
        return
    try:
        with st.spinner(say("reading") if endpoint else say("loading_bundle")):
            source: Source = _endpoint(endpoint, token) if endpoint else _here(bundle, words_are, stamp(bundle))
    except UserError as error:
        st.error(components.plain(str(error)))
        return
    _ask(say)
    _answer(source, st.session_state.get("asked", ""), say)
    place = {"url": source.where, "path": source.where, "bundle": source.bundle}
    st.html(components.note(say("source_endpoint" if endpoint else "source_bundle", **place)))


def _ask(say: Translate) -> None:
    options = _examples()
    st.selectbox(
        say("pick"),
        options,
        index=None,
        key="example",
        placeholder=say("pick_hint"),
        format_func=lambda text: say("example_long") if len(text) > 400 else text,
        on_change=_picked,
    )
    st.text_area(
        say("review"),
        key="review",
        placeholder=say("review_hint"),
        height=110,
        max_chars=MAX_CHARACTERS,
        persist_state="session",
    )
    if st.button(say("analyse"), type="primary", key="analyse"):
        st.session_state["asked"] = st.session_state["review"]


def _picked() -> None:
    if text := st.session_state["example"]:
        st.session_state["review"] = st.session_state["asked"] = text


@st.cache_data(show_spinner=False)
def _examples() -> list[str]:
    """Characteristic ones, some of the shipped test reviews, and one that is longer than most bundles read."""
    tested = [row["text"] for row in sample.written() if row["split"] == "test" and len(row["labels"]) >= 4]
    return [*EXAMPLES, *tested[:6], " ".join(row["text"] for row in sample.written()[:40])]


def _answer(source: Source, text: str, say: Translate) -> None:
    if not text:
        st.html(components.note(say("start_here")))
        return
    if is_blank(text):
        st.warning(say("empty_review"))
        return
    try:
        with st.spinner(say("analysing")):
            analysis = source.analyze(text)
    except UserError as error:
        st.error(components.plain(str(error)))
        return
    _findings(text, analysis, say)
    if analysis["findings"]:
        _contributions(source, text, analysis["findings"], say)


def _findings(text: str, analysis: dict[str, Any], say: Translate) -> None:
    findings = analysis["findings"]
    st.html(components.heading(say("findings"), say("hover_hint") if findings else ""))
    if not findings:
        st.html(components.note(say("no_findings", best=f"{max(analysis['keyword_probabilities'], default=0):.0%}")))
    st.html(components.review(text, findings, say))
    if analysis["truncated"]:
        st.warning(say("truncated"), icon=":material/content_cut:")
    if long := unspaced(text):
        st.info(say("no_space", word=components.plain(long)), icon=":material/space_bar:")


def unspaced(text: str) -> str:
    """The first word that is so long that it is probably a whole sentence without spaces, shortened; else nothing."""
    found = (text[start:end] for start, end in words([text])[0] if end - start >= NO_SPACES)
    hangul = (word for word in found if sum("가" <= c <= "힣" for c in word) >= NO_SPACES - 2)
    word = next(hangul, "")
    return word if len(word) <= 24 else word[:23] + "…"


def _contributions(source: Source, text: str, findings: list[dict[str, Any]], say: Translate) -> None:
    st.html(components.heading(say("score_shares")))
    st.html(components.score_bars(findings, source.scale, say))
    st.html(components.heading(say("why")))
    try:
        with st.spinner(say("analysing")):
            told = source.explain(text)
    except UserError as error:
        st.info(components.plain(str(error)))
        return
    labels = {f["keyword"]: f"{f['keyword']} {components.signed(int(f['score']))}" for f in findings}
    keyword = st.pills(
        say("why_keyword"),
        list(labels),
        default=_decisive(findings),
        format_func=lambda name: components.plain(labels[name]),
        label_visibility="collapsed",
        required=True,
    )
    if keyword:
        _bars(told, keyword, say)


def _decisive(findings: list[dict[str, Any]]) -> str:
    """The keyword that leans most on one word: the one worth a first look."""
    best = max(findings, key=lambda f: f["highlight"]["drop"] if f["highlight"] else -1.0)
    return str(best["keyword"])


def _bars(told: dict[str, Any], keyword: str, say: Translate) -> None:
    drops = told["drops"].get(keyword) or []
    if not drops:
        st.html(components.note(say("why_none")))
        return
    rows = list(zip((word["word"] for word in told["words"]), drops, strict=True))
    strongest = sorted(range(len(rows)), key=lambda i: -abs(rows[i][1]))[:BARS]
    st.html(components.note(say("why_hint", keyword=keyword)))
    st.html(components.bars([rows[i] for i in sorted(strongest)]))
    if len(rows) > BARS:
        st.html(components.note(say("why_more", count=len(rows) - BARS)))
