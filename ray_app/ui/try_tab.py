"""The first tab: one review, its findings as chips, its highlighted words, what each word contributes."""

from collections.abc import Sequence

import streamlit as st

from ray_app import sample
from ray_app.data.rows import FindingRow
from ray_app.data.schema import MAX_CHARACTERS
from ray_app.data.text import is_blank, words
from ray_app.errors import UserError
from ray_app.ui import components
from ray_app.ui.analyzers import Analysis, Endpoint, Explanation, LocalBundle, ReviewAnalyzer, bundle_version
from ray_app.ui.error_lines import shown
from ray_app.ui.translations import Translate

UNSPACED = 12  # a word with this many characters is probably several without spaces
BARS = 12
EXAMPLES = (
    "옷은 예쁘지만 배송은 늦어요",
    "배송빠르고옷도이쁘네요굿",
    "가격 대비 원단이 부드럽고 핏도 예뻐요. 다만 실밥이 좀 나와 있네요",
)
LONG_EXAMPLE = 400  # characters; a longer one is listed by a name instead of its text


@st.cache_resource(show_spinner=False, ttl=30)
def _endpoint(url: str, token: str) -> Endpoint:
    return Endpoint(url, token or None)


@st.cache_resource(show_spinner=False, max_entries=2)
def _local_bundle(bundle: str, splitter: str, version: str) -> LocalBundle:
    return LocalBundle(bundle, splitter)


def show(endpoint: str, token: str, bundle: str, splitter: str, say: Translate) -> None:
    """Draws the tab; `splitter` is the option --words."""
    if not endpoint and "://" not in bundle and not bundle_version(bundle):
        st.info(say("no_bundle", path=components.plain(bundle)))
        st.code("python -m jobs.quickstart", language=None)
        return
    analyzer: ReviewAnalyzer
    try:
        with st.spinner(say("reading") if endpoint else say("loading_bundle")):
            if endpoint:
                analyzer = _endpoint(endpoint, token)
            else:
                analyzer = _local_bundle(bundle, splitter, bundle_version(bundle))
    except UserError as error:
        st.error(components.plain(shown(error, say)))
        return
    st.session_state.setdefault("submitted", EXAMPLES[0])  # a first visit sees what the page does
    st.session_state.setdefault("review", EXAMPLES[0])
    _input(say)
    _analysis(analyzer, st.session_state.get("submitted", ""), say)
    source = "source_endpoint" if endpoint else "source_bundle"
    st.html(components.note(say(source, location=analyzer.location, bundle=analyzer.bundle_id)))


def _input(say: Translate) -> None:
    options = _examples()
    st.selectbox(
        say("pick"),
        options,
        index=None,
        key="example",
        placeholder=say("pick_hint"),
        format_func=lambda text: say("example_long") if len(text) > LONG_EXAMPLE else text,
        on_change=_analyze_example,
    )
    st.text_area(
        say("review"),
        key="review",
        placeholder=say("review_hint"),
        height=110,
        max_chars=MAX_CHARACTERS,
        persist_state="session",
    )
    if st.button(say("analyze"), type="primary", key="analyze"):
        st.session_state["submitted"] = st.session_state["review"]


def _analyze_example() -> None:
    if text := st.session_state["example"]:
        st.session_state["review"] = st.session_state["submitted"] = text


@st.cache_data(show_spinner=False)
def _examples() -> list[str]:
    """EXAMPLES, some of the shipped test reviews, and one that is longer than most bundles can read."""
    reviews = sample.written_reviews()
    tested = [row["text"] for row in reviews if row["split"] == "test" and len(row["labels"]) >= 4]
    return [*EXAMPLES, *tested[:6], " ".join(row["text"] for row in reviews[:40])]


def _analysis(analyzer: ReviewAnalyzer, text: str, say: Translate) -> None:
    if not text:
        st.html(components.note(say("start_here")))
        return
    if is_blank(text):
        st.warning(say("empty_review"))
        return
    try:
        with st.spinner(say("analyzing")):
            analysis = analyzer.analyze(text)
    except UserError as error:
        st.error(components.plain(shown(error, say)))
        return
    _findings(text, analysis, say)
    if analysis["findings"]:
        _contributions(analyzer, text, analysis["findings"], say)


def _findings(text: str, analysis: Analysis, say: Translate) -> None:
    findings = analysis["findings"]
    st.html(components.heading(say("findings"), say("hover_hint") if findings else ""))
    if not findings:
        st.html(components.note(say("no_findings", best=f"{max(analysis['keyword_probabilities'], default=0):.0%}")))
    st.html(components.review(text, findings, say))
    if analysis["truncated"]:
        st.warning(say("truncated"), icon=":material/content_cut:")
    if word := unspaced(text):
        st.info(say("no_space", word=components.plain(word)), icon=":material/space_bar:")


def unspaced(text: str) -> str:
    """The first word that is probably a whole sentence without spaces, shortened; "" if there is none."""
    long_words = (text[start:end] for start, end in words([text])[0] if end - start >= UNSPACED)
    hangul = (word for word in long_words if sum("가" <= c <= "힣" for c in word) >= UNSPACED - 2)
    word = next(hangul, "")
    return word if len(word) <= 24 else word[:23] + "…"


def _contributions(analyzer: ReviewAnalyzer, text: str, findings: Sequence[FindingRow], say: Translate) -> None:
    st.html(components.heading(say("score_shares")))
    st.html(components.score_bars(findings, analyzer.scores, say))
    st.html(components.heading(say("why")))
    try:
        with st.spinner(say("analyzing")):
            explanation = analyzer.explain(text)
    except UserError as error:
        st.info(components.plain(shown(error, say)))
        return
    labels = {f["keyword"]: f"{f['keyword']} {components.signed(int(f['score']))}" for f in findings}
    keyword = st.pills(
        say("why_keyword"),
        list(labels),
        default=_largest_drop(findings),
        format_func=lambda name: components.plain(labels[name]),
        label_visibility="collapsed",
        required=True,
    )
    if keyword:
        _bars(explanation, keyword, say)


def _largest_drop(findings: Sequence[FindingRow]) -> str:
    """The keyword that depends most on a single word."""
    best = max(findings, key=lambda f: f["highlight"]["drop"] if f["highlight"] else -1.0)
    return best["keyword"]


def _bars(explanation: Explanation, keyword: str, say: Translate) -> None:
    drops = explanation["drops"].get(keyword) or []
    if not drops:
        st.html(components.note(say("why_none")))
        return
    rows = list(zip((word["word"] for word in explanation["words"]), drops, strict=True))
    strongest = sorted(range(len(rows)), key=lambda i: -abs(rows[i][1]))[:BARS]
    st.html(components.note(say("why_hint", keyword=keyword)))
    st.html(components.bars([rows[i] for i in sorted(strongest)]))
    if len(rows) > BARS:
        st.html(components.note(say("why_more", count=len(rows) - BARS)))
