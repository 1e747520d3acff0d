"""The third tab: the evaluation report, and a threshold to move, with its precision and recall."""

from typing import TYPE_CHECKING, NotRequired, TypedDict

import pyarrow as pa
import streamlit as st

from ray_app import storage
from ray_app.errors import UserError, check
from ray_app.evaluation.mixed_reviews import warning
from ray_app.markdown import look_up
from ray_app.ui import components
from ray_app.ui.error_lines import shown
from ray_app.ui.figures import box, svg
from ray_app.ui.thresholds import file as moved_file
from ray_app.ui.thresholds.curves import MEASURES, KeywordPredictions, Measure, Point, check_predictions
from ray_app.ui.translations import Translate
from ray_app.ui.within import check_within

if TYPE_CHECKING:
    from ray_app.evaluation.metrics import KeywordReport, ScoreReport

FIGURES = (  # (name, where the report has it)
    ("f1_keywords", ("keywords", "micro_varying", "f1")),
    ("f1_sign", ("tuples", "micro_sign", "f1")),
    ("f1_exact", ("tuples", "micro", "f1")),
    ("score_accuracy", ("scores", "accuracy")),
    ("mixed_sign", ("scores", "mixed", "sign_accuracy")),
    ("hit_rate", ("highlights", "hit_rate")),
    ("opinion_rate", ("opinions", "hit_rate")),
)
REQUIRED_FIGURES = 4  # the first ones; a report may lack highlights, an older one has no mixed reviews and no opinions
COLORS: dict[Measure, str] = {"precision": svg.BLUE, "recall": svg.ORANGE, "f1": svg.GRAY}


class Report(TypedDict):
    """What the tab reads of report.json besides FIGURES; older reports have neither thresholds nor scale."""

    bundle: str
    reviews: int
    keywords: "KeywordReport"
    scores: "ScoreReport"
    thresholds: NotRequired[dict[str, float] | None]
    scale: NotRequired[list[int] | None]
    left_out: NotRequired[int | None]


def show(report: str, bundle: str, decisions: str, say: Translate) -> None:
    """Draws the tab; moved thresholds are saved in the folder of decisions."""
    uri = st.text_input(say("report_file"), value=report, key="report", persist_state="session") or report
    try:
        check_within(uri, report.rpartition("/")[0] or ".", say)
        if not storage.exists(uri):
            _no_report(uri, bundle, say)
            return
        _draw(uri, _read_report(uri, say), decisions, say)
    except UserError as error:
        st.error(components.plain(shown(error, say)))


def _line(report: Report) -> str:
    """Which line is true of the reviews: only a bundle that says what it was trained on lets one say `unseen`."""
    return "report_line" if report.get("left_out") is None else "report_line_unseen"


def _no_report(uri: str, bundle: str, say: Translate) -> None:
    folder = uri.rsplit("/", 1)[0] if "/" in uri else "."
    st.info(say("no_report", path=components.plain(uri)))
    command = f"python -m jobs.evaluate --bundle {bundle} --labels sample --output {folder}"
    st.code(command, language=None, wrap_lines=True)


def _read_report(uri: str, say: Translate) -> Report:
    """Raises UserError where the report lacks something that the tab draws."""
    damaged = say("damaged_report", path=uri)
    try:
        report: Report = storage.read_json(uri)
        complete = all(look_up(report, path[:-1]) is not None for _, path in FIGURES[:REQUIRED_FIGURES])
        check(complete and report["keywords"]["per_keyword"] and report["reviews"], damaged)
    except (TypeError, KeyError, AttributeError):
        raise UserError(damaged) from None
    return report


def _draw(uri: str, report: Report, decisions: str, say: Translate) -> None:
    st.html(components.note(say(_line(report), bundle=report["bundle"], reviews=f"{report['reviews']:,}")))
    st.html(components.figures([_figure(report, name, path, say) for name, path in FIGURES]))
    mixed = report["scores"].get("mixed")
    if mixed and (line := warning(mixed)):
        st.warning(components.plain(line.removeprefix("warning: ")))
    st.html(components.heading(say("thresholds"), say("thresholds_hint")))
    _thresholds(uri, report, decisions, say)
    st.html(components.heading(say("per_keyword")))
    st.html(_per_keyword(report, say))
    confusion = report["scores"].get("confusion")
    if confusion:
        st.html(components.heading(say("confusion"), say("confusion_hint")))
        st.html(components.confusion(confusion, report.get("scale") or _scale_around_zero(len(confusion))))


