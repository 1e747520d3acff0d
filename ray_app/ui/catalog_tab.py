"""The second tab: what a folder of analyses says, as views of it, and its reviews, page by page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import streamlit as st

from ray_app import sample, storage
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError
from ray_app.inference import bundle_names
from ray_app.inference.bundle import read_summary
from ray_app.ui import cached_queries, components, filter_bar, folder_advice, review_list, summary_view
from ray_app.ui.corrections.editor import Desk
from ray_app.ui.error_lines import shown
from ray_app.ui.filters import Filters
from ray_app.ui.queries import Catalog
from ray_app.ui.report_views import compare, drivers, ranking, trends
from ray_app.ui.report_views import report as reports
from ray_app.ui.translations import Translate
from ray_app.ui.within import check_within

VIEWS = ("summary", "reviews", "ranking", "trend", "stars", "compare")


@dataclass(frozen=True, kw_only=True)
class Places:
    """What the tab was given: the folder of analyses, the bundle, and where decisions go."""

    analyses: str
    bundle: str
    decisions: str


def show(places: Places, say: Translate) -> None:
    """Draws the tab."""
    typed = st.text_input(
        say("folder"), value=places.analyses, key="folder", help=say("folder_hint"), persist_state="session"
    )
    uri = typed or places.analyses
    try:
        check_within(uri, places.analyses, say)
        with st.spinner(say("reading")):
            catalog = _open_catalog(uri, places, say)
        if catalog:
            _draw(catalog, places, say)
    except UserError as error:
        st.error(components.plain(shown(error, say)))


def _open_catalog(uri: str, places: Places, say: Translate) -> Catalog | None:
    """The folder's catalog. Without analyses there: what to do about it, and on a first visit the shipped example."""
    if storage.exists(storage.join(uri, "data")):
        return cached_queries.open_catalog(uri)
    key, values, command = folder_advice.advice(uri, places.bundle)
    first = key == "no_folder" and uri == places.analyses
    (st.info if first else st.warning)(
        say(key, **{name: components.plain(value) for name, value in values.items()})
        + (f" {say('example')}" if first else "")
    )
    if command:
        st.code(command, language=None, wrap_lines=True)
    return cached_queries.open_catalog(str(sample.ANALYSES)) if first else None


def _draw(catalog: Catalog, places: Places, say: Translate) -> None:
    st.html(components.note(_provenance(catalog, say)))
    unfiltered = cached_queries.counts(catalog, Filters(), False)
    keywords = sorted({keyword for keyword, *_ in unfiltered.cells})
    scores = sorted({score for _, score, *_ in unfiltered.cells})
    names = {view: say(f"view_{view}") for view in VIEWS}
    if st.session_state.get("view") not in names:
        st.session_state["view"] = "summary"
    view = st.segmented_control(
        say("view"),
        list(names),
        format_func=names.__getitem__,
        key="view",
        label_visibility="collapsed",
        required=True,
        persist_state="session",
    )
    if view in ("summary", "reviews"):
        exact = bool(st.session_state.get(f"exact {catalog.uri}"))
        filters = filter_bar.show(catalog, keywords, scores, say)
        if view == "reviews":
            review_list.show(catalog, filters, exact, _desk(catalog, places, keywords, scores), say)
        else:
            summary_view.show(catalog, filters, exact, say)
        return
    if filter_bar.active():
        st.html(components.note(say("whole_catalog")))
    if view == "compare":
        compare.show(catalog, places.analyses, say)
        return
    draw: Mapping[str, Callable[..., None]] = {"ranking": ranking.show, "trend": trends.show, "stars": drivers.show}
    report = reports.of(catalog, "", say)
    if report is not None and view:
        draw[view](report, say)


def _provenance(catalog: Catalog, say: Translate) -> str:
    run = catalog.run
    if run is None:
        return say("run_open")
    line = say("run_line", analyzed=f"{run.get('analysed', 0):,}", rejected=f"{run.get('rejected', 0):,}")
    return f"{line} · {say('run_bundle', bundle=run.get('bundle', '?'))}"


@st.cache_data(show_spinner=False, ttl=60, max_entries=8)
def _taxonomy(uri: str) -> tuple[str, Taxonomy | None]:
    """A bundle's id and taxonomy; None where it is gone or cannot be read: reviews are shown all the same."""
    try:
        if place := bundle_names.found_at(uri, asked=False):
            index = storage.read_json(storage.join(place, bundle_names.INDEX))
            return str(index.get("id")), read_summary(place).taxonomy
    except (UserError, OSError):
        pass
    return "", None


def _desk(catalog: Catalog, places: Places, keywords: list[str], scores: list[int]) -> Desk:
    """Corrections in the words of the bundle that made the analyses, else of the page's where it knows all of their
    keywords, else in those of the analyses themselves."""
    run = catalog.run or {}
    made_by = str(run.get("bundle", ""))
    for uri in (str(run.get("config", {}).get("bundle", "")), places.bundle):
        found, taxonomy = _taxonomy(uri)
        if taxonomy and (found == made_by or set(keywords) <= set(taxonomy.names)):
            return Desk(
                folder=places.decisions,
                bundle=made_by,
                keywords=tuple(taxonomy.names),
                scores=tuple(taxonomy.scores),
                overall=taxonomy.overall,
            )
    scale = tuple(scores or (-2, -1, 0, 1, 2))
    return Desk(folder=places.decisions, bundle=made_by, keywords=tuple(keywords), scores=scale, overall=None)
