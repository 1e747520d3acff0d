"""The page without a browser: Streamlit's own runner over real folders, a real bundle and the endpoint's HTTP side."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import ray_app.ui
from ray_app import sample, storage
from ray_app.active_learning.merge import MergeConfig, merge
from ray_app.data import taxonomy
from ray_app.errors import UserError
from ray_app.inference.bundle_names import READY
from ray_app.labels import decisions
from ray_app.labels.decided import page_files
from ray_app.ui import folder_advice
from ray_app.ui.duckdb_files import Database
from ray_app.ui.error_lines import shown
from ray_app.ui.thresholds import file as moved_file
from ray_app.ui.translations import translator
from tests.support.page_data import MARKDOWN, endpoint, rows, write_analyses, write_evaluation

PAGE = str(Path(ray_app.ui.__file__).parent / "page.py")
Start = Callable[..., AppTest]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs the page with these flags on one of its tabs, in English."""

    def run(*flags: str, tab: int = 0, language: str = "en") -> AppTest:
        monkeypatch.setattr(sys, "argv", ["page.py", *flags])
        st.cache_resource.clear()
        st.cache_data.clear()
        page = AppTest.from_file(PAGE, default_timeout=60)
        page.query_params["lang"] = language
        page.session_state["open_tab"] = tab
        return page.run()

    return run


def html(page: AppTest) -> str:
    return "\n".join(str(element.proto.body) for element in page.get("html"))


def values(elements: Any) -> list[str]:
    return [element.value for element in elements]


def test_a_review_is_analyzed_with_the_bundle(start: Start, bundle_folder: str) -> None:
    page = start("--bundle", bundle_folder)
    assert page.text_area(key="review").value == "옷은 예쁘지만 배송은 늦어요"  # a first visit sees an example
    assert "nu-chip" in html(page)
    page.text_area(key="review").input("옷은 예쁘지만 <b>배송은</b> 늦어요").run()
    page.button(key="analyze").click().run()
    assert not page.exception
    assert "nu-chip" in html(page)
    assert "&lt;b&gt;배송은&lt;/b&gt;" in html(page)
    assert "nu-bars" in html(page)


def test_a_review_is_analyzed_through_the_endpoint(
    start: Start, bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUNCHI_TOKEN", "key")
    with endpoint(bundle_folder, "key") as url:
        page = start("--endpoint", url, "--bundle", "nowhere")
        page.selectbox(key="example").select_index(0).run()
        assert f"Endpoint {url} · bundle abc123" in html(page)
        assert "nu-chip" in html(page)
        assert "nu-bars" in html(page)
        page.text_area(key="review").input(" \n ").run()
        page.button(key="analyze").click().run()
        assert values(page.warning) == ["There is nothing to read in this review."]


def test_long_and_unspaced_reviews_are_explained(start: Start, bundle_folder: str) -> None:
    page = start("--bundle", bundle_folder)
    page.selectbox(key="example").select_index(-1).run()
    assert "only its beginning was analyzed" in page.warning[0].value
    page.text_area(key="review").input("배송빠르고옷도이쁘네요굿").run()
    page.button(key="analyze").click().run()
    assert not page.warning
    assert "“배송빠르고옷도이쁘네요굿” counts as one word" in page.info[0].value


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--endpoint", "http://127.0.0.1:9"), r"http\:\/\/127\.0\.0\.1\:9\/version\: not reachable"),
        (("--bundel", "x"), r"unknown argument \'\-\-bundel\'\; did you mean \'\-\-bundle\'\?"),
        (("--words", "comma"), "choose from"),
    ],
)
def test_a_mistake_is_one_line(start: Start, flags: tuple[str, ...], line: str) -> None:
    page = start(*flags)
    assert len(page.error) == 1
    assert line in page.error[0].value
    assert "\n" not in page.error[0].value
    assert not page.exception


def test_a_damaged_bundle_is_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    page = start("--bundle", str(tmp_path))
    assert "bundle\\.json is damaged" in page.error[0].value
    assert not page.exception


