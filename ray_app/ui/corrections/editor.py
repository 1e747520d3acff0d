"""The dialog in which a review's findings are confirmed, changed, removed or added, and saved as a decision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import streamlit as st

from ray_app import storage
from ray_app.data.rows import FindingRow, LabelRow
from ray_app.errors import UserError
from ray_app.labels.annotations import completion
from ray_app.labels.decided import page_files
from ray_app.labels.decided.page_files import DecidedReview
from ray_app.ui import components
from ray_app.ui.corrections import draft as drafts
from ray_app.ui.corrections.draft import Draft
from ray_app.ui.translations import Translate

BUTTONS = 80  # words of a review that are buttons to mark; more are a list to search
KEYWORDS = 40  # keywords that are buttons
STATE = "correcting"  # the draft under way, by session


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where decisions go, and what they may say: the bundle that made the findings, its keywords and scores."""

    folder: str
    bundle: str
    keywords: tuple[str, ...]
    scores: tuple[int, ...]
    overall: str | None


@st.cache_data(show_spinner=False, ttl=20, max_entries=4)
def _decided(folder: str) -> dict[str, list[DecidedReview]]:
    by_review: dict[str, list[DecidedReview]] = {}
    for row in page_files.read(folder):
        by_review.setdefault(row["review_id"], []).append(row)
    return by_review


def decided(desk: Desk) -> dict[str, list[DecidedReview]]:
    """Review id -> every person's newest decision about it, the newest last."""
    found: dict[str, list[DecidedReview]] = _decided(desk.folder)
    return found


def begin(desk: Desk, review_id: str, text: str, findings: Sequence[FindingRow]) -> None:
    """Opens the dialog on a review, as it was last decided, or else as the model found it."""
    draft = drafts.of_findings(review_id, text, findings)
    _decided.clear()
    if earlier := [row for row in decided(desk).get(review_id, []) if row["text"] == text]:
        draft = drafts.resumed(draft, earlier[-1]["labels"])
    st.session_state[STATE] = draft
    st.session_state["correcting_one"] = 0


def show(desk: Desk, say: Translate) -> None:
    """Draws the dialog where a review is being corrected."""
    if STATE in st.session_state:
        st.dialog(say("correct_title"), width="large", on_dismiss=_end)(_body)(desk, say)


def _end() -> None:
    st.session_state.pop(STATE, None)


def _body(desk: Desk, say: Translate) -> None:
    draft: Draft = st.session_state[STATE]
    for row in decided(desk).get(draft.review_id, []):
        st.html(components.note(say("decided_by", who=row["labeller"]) + f": {completion(row['labels'])}"))
    st.html(components.review(draft.text, _as_findings(draft), say))
    _choose(draft, desk, say)
    number = int(st.session_state.get("correcting_one") or 0)
    if draft.labels:
        _edit(draft, min(number, len(draft.labels) - 1), desk, say)
    else:
        st.info(say("nothing_left"))
    _save(draft, desk, say)


def _as_findings(draft: Draft) -> list[FindingRow]:
    """The draft as the page draws findings: certain, the first word of each kind marked."""
    found: list[FindingRow] = []
    for label in draft.labels:
        marks = [
            {"word": "", "start": draft.spans[numbers[0]][0], "end": draft.spans[numbers[-1]][1], "drop": 1.0}
            if numbers
            else None
            for numbers in (label.highlights, label.opinions)
        ]
        found.append(
            {
                "keyword": label.keyword,
                "probability": 1.0,
                "score": label.score,
                "score_probabilities": [],
                "highlight": marks[0],  # type: ignore[typeddict-item]
                "opinion": marks[1],  # type: ignore[typeddict-item]
            }
        )
    return found


def _put(change: Callable[[Draft], Draft], chosen: int | None = None) -> None:
    """Changes the draft as it stands now: two clicks may come at once, and what was drawn is then one behind."""
    if STATE in st.session_state:
        st.session_state[STATE] = change(st.session_state[STATE])
        if chosen is not None:
            st.session_state["correcting_one"] = chosen


