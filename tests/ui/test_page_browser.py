"""The page as started from the command line, in a real Chromium: every view at two widths in both languages.

One server and one browser for all tests. `make axe` fetches axe-core, without which its test is skipped.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from ray_app import storage
from ray_app.active_learning.merge import MergeConfig, merge
from ray_app.inference.analyzer import Analyzer
from ray_app.training import train
from tests.support.browser import AXE, Browser, page_browser, started
from tests.support.families import save_family
from tests.support.page_data import EVIL, MARKDOWN, finding, rows, write_analyses, write_evaluation

OURS = ("127.0.0.1", "localhost", None)  # None: data: and blob: name no host
REVIEW = "가격 대비 원단이 부드럽고 핏도 예뻐요. 다만 배송이 너무 늦었어요"
VIEWS = ("summary", "ranking", "trend", "stars", "compare", "reviews")
HOSTILE = (EVIL, "가" * 10_000, "=HYPERLINK(1)", "\u202eabc\u202d עברית", "x" * 300, "**a** [b](//c)", "바지 7")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with page_browser() as tab:
        yield tab


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Analyses; below them such with hostile names, one review to correct, and folders that are none."""
    folder = tmp_path_factory.mktemp("page") / "analyses"
    write_analyses(str(folder), rows(260))
    hostile = rows(280)
    for number, row in enumerate(hostile):
        name = HOSTILE[number % len(HOSTILE)]
        text = name + " " + "나" * 9_000 if number < 3 else f"{name[:400]} 빨라요"
        row |= {"product": name, "category": name, "text": text}
        row["findings"] = [finding(text, one["keyword"], one["score"], text.split()[-1]) for one in row["findings"]]
    write_analyses(str(folder / "hostile"), hostile)
    write_analyses(str(folder / "trip"), [{**rows(1)[0], "text": WRONG, "findings": [finding(WRONG, "핏", 1, "정말")]}])
    (folder / "empty").mkdir()
    write_evaluation(str(folder.parent / "evaluation"))
    return folder


@pytest.fixture(scope="module")
def page(folder: Path, bundle_folder: str) -> Iterator[str]:
    flags = {
        "--bundle": bundle_folder,
        "--analyses": str(folder),
        "--report": str(folder.parent / "evaluation" / "report.json"),
        "--decisions": str(folder.parent / "decisions"),
    }
    with started(*(part for pair in flags.items() for part in pair)) as url:
        yield url


def clean(browser: Browser) -> None:
    assert browser.errors() == []
    assert browser.hosts() <= set(OURS)


def analyze(browser: Browser, text: str) -> None:
    area = browser.all("textarea")[0]
    area.send_keys(Keys.CONTROL, "a")
    area.send_keys(text)
    browser.click(".st-key-analyze button")
    browser.until(lambda: text[:9] in shown_review(browser), "the review")


def shown_review(browser: Browser) -> str:
    """The review as shown, without the labels on its words."""
    code = """const t = document.querySelector('.nu-text').cloneNode(true);
        t.querySelectorAll('i').forEach(i => i.remove()); return t.textContent"""
    return str(browser.script(code))


def tab(browser: Browser, index: int) -> None:
    browser.click("[data-testid=stTab]", index)


def view(browser: Browser, index: int) -> None:
    browser.click(".st-key-view button", index)


@pytest.mark.parametrize(("width", "language", "other"), [(1280, "ko", 390), (390, "en", 1280)])
def test_every_view_works_and_fits(browser: Browser, page: str, width: int, language: str, other: int) -> None:
    browser.open(f"{page}/?lang={language}", width)
    assert "늦어요" in shown_review(browser)  # a first visit sees an analyzed example
    analyze(browser, REVIEW)
    assert len(browser.all(".nu-review .nu-chip")) >= 2
    browser.fits(f"try-{language}")
    tab(browser, 1)
    browser.click(".st-key-f_scores button", 0)  # −2
    browser.says("20.0%")
    browser.click(".st-key-sort button", 1)
    browser.fits(f"summary-{language}")
    names = dict(zip(VIEWS, (0, 2, 3, 4, 5, 1), strict=True))
    for name in VIEWS[1:]:
        view(browser, names[name])
        browser.fits(f"{name}-{language}")
        browser.resize(other)
        browser.fits(f"{name}-{language}")
        browser.resize(width)
    assert len(browser.all(".nu-card")) == 50
    assert "score=-2" in browser.driver.current_url
    tab(browser, 2)
    browser.says("0.500")
    browser.script("document.querySelector('[data-testid=stSlider] input, [role=slider]').focus()")
    ActionChains(browser.driver).send_keys(Keys.ARROW_LEFT * 30).perform()
    browser.says("0.667")  # precision at 0.40
    browser.fits(f"model-{language}")
    clean(browser)


def test_hovering_fades_the_others_and_attacks_are_text(browser: Browser, page: str) -> None:
    browser.open(f"{page}/?lang=en", 1280)
    analyze(browser, f"좋아요 {EVIL} {MARKDOWN}")
    assert shown_review(browser) == f"좋아요 {EVIL} {MARKDOWN}"
    chips = browser.all(".nu-review .nu-chip")
    ActionChains(browser.driver).move_to_element(chips[0]).perform()
    opacity = "return [...document.querySelectorAll('.nu-review .nu-chip')].map(c => +getComputedStyle(c).opacity)"

    def faded() -> bool:
        first, *rest = [round(value, 2) for value in browser.script(opacity)]
        return first == 1.0 and set(rest) <= {0.22}

    browser.until(faded, "the others to fade")
    assert browser.all("img") == []
    assert browser.script("return document.title") != "taken"
    clean(browser)