def test_a_wrong_token_is_reported(start: Start, bundle_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUNCHI_TOKEN", "wrong")
    with endpoint(bundle_folder, "key") as url:
        assert "token" in start("--endpoint", url).error[0].value


def test_without_analyses_or_report_the_page_shows_the_command_that_makes_them(start: Start, tmp_path: Path) -> None:
    page = start("--bundle", "nowhere/at_all")
    assert r"No bundle at nowhere\/at\_all yet" in page.info[0].value
    assert page.code[0].value == "python -m jobs.quickstart"
    page = start("--analyses", str(tmp_path / "none"), "--bundle", "b", tab=1)
    assert "No analyses at" in page.info[0].value
    assert "Until then you see an analyzed example" in page.info[0].value
    assert "2,976 reviews analyzed · 24 rejected" in html(page)
    assert "nu-shares" in html(page)
    assert page.code[0].value.startswith("python -m jobs.analyze --bundle b --keep text,product,mall,category")
    page = start("--report", str(tmp_path / "none" / "report.json"), "--bundle", "b", tab=2)
    assert page.code[0].value == f"python -m jobs.evaluate --bundle b --labels sample --output {tmp_path}/none"


def test_filters_narrow_the_catalog_and_a_word_leads_to_its_reviews(start: Start, tmp_path: Path) -> None:
    write_analyses(str(tmp_path), rows(120))
    page = start("--analyses", str(tmp_path), tab=1)
    assert "120 reviews analyzed · 3 rejected · bundle abc123" in html(page)
    page.multiselect(key="f_keywords").select("색상").run()
    assert "<b>24</b><small>20.0% of all</small>" in html(page)
    page.button_group(key="words of 색상").set_value("예뻐요").run()
    assert html(page).count("nu-card nu-review") == 24
    assert any(button.label == "Highlight “예뻐요” (색상) ✕" for button in page.button)
    next(button for button in page.button if button.label == "Clear all filters").click().run()
    assert html(page).count("nu-card nu-review") == 50
    assert "1–50 of 120" in html(page)
    page.button(key="next_top").click().run()
    page.button(key="next_top").click().run()
    assert "101–120 of 120" in html(page)
    assert page.button(key="next_top").disabled
    page.button(key="previous_bottom").click().run()
    assert "51–100 of 120" in html(page)


def test_filters_without_their_column_are_left_out_and_named(start: Start, tmp_path: Path) -> None:
    write_analyses(str(tmp_path), rows(30), keep=("mall",))
    page = start("--analyses", str(tmp_path), tab=1)
    assert "Text contains, Product, Category, Dates: not in these analyses." in html(page)
    assert "--keep text,product,category,created_at." in html(page)
    assert "No date column, so no trend over time." in html(page)
    assert [widget.key for widget in page.multiselect] == ["f_keywords", "f_malls"]
    assert not page.date_input
    page.session_state["view"] = "reviews"
    page.run()
    assert "「빨라요!!」" in html(page)


def test_words_of_reviews_are_not_read_as_markdown(start: Start, tmp_path: Path) -> None:
    write_analyses(str(tmp_path), rows(50))
    page = start("--analyses", str(tmp_path), tab=1)
    page.multiselect(key="f_keywords").select("가격").run()
    labels = [option.content for option in page.button_group(key="words of 가격").proto.options]
    assert labels == [rf"a\!\[\]\(\/\/e\.co\/x\)z · {n}" for n in (10,)]
    assert MARKDOWN in html(page)


def test_a_threshold_moves_precision_and_recall(start: Start, tmp_path: Path) -> None:
    page = start("--report", write_evaluation(str(tmp_path)), tab=2)
    assert page.slider[0].value == 0.7
    assert "Of 2 labeled reviews, 1 found and 1 missed; 0 found without a label." in html(page)
    page.slider[0].set_value(0.3).run()
    assert "Of 2 labeled reviews, 2 found and 0 missed; 1 found without a label." in html(page)
    assert "<b>0.667</b><small>−0.333</small>" in html(page)
    next(button for button in page.button if button.label == "Back to the bundle's own").click().run()
    assert page.slider[0].value == 0.7


@pytest.mark.parametrize("content", ["{}", "[]", "null", "{not json", '{"keywords": 3}'])
def test_a_damaged_report_is_one_line(start: Start, tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    page = start("--report", str(tmp_path / "report.json"), tab=2)
    assert len(page.error) == 1
    assert not page.exception


def test_an_evaluation_without_predictions_still_shows(start: Start, tmp_path: Path) -> None:
    report = write_evaluation(str(tmp_path))
    (tmp_path / "predictions.parquet").unlink()
    page = start("--report", report, tab=2)
    assert "run jobs.evaluate again to move thresholds" in html(page)
    assert "nu-confusion" in html(page)


def test_the_language_changes_every_tab_and_keeps_its_place(start: Start, tmp_path: Path) -> None:
    write_analyses(str(tmp_path), rows(30))
    page = start("--analyses", str(tmp_path), tab=1, language="ko")
    assert [tab.label for tab in page.tabs] == ["리뷰 분석", "카탈로그", "모델"]
    page.button_group(key="language").set_value("en").run()
    assert [tab.label for tab in page.tabs] == ["Try a review", "Catalog", "Model"]
    assert "30 reviews analyzed" in html(page)


def test_folders_that_the_page_was_not_given_stay_closed(start: Start, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    write_analyses(str(mine / "below"), rows(20))
    write_analyses(str(other), rows(20))
    (mine / "link").symlink_to(other)
    for tab, key, flag in ((1, "folder", "--analyses"), (2, "report", "--report")):
        page = start(flag, str(mine if tab == 1 else mine / "report.json"), tab=tab)
        for path in (str(other), str(mine / "link"), f"{mine}/../other", "/etc", f"{mine}x", "s3://bucket/x", "~"):
            page.text_input(key=key).input(path).run()
            assert "The page opens only what lies below" in page.error[0].value, path
        page.text_input(key=key).input(str(mine / "below")).run()
        assert not [error for error in page.error if "opens only" in error.value]


def test_what_a_query_spills_goes_into_a_folder_of_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUNCHI_CACHE", str(tmp_path / "cache"))
    database = Database("x", [])
    ((place,),) = database.connections[0].execute("select current_setting('temp_directory')").fetchall()
    assert place == str(tmp_path / "cache" / "page")
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


@pytest.fixture(scope="module")
def analyses(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("views")
    write_analyses(str(folder), rows(240))
    return str(folder)


def test_views_of_the_report_say_what_they_found_and_can_be_saved(start: Start, analyses: str) -> None:
    page = start("--analyses", analyses, tab=1)
    said = {
        "ranking": ("Of 240 series", "In 60 comparisons", "data:image/svg+xml"),
        "trend": ("None of", "Complaints over time"),
        "stars": ("costs the most stars", "What praise adds"),
        "compare": ("keywords moved beyond chance",),
    }
    for view, lines in said.items():
        page.session_state["view"] = view
        page.run()
        assert not page.exception, view
        assert any(line in html(page) for line in lines), view
        assert page.get("download_button"), view


def test_views_without_their_column_say_how_to_get_it(start: Start, tmp_path: Path) -> None:
    write_analyses(str(tmp_path), rows(20), keep=("text",))
    page = start("--analyses", str(tmp_path), tab=1)
    for view, column in (("ranking", "product,category,mall"), ("trend", "date"), ("stars", "rating")):
        page.session_state["view"] = view
        page.run()
        assert page.code[0].value == f"python -m jobs.analyze --keep {column} …", view


def test_a_link_keeps_tab_view_and_filters(start: Start, analyses: str) -> None:
    page = start("--analyses", analyses, tab=1)
    page.multiselect(key="f_keywords").select("색상").run()
    page.multiselect(key="f_malls").select("두루마당").run()
    kept = {name: page.query_params[name] for name in page.query_params}
    told = [kept[name] if isinstance(kept[name], str) else kept[name][0] for name in ("keyword", "mall")]
    assert told == ["색상", "두루마당"]  # Streamlit's runner of 1.67 gives a single value as text
    other = AppTest.from_file(PAGE, default_timeout=60)
    wrong = {
        "score": ["9"],
        "days": ["nonsense"],
        "tab": ["1"],
        "category": ["gone"],
        "sort": ["x"],
        "view": ["reviews"],
    }
    for name, values in {**kept, **wrong}.items():
        other.query_params[name] = values
    other.run()
    assert not other.exception
    assert other.multiselect(key="f_malls").value == ["두루마당"]
    assert "1–16 of 16" in html(other)


def test_moved_thresholds_are_saved_per_report_and_found_again(start: Start, tmp_path: Path) -> None:
    flags = ("--report", write_evaluation(str(tmp_path)), "--decisions", str(tmp_path / "decisions"))
    page = start(*flags, tab=2)
    assert not [button for button in page.button if button.key == "save_thresholds"]
    page.slider[0].set_value(0.3).run()
    page.button(key="save_thresholds").click().run()
    assert "abc123\\.json" in page.success[0].value
    saved = json.loads((tmp_path / "decisions" / "_thresholds" / "abc123.json").read_text(encoding="utf-8"))
    assert saved == {"bundle": "abc123", "thresholds": {"배송": 0.3}}
    page = start(*flags, tab=2)
    assert page.slider[0].value == 0.3
    page.button(key="reset_all").click().run()
    assert page.slider[0].value == 0.7
    page.button(key="save_thresholds").click().run()  # that all are the bundle's own again
    assert not page.exception
    assert start(*flags, tab=2).slider[0].value == 0.7


DECIDED: page_files.DecidedReview = {
    "review_id": "r1",
    "text": "배송 늦어요",
    "labels": [{"keyword": "배송", "score": -1, "highlights": None, "opinions": None}],
    "labeller": "kim",
    "labelled_at": "2026-01-01T00:00:00+00:00",
    "bundle": "abc123",
    "decisions": [],
}


def test_saved_thresholds_do_not_stop_those_who_read_decisions(tmp_path: Path) -> None:
    folder = str(tmp_path / "decisions")
    storage.write_bytes(moved_file.place(folder, "abc123"), b'{"thresholds": {"x": 0.3}}')
    page_files.append(folder, DECIDED)
    assert decisions.read(folder, taxonomy.load())[0].num_rows == 1
    assert merge(MergeConfig(answers=folder, labels="", output=str(tmp_path / "labels")))["new"] == 1


def test_files_that_are_no_decisions_do_not_stop_the_page(tmp_path: Path) -> None:
    """Others write into a shared folder too."""
    odd = ({"labels": None}, {"labels": [1]}, {"labeller": None}, {"labelled_at": None}, {"review_id": ["r"]})
    lines = [json.dumps({**DECIDED, **one}) for one in ({}, *odd)]
    (tmp_path / "1.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert page_files.read(str(tmp_path)) == [DECIDED]


@pytest.mark.parametrize(
    ("sign", "line"),
    [
        ("bundle.json", "is a bundle"),
        ("report.html", "is a report of jobs.report"),
        ("predictions.parquet", "is an evaluation"),
        ("batch.parquet", "is a batch to label"),
        ("labels.parquet", "holds labels"),
        ("_plan/0000.json", "has written nothing yet"),
        ("mine/_run.json", "holds folders of analyses, such as"),
        ("notes.md", "There are no analyses in"),
    ],
)
def test_a_wrong_folder_gets_the_right_advice(tmp_path: Path, sign: str, line: str) -> None:
    (tmp_path / sign).parent.mkdir(exist_ok=True)
    (tmp_path / sign).write_text("{}")
    key, values, _ = folder_advice.advice(str(tmp_path), "ready")
    assert line in translator("en")(key, **values)
    assert translator("ko")(key, **values)


def test_errors_are_korean_on_a_korean_page() -> None:
    for english, korean in (
        ("x: no analyses there; make some with python -m jobs.analyze", "분석 결과가 없습니다"),
        ("http://a/version: not reachable (refused)", "연결할 수 없습니다"),
        ("a.parquet: cannot be read (Invalid)", "읽을 수 없습니다"),
        ("http://a/version: a token is needed: Authorization: Bearer …", "토큰이 없거나"),
        ("hf://a/b: the hub refuses (401); set HF_TOKEN to a token that may", "hf://a/b: the hub refuses"),
        ("an error nobody knows", "an error nobody knows"),
    ):
        assert korean in shown(UserError(english), translator("ko"))
        assert shown(UserError(english), translator("en")) == english


def test_a_decision_needs_a_name_and_is_seen_by_others(start: Start, analyses: str, tmp_path: Path) -> None:
    flags = ("--analyses", analyses, "--decisions", str(tmp_path / "decisions"))
    page = start(*flags, tab=1)
    page.session_state["view"] = "reviews"
    page.run()
    page.toggle(key="correct").set_value(True).run()
    page.button(key="correct 0").click().run()
    page.button(key="save_decision").click().run()
    assert "Write your name first." in values(page.error)
    page.text_input(key="who").input("=kim <b>").run()
    page.button(key="save_decision").click().run()
    assert not page.exception
    (file,) = (tmp_path / "decisions").rglob("*.jsonl")
    decided = json.loads(file.read_text(encoding="utf-8"))
    assert {each["action"] for each in decided["decisions"]} == {"confirm"}
    page = start(*flags, tab=1)
    page.session_state["view"] = "reviews"
    page.run()
    assert "✓ checked by =kim &lt;b&gt;" in html(page)


def test_two_changes_that_come_at_once_are_both_kept(start: Start, analyses: str, tmp_path: Path) -> None:
    page = start("--analyses", analyses, "--decisions", str(tmp_path), tab=1)
    page.session_state["view"] = "reviews"
    page.run()
    page.toggle(key="correct").set_value(True).run()
    page.button(key="correct 0").click().run()
    place = "r00000 0 2"  # review, label, of how many
    page.button_group(key=f"score of {place}").set_value(-1)
    page.button_group(key=f"highlights of {place}").set_value([0])
    page.text_input(key="who").input("kim").run()
    page.button(key="save_decision").click().run()
    (file,) = tmp_path.rglob("*.jsonl")
    first = json.loads(file.read_text(encoding="utf-8"))["labels"][0]
    assert (first["score"], first["highlights"]) == (-1, ["배송"])


@pytest.mark.parametrize("days", [["2019-01-01", "2019-02-01"], ["2025-05-01", "2025-02-01"]])
def test_days_of_another_folder_are_not_compared_with(start: Start, analyses: str, days: list[str]) -> None:
    start("--analyses", analyses, tab=2)
    page = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in {"tab": ["1"], "view": ["compare"], "before": days, "lang": ["en"]}.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    assert "keywords moved beyond chance" in html(page)


def test_the_shipped_example_is_of_the_shipped_bundle() -> None:
    """python -m ray_app.sample.example makes it anew."""
    run = json.loads((sample.ANALYSES / "_run.json").read_text(encoding="utf-8"))
    assert run["bundle"] == json.loads((READY / "bundle.json").read_text(encoding="utf-8"))["id"]