def _figure(report: Report, name: str, path: tuple[str, ...], say: Translate) -> tuple[str, str, str]:
    """(label, value, what to compare it with)."""
    value, baseline = look_up(report, path), look_up(report, ("baseline", *path))
    compared = say("baseline", value=_decimal(baseline)) if baseline is not None else ""
    if name == "hit_rate" and value is not None:
        compared = say("random_word", value=_decimal(look_up(report, ("highlights", "random", "hit_rate"))))
    if name == "opinion_rate" and value is not None:
        compared = say("random_word", value=_decimal(look_up(report, ("opinions", "random"))))
    if name == "mixed_sign" and value is not None:
        compared = say("copied", value=_decimal(look_up(report, ("scores", "mixed", "copy_overall"))))
    if name == "score_accuracy":
        compared = say("shuffled", value=_decimal(look_up(report, ("scores", "accuracy_shuffled_keywords"))))
    return say(name), _decimal(value), compared


def _thresholds(uri: str, report: Report, decisions: str, say: Translate) -> None:
    """A keyword to choose and its threshold to move; needs the predictions beside the report."""
    predictions_uri = uri.rsplit("report.json", 1)[0] + "predictions.parquet"
    if not storage.exists(predictions_uri):
        st.html(components.note(say("no_predictions")))
        return
    names, own = list(report["keywords"]["per_keyword"]), report.get("thresholds") or {}
    file = moved_file.place(decisions, report["bundle"])
    moved_file.restore(uri, file, own)
    name = st.selectbox(say("keyword"), names, key="threshold_keyword", persist_state="session") or names[0]
    predictions = KeywordPredictions(_predictions(predictions_uri, len(names)), name, names.index(name))
    _move(uri, name, own.get(name), predictions, say)
    if own:
        moved_file.show(uri, file, report["bundle"], own, say)


def _move(uri: str, name: str, own_threshold: float | None, predictions: KeywordPredictions, say: Translate) -> None:
    """A slider, what it finds, and the curves that it moves along."""
    key = moved_file.key_of(uri, name)
    st.session_state.setdefault(key, round(own_threshold if own_threshold is not None else 0.5, 2))
    threshold = st.slider(say("threshold"), 0.0, 1.0, step=0.01, key=key, persist_state="session")
    own = predictions.at(own_threshold) if own_threshold is not None else None
    point = own if own and threshold == round(own.threshold, 2) else predictions.at(threshold)
    _point(point, own, say)
    _curves(predictions, name, threshold, say)
    if own and point is not own:
        st.button(say("reset"), on_click=lambda: st.session_state.update({key: round(own.threshold, 2)}))


def _point(point: Point, own: Point | None, say: Translate) -> None:
    """Figures at the chosen threshold, compared with the bundle's own."""
    measures = [(say(m), _decimal(point.value(m)), _change(point, own, m)) for m in MEASURES]
    st.html(components.figures(measures))
    counts = {"support": point.hits + point.misses, "hits": point.hits, "misses": point.misses, "extra": point.extra}
    line = say("counts", **counts)
    st.html(components.note(f"{line} {say('own_threshold', value=f'{own.threshold:.2f}')}" if own else line))


@st.cache_data(show_spinner=False, ttl=60, max_entries=4)
def _predictions(uri: str, keywords: int) -> pa.Table:
    return check_predictions(storage.read_parquet(uri), keywords, uri)


def _change(point: Point, own: Point | None, measure: Measure) -> str:
    """How far a measure is from its value at the bundle's own threshold."""
    now, before = point.value(measure), own.value(measure) if own else None
    if now is None or before is None:
        return ""
    return f"{now - before:+.3f}".replace("-", "−") if abs(now - before) >= 0.0005 else "±0"


def _curves(predictions: KeywordPredictions, name: str, threshold: float, say: Translate) -> None:
    rows = predictions.curve()
    lines = [
        (say(m), color, [(row["threshold"], row["value"]) for row in rows if row["measure"] == m])
        for m, color in COLORS.items()
    ]
    label = say("curve_label", keyword=name)
    table = pa.Table.from_pylist(rows)
    head = [say("threshold"), say("measure"), say("value")]

    def cells(row: dict[str, object]) -> list[str | float | None]:
        return [f"{row['threshold']:.2f}", say(str(row["measure"])), f"{row['value']:.3f}"]

    box.show("thresholds", svg.curves(lines, label, threshold), label, table, head, cells, say)


def _per_keyword(report: Report, say: Translate) -> str:
    header = [say(name) for name in ("keyword", *MEASURES, "support", "support_train")]
    rows: list[list[str | float | None]] = []
    for name, row in report["keywords"]["per_keyword"].items():
        measures = [float(row[m]) for m in MEASURES]
        rows.append([name, *measures, f"{row.get('support') or 0:,}", f"{row.get('support_train') or 0:,}"])
    return components.table(header, rows)


def _scale_around_zero(size: int) -> range:
    """The scale of a report that does not name it."""
    return range(-(size // 2), size - size // 2)


def _decimal(value: object) -> str:
    """Three decimals, a dash for None."""
    return f"{value:.3f}" if isinstance(value, int | float) else "–"