def test_hostile_names_and_texts_stay_within_a_phone(browser: Browser, page: str, folder: Path) -> None:
    given = quote(str(folder / "hostile"))
    browser.open(f"{page}/?lang=ko&tab=1&folder={given}&view=ranking&of={quote('만족도')}", 390)
    browser.until(lambda: browser.all("img[alt]"), "the ranking")
    browser.fits("hostile-ranking")
    for name, index in (("reviews", 1), ("trend", 3), ("summary", 0)):
        view(browser, index)
        browser.fits(f"hostile-{name}")
    assert browser.script("return document.title") != "taken"
    sources = browser.script("return [...document.querySelectorAll('img')].map(i => i.src)")
    assert all(source.startswith("data:image/svg+xml") for source in sources)
    clean(browser)


def test_wrong_and_empty_folders_say_what_to_do(browser: Browser, page: str, folder: Path) -> None:
    for name, line in (("none", "python -m jobs.analyze"), ("empty", "분석 결과가 없습니다"), ("data", "한 단계 위")):
        browser.open(f"{page}/?lang=ko&tab=1&folder={quote(str(folder / name))}", 390)
        browser.says(line)
        browser.fits(f"empty-{name}")
    browser.open(f"{page}/?lang=ko&tab=2&report={quote(str(folder.parent / 'evaluation' / 'none.json'))}", 390)
    browser.says("python -m jobs.evaluate")


@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core: make axe")
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_serious_fault(browser: Browser, page: str, width: int) -> None:
    found: dict[str, list[str]] = {}
    browser.open(f"{page}/?lang=ko", width)
    found["try"] = browser.faults()
    tab(browser, 1)
    for index in range(len(VIEWS)):
        view(browser, index)
        found[f"view {index}"] = browser.faults()
    tab(browser, 2)
    found["model"] = browser.faults()
    assert {name: lines for name, lines in found.items() if lines} == {}


WRONG = "배송 늦어요 정말"
KNOWN = (("배송 빨라요", "배송", 2), ("핏 좋아요", "핏", 1), ("색이 예뻐요", "색상", 1), ("가격 비싸요", "가격", -2))


def choose(browser: Browser, keyword: str) -> None:
    """Another keyword for the label that is edited."""
    inside = "[role=dialog] [class*='st-key-keyword-of'] button"
    browser.press(browser.until(lambda: [b for b in browser.all(inside) if b.text.strip() == keyword], keyword)[0])


def labels(folder: Path) -> str:
    """Labels that make the mistake."""
    lines = []
    for number in range(32):
        text, keyword, score = KNOWN[number % 4]
        both = [{"keyword": keyword, "score": score}, {"keyword": "만족도", "score": 1 if score > 0 else -1}]
        split = "validation" if number % 8 > 5 else "train"
        row = {"review_id": f"k{number}", "text": f"{text} {number % 3}", "labels": both, "split": split}
        lines.append(json.dumps(row, ensure_ascii=False))
    wrong = [{"keyword": "핏", "score": 1}, {"keyword": "만족도", "score": 1}]
    row = {"review_id": "r00000", "text": WRONG, "labels": wrong, "split": "train"}
    lines.append(json.dumps(row, ensure_ascii=False))
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "labels.jsonl")


def test_a_correction_becomes_a_label_and_the_model_learns_it(
    browser: Browser, page: str, folder: Path, tmp_path: Path
) -> None:
    browser.open(f"{page}/?lang=en&tab=1&view=reviews&folder={quote(str(folder / 'trip'))}", 1280)
    browser.until(lambda: browser.all(".nu-card .nu-chip"), "the card")
    browser.click(".st-key-correct label")
    browser.button("Correct")
    browser.says("Save as shown")
    browser.click("[role=dialog] [class*='st-key-score-of'] button", 0)  # −2
    choose(browser, "배송")
    browser.says("배송 −2")
    browser.click("[role=dialog] [class*='st-key-highlights-of'] button", 0)
    browser.click(".st-key-add_finding button")
    browser.says("스타일 +2")
    choose(browser, "만족도")
    browser.says("만족도 +2")
    browser.click("[role=dialog] [class*='st-key-score-of'] button", 1)  # −1
    browser.fits("correct")
    browser.all(".st-key-who input")[0].send_keys("kim", Keys.TAB)
    browser.settle()
    browser.click(".st-key-save_decision button")
    browser.says("checked by kim: 배송 -2, 만족도 -1")
    decisions = folder.parent / "decisions"
    (decided,) = [json.loads(line) for file in decisions.rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert [each["action"] for each in decided["decisions"]] == ["change", "add"]
    assert decided["labels"][0] == {"keyword": "배송", "score": -2, "highlights": ["배송", "정말"], "opinions": None}
    browser.driver.refresh()  # nothing is lost
    browser.says("checked by kim: 배송 -2, 만족도 -1")
    clean(browser)
    merged = merge(MergeConfig(answers=str(decisions), labels=labels(tmp_path), output=str(tmp_path / "merged")))
    assert (merged["new"], merged["changed"]) == (0, 1)
    assert storage.read_parquet(merged["labels"]).to_pylist()[-1]["labeller"] == "kim"
    base, bundle = str(save_family("bert", tmp_path / "base")), str(tmp_path / "bundle")
    told = {"epochs": 60, "batch_size": 8, "max_length": 32, "workers": 0, "device": "cpu", "learning_rate": 3e-3}
    train.run(train.Config(labels=merged["labels"], base_model=base, output=bundle, patience=0, **told))  # type: ignore[arg-type]
    found = Analyzer(bundle, "cpu", highlights="off")([WRONG])[0]["findings"]
    assert {one["keyword"]: one["score"] < 0 for one in found}.get("배송")
