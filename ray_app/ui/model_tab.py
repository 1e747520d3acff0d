"""The third tab: the evaluation report, and a threshold that can be moved to see precision and recall move."""

from typing import Any

import altair as alt
import pyarrow as pa
import streamlit as st

from ray_app import storage
from ray_app.errors import UserError, check
from ray_app.ui import components
from ray_app.ui.threshold_curves import Keyword, Point, checked
from ray_app.ui.translations import Translate

FIGURES = (
    ("f1_keywords", ("keywords", "micro_varying", "f1")),
    ("f1_sign", ("tuples", "micro_sign", "f1")),
    ("f1_exact", ("tuples", "micro", "f1")),
    ("score_accuracy", ("scores", "accuracy")),
    ("hit_rate", ("highlights", "hit_rate")),
)
COLOURS = {"precision": "#1a5ea8", "recall": "#d1702a", "f1": "#8c96a1"}


def show(report: str, bundle: str, say: Translate) -> None:
    """Draws the tab."""
    uri = st.text_input(say("report_file"), value=report, key="report", persist_state="session") or report
    try:
        if not storage.exists(uri):
            _none_yet(uri, bundle, say)
            return
        content = _report(uri, say)
        _draw(uri, content, say)
    except UserError as error:
        st.error(components.plain(str(error)))


def _none_yet(uri: str, bundle: str, say: Translate) -> None:
    folder = uri.rsplit("/", 1)[0] if "/" in uri else "."
    st.info(say("no_report", place=components.plain(uri)))
    st.code(
        f"python -m jobs.evaluate --bundle {bundle} --labels sample --output {folder}", language="bash", wrap_lines=True
    )


def _report(uri: str, say: Translate) -> dict[str, Any]:
    """The report, checked for what is drawn of it."""
    damaged = say("damaged_report", place=uri)
    try:
        content: dict[str, Any] = storage.read_json(uri)
        whole = all(_at(content, path[:-1]) is not None for _, path in FIGURES[:4])
        check(whole and content["keywords"]["per_keyword"] and content["reviews"], damaged)
    except (TypeError, KeyError, AttributeError):
        raise UserError(damaged) from None
    return content


def _draw(uri: str, content: dict[str, Any], say: Translate) -> None:
    st.html(components.note(say("report_line", bundle=content["bundle"], reviews=f"{content['reviews']:,}")))
    st.html(components.figures([_figure(content, name, path, say) for name, path in FIGURES]))
    st.html(components.heading(say("thresholds"), say("thresholds_hint")))
    _thresholds(uri, content, say)
    st.html(components.heading(say("per_keyword")))
    st.html(_per_keyword(content, say))
    counts = content["scores"].get("confusion")
    if counts:
        st.html(components.heading(say("confusion"), say("confusion_hint")))
        st.html(components.confusion(counts, content.get("scale") or _around_zero(len(counts))))


def _figure(content: dict[str, Any], name: str, path: tuple[str, ...], say: Translate) -> tuple[str, str, str]:
    value, base = _at(content, path), _at(content.get("baseline"), path)
    small = say("baseline", value=_number(base)) if base is not None else ""
    if name == "hit_rate" and value is not None:
        small = say("random_word", value=_number(_at(content, ("highlights", "random", "hit_rate"))))
    if name == "score_accuracy":
        small = say("shuffled", value=_number(_at(content, ("scores", "accuracy_shuffled_keywords"))))
    return say(name), _number(value), small


def _thresholds(uri: str, content: dict[str, Any], say: Translate) -> None:
    beside = uri.rsplit("report.json", 1)[0] + "predictions.parquet"
    if not storage.exists(beside):
        st.html(components.note(say("no_predictions")))
        return
    names = list(content["keywords"]["per_keyword"])
    name = st.selectbox(say("keyword"), names, key="threshold_keyword", persist_state="session") or names[0]
    keyword = Keyword(_predictions(beside, len(names)), name, names.index(name))
    own = (content.get("thresholds") or {}).get(name)
    key = f"threshold_{name}"
    st.session_state.setdefault(key, round(own if own is not None else 0.5, 2))
    threshold = st.slider(say("threshold"), 0.0, 1.0, step=0.01, key=key, persist_state="session")
    before = keyword.at(own) if own is not None else None
    point = before if before and threshold == round(before.threshold, 2) else keyword.at(threshold)
    st.html(components.figures([(say(m), _number(getattr(point, m)), _change(point, before, m)) for m in COLOURS]))
    counts = {"support": point.hits + point.misses, "hits": point.hits, "misses": point.misses, "extra": point.extra}
    told = say("counts", **counts)
    st.html(components.note(told if own is None else f"{told} {say('own_threshold', value=f'{own:.2f}')}"))
    st.altair_chart(_chart(keyword, threshold, say), width="stretch")
    if before and point is not before:
        st.button(say("reset"), on_click=lambda: st.session_state.update({key: round(before.threshold, 2)}))


@st.cache_data(show_spinner=False, ttl=60, max_entries=4)
def _predictions(uri: str, keywords: int) -> pa.Table:
    return checked(storage.read_parquet(uri), keywords, uri)


def _change(point: Point, before: Point | None, measure: str) -> str:
    """How far a measure is from what it is at the bundle's own threshold."""
    now, then = getattr(point, measure), getattr(before, measure, None)
    if now is None or then is None:
        return ""
    return f"{now - then:+.3f}".replace("-", "−") if abs(now - then) >= 0.0005 else "±0"


def _chart(keyword: Keyword, threshold: float, say: Translate) -> alt.LayerChart:
    rows = [{**row, "measure": say(row["measure"])} for row in keyword.curve()]
    colors = alt.Scale(domain=[say(m) for m in COLOURS], range=list(COLOURS.values()))
    lines = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("threshold:Q", title=say("threshold"), scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=6)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5)),
            color=alt.Color("measure:N", scale=colors, legend=alt.Legend(orient="top", title=None)),
            tooltip=[alt.Tooltip("threshold:Q", format=".2f"), "measure:N", alt.Tooltip("value:Q", format=".3f")],
        )
    )
    here = alt.Data(values=[{"threshold": threshold}])
    rule = alt.Chart(here).mark_rule(color="#1f2933", strokeDash=[4, 3]).encode(x="threshold:Q")
    return alt.layer(lines, rule).properties(height=320)


def _per_keyword(content: dict[str, Any], say: Translate) -> str:
    head = [say(name) for name in ("keyword", "precision", "recall", "f1", "support", "support_train")]
    rows = []
    for name, row in content["keywords"]["per_keyword"].items():
        measures = [float(row[m]) for m in ("precision", "recall", "f1")]
        rows.append([name, *measures, *(f"{row.get(n) or 0:,}" for n in ("support", "support_train"))])
    return components.table(head, rows)


def _around_zero(size: int) -> range:
    """The scale of a report that does not name it."""
    return range(-(size // 2), size - size // 2)


def _at(content: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        content = (content or {}).get(key)
    return content


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