def _choose(draft: Draft, desk: Desk, say: Translate) -> None:
    """Which of the labels is edited, and a button that adds one."""
    names = [f"{label.keyword} {components.signed(label.score)}" for label in draft.labels]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if names:
            st.session_state["correcting_one"] = min(int(st.session_state.get("correcting_one") or 0), len(names) - 1)
            st.pills(
                say("findings_left"),
                range(len(names)),
                format_func=lambda number: components.plain(names[number]),
                key="correcting_one",
                required=True,
            )
        st.button(
            say("add_finding"),
            key="add_finding",
            disabled=not draft.unused(desk.keywords),
            on_click=lambda: _put(lambda now: _with_one_more(now, desk), len(draft.labels)),
        )


def _with_one_more(draft: Draft, desk: Desk) -> Draft:
    free = draft.unused(desk.keywords)
    return draft.added(free[0], max(desk.scores)) if free else draft


def _edit(draft: Draft, number: int, desk: Desk, say: Translate) -> None:
    """Keyword, score and words of one label."""
    label, place = draft.labels[number], f"{draft.review_id} {number} {len(draft.labels)}"
    free = draft.unused(dict.fromkeys([*desk.keywords, label.keyword]), number)
    keys = {name: f"{name} of {place}" for name in ("keyword", "score", "highlights", "opinions")}

    def change(name: str) -> Callable[[], None]:
        def store() -> None:
            value = st.session_state[keys[name]]
            value = tuple(sorted(value)) if name in ("highlights", "opinions") else value
            if value is not None:
                told = {name: value}
                _put(lambda now: now.changed(number, replace(now.labels[number], **told)))  # type: ignore[arg-type]

        return store

    _keyword(label.keyword, free, keys["keyword"], change("keyword"), say)
    st.pills(
        say("score_of"),
        sorted({*desk.scores, label.score}),
        default=label.score,
        format_func=components.signed,
        key=keys["score"],
        on_change=change("score"),
        required=True,
    )
    own = draft.words()
    for name, text in (("highlights", "words_of"), ("opinions", "opinions_of")):
        mark = _buttons if len(own) <= BUTTONS else _list
        mark(say(text), own, list(getattr(label, name)), keys[name], change(name))
    st.button(say("remove_finding"), key="remove_finding", on_click=lambda: _put(lambda now: now.without(number), 0))


def _keyword(own: str, free: list[str], key: str, store: Callable[[], None], say: Translate) -> None:
    """One of the keywords that no other label has: buttons, or where there are many a list to search."""
    if len(free) <= KEYWORDS:
        st.pills(
            say("keyword_of"), free, default=own, format_func=components.plain, key=key, on_change=store, required=True
        )
    else:
        st.selectbox(say("keyword_of"), free, free.index(own), key=key, on_change=store)


def _buttons(label: str, own: list[str], marked: list[int], key: str, store: Callable[[], None]) -> None:
    st.pills(
        label,
        range(len(own)),
        selection_mode="multi",
        default=marked,
        format_func=lambda number: components.plain(own[number][:24]),
        key=key,
        on_change=store,
    )


def _list(label: str, own: list[str], marked: list[int], key: str, store: Callable[[], None]) -> None:
    st.multiselect(
        label,
        range(len(own)),
        default=marked,
        format_func=lambda number: f"{number + 1} {own[number][:24]}",
        key=key,
        on_change=store,
    )


def _save(draft: Draft, desk: Desk, say: Translate) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        who = st.text_input(
            say("who"), key="who", max_chars=page_files.LONGEST, help=say("who_hint"), persist_state="session"
        )
        pressed = st.button(say("save_decision"), type="primary", key="save_decision")
    st.html(components.note(say("save_hint")))
    if not pressed:
        return
    names = [label.keyword for label in draft.labels]
    if not (who or "").strip():
        st.error(say("who_needed"))
    elif desk.overall and desk.overall not in names:
        st.error(say("overall_needed", overall=components.plain(desk.overall)))
    else:
        _write(draft, desk, str(who).strip(), say)


def _write(draft: Draft, desk: Desk, who: str, say: Translate) -> None:
    saved = draft.saved()
    labels: list[LabelRow] = [label for _, label in saved]
    row: DecidedReview = {
        "review_id": draft.review_id,
        "text": draft.text,
        "labels": labels,
        "labeller": who,
        "labelled_at": datetime.now(UTC).isoformat(),
        "bundle": desk.bundle,
        "decisions": page_files.compare(draft.old, saved),
    }
    try:
        uri = page_files.append(storage.absolute(desk.folder), row)
    except (UserError, OSError) as error:
        st.error(components.plain(str(error)))
        return
    _decided.clear()
    _end()
    st.session_state["decision_saved"] = uri
    st.rerun()
