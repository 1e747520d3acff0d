"""The page as started from the command line, in a real Chromium: every tab at two widths in both languages.

Screenshots go to the folder in NUNCHI_ARTIFACTS (build/page). Chromium and its driver are Debian's.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.support.chromium import chromium, installed
from tests.support.page_data import EVIL, MARKDOWN, rows, write_analyses, write_evaluation
from tests.support.paths import ROOT

ARTIFACTS = Path(os.environ.get("NUNCHI_ARTIFACTS", "build/page"))
OURS = ("127.0.0.1", "localhost", None)  # None: data: and blob: name no host
SECONDS = 90.0
REVIEW = "가격 대비 원단이 부드럽고 핏도 예뻐요. 다만 배송이 너무 늦었어요"
VIEWS = [(1280, "ko"), (390, "ko"), (1280, "en"), (390, "en")]


class Browser:
    """A tab of Chromium that knows when Streamlit has finished drawing."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.width = 0

    def resize(self, width: int, height: int = 900) -> None:
        self.width = width
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def open(self, url: str, width: int) -> None:
        self.resize(width)
        self.driver.get(url)
        self.until(lambda: self.all("[data-testid=stTab]"), "the tabs")
        self.settle()

    def all(self, selector: str) -> list[WebElement]:
        elements: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return elements

    def script(self, code: str, *values: Any) -> Any:
        return self.driver.execute_script(code, *values)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if result := condition():
                return result
            time.sleep(0.1)
        pytest.fail(f"waited {SECONDS:.0f} s for {what}; the page says: {self.text()[:500]}")

    def settle(self) -> None:
        """Waits until nothing has been running for three checks in a row."""
        quiet = 0

        def still() -> bool:
            nonlocal quiet
            busy = "return document.querySelector('[data-testid=stApp]').dataset.testScriptState !== 'notRunning'"
            quiet = 0 if self.script(busy) or self.all("[data-testid=stSpinner]") else quiet + 1
            return quiet >= 3

        time.sleep(0.3)
        self.until(still, "the script to end")

    def text(self) -> str:
        return str(self.script("return document.body.innerText"))

    def click(self, selector: str, index: int = 0) -> None:
        element = self.until(lambda: self.all(selector)[index : index + 1] or None, selector)[0]
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
        self.settle()

    def says(self, text: str) -> None:
        self.until(lambda: text in self.text(), f"{text!r}")

    def screenshot(self, name: str) -> None:
        """A screenshot of the whole page; nothing may be wider than the screen."""
        self.settle()
        inner = "const m = document.querySelector('[data-testid=stMain]');"
        tall = self.script(inner + "return m.scrollHeight")
        self.resize(self.width, min(int(tall) + 20, 3_000))
        time.sleep(0.8)
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(ARTIFACTS / f"{name}.png"))
        wide = self.script(inner + "return [m.scrollWidth - m.clientWidth, document.documentElement.scrollWidth]")
        self.resize(self.width)
        assert wide[0] == 0
        assert wide[1] <= self.width

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def hosts(self) -> set[str | None]:
        """The hosts of every request and socket since the last call."""
        hosts: set[str | None] = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            params = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                hosts.add(urlsplit(params["request"]["url"]).hostname)
            elif message["method"] == "Network.webSocketCreated":
                hosts.add(urlsplit(params["url"]).hostname)
        return hosts


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not installed():
        pytest.fail("no chromium or no chromedriver: apt-get install chromium chromium-driver", pytrace=False)
    with chromium() as chrome:
        yield Browser(chrome)


@contextmanager
def started(*flags: str) -> Iterator[str]:
    """The address of a page started at the repository's root."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "ray_app/ui/page.py", "--server.port", str(port), "--", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait(process: "subprocess.Popen[str]", url: str) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"streamlit ended: {process.communicate()[0]}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"{url} does not answer")


@pytest.fixture(scope="module")
def page(bundle_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    write_analyses(str(folder / "analyses"), rows(430))
    report = write_evaluation(str(folder / "evaluation"))
    with started("--bundle", bundle_folder, "--analyses", str(folder / "analyses"), "--report", report) as url:
        yield url


def clean(browser: Browser) -> None:
    assert browser.errors() == []
    assert browser.hosts() <= set(OURS)


def analyze(browser: Browser, text: str) -> None:
    area = browser.all("textarea")[0]
    area.send_keys(Keys.CONTROL, "a")
    area.send_keys(text)
    browser.click(".st-key-analyze button")
    browser.until(lambda: browser.all(".nu-bars"), "the contributions")


def tab(browser: Browser, index: int) -> None:
    browser.click("[data-testid=stTab]", index)


@pytest.mark.parametrize(("width", "language"), VIEWS)
def test_the_three_tabs(browser: Browser, page: str, width: int, language: str) -> None:
    browser.open(f"{page}/?lang={language}", width)
    analyze(browser, REVIEW)
    assert len(browser.all(".nu-review .nu-chip")) >= 2
    assert browser.script("return document.querySelector('.nu-text').textContent").startswith(REVIEW[:2])
    browser.screenshot(f"try-{width}-{language}")

    tab(browser, 1)
    browser.says("abc123")
    browser.until(
        lambda: browser.all("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"), "a chart"
    )
    browser.screenshot(f"catalog-{width}-{language}")
    browser.click(".st-key-f_scores button", 0)  # −2
    browser.says("20.0%")
    browser.click(".st-key-view button", 1)
    assert len(browser.all(".nu-card")) == 86
    assert "늦어요" in browser.all(".nu-card .nu-text")[0].text
    browser.screenshot(f"reviews-{width}-{language}")

    tab(browser, 2)
    browser.says("0.500")
    browser.script("document.querySelector('[data-testid=stSlider] input').focus()")
    ActionChains(browser.driver).send_keys(Keys.ARROW_LEFT * 30).perform()
    browser.says("0.667")  # precision at 0.40
    browser.screenshot(f"model-{width}-{language}")
    clean(browser)


def test_hovering_over_a_keyword_fades_the_others(browser: Browser, page: str) -> None:
    browser.open(f"{page}/?lang=en", 1280)
    analyze(browser, REVIEW)
    chips = browser.all(".nu-review .nu-chip")
    ActionChains(browser.driver).move_to_element(chips[0]).perform()
    browser.until(
        lambda: _opacities(browser)[0] == 1.0 and set(_opacities(browser)[1:]) == {0.22}, "the others to fade"
    )
    browser.screenshot("hovering-1280-en")
    clean(browser)


def _opacities(browser: Browser) -> list[float]:
    code = "return [...document.querySelectorAll('.nu-review .nu-chip')].map(c => +getComputedStyle(c).opacity)"
    return [round(value, 2) for value in browser.script(code)]


def test_a_word_leads_to_its_reviews_and_pages_turn(browser: Browser, page: str) -> None:
    browser.open(f"{page}/?lang=en", 1280)
    tab(browser, 1)
    browser.click(".st-key-view button", 1)
    browser.says("1–200 of 430")
    browser.click(".st-key-next_top button")
    browser.says("201–400 of 430")
    browser.click(".st-key-view button", 0)
    words = browser.until(lambda: _buttons(browser, "늦어요 · 86"), "the word")
    browser.script("arguments[0].scrollIntoView({block: 'center'})", words[0])
    words[0].click()
    browser.settle()
    browser.says("1–86 of 86")
    browser.says("Highlight “늦어요” (배송) ✕")
    clean(browser)


def _buttons(browser: Browser, text: str) -> list[WebElement]:
    return [button for button in browser.all("button") if button.text == text]


def test_reviews_that_attack_the_page_are_shown_as_text(browser: Browser, page: str) -> None:
    browser.open(f"{page}/?lang=en", 1280)
    analyze(browser, f"좋아요 {EVIL} {MARKDOWN}")
    assert _shown_review(browser) == f"좋아요 {EVIL} {MARKDOWN}"
    tab(browser, 1)
    _choose(browser, "가격")
    browser.until(lambda: _buttons(browser, f"{MARKDOWN} · 86"), "the word of 가격")
    browser.click(".st-key-view button", 1)
    browser.says(MARKDOWN)
    browser.screenshot("attacks-1280-en")
    assert browser.all("img") == []
    assert browser.script("return document.title") != "taken"
    clean(browser)


def _shown_review(browser: Browser) -> str:
    """The review as shown, without the labels on its words."""
    copy = "const t = document.querySelector('.nu-text').cloneNode(true);"
    return str(browser.script(copy + "t.querySelectorAll('i').forEach(i => i.remove()); return t.textContent"))


def _choose(browser: Browser, keyword: str) -> None:
    field = browser.all(".st-key-f_keywords input")[0]
    field.send_keys(keyword, Keys.ENTER, Keys.ESCAPE)
    browser.settle()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_with_nothing_to_show_says_what_to_do(browser: Browser, tmp_path: Path, width: int) -> None:
    none = str(tmp_path / "none")
    with started("--bundle", none, "--analyses", none, "--report", f"{none}/report.json") as url:
        browser.open(f"{url}/?lang=en", width)
        lines: Sequence[str] = ("python -m jobs.quickstart", "python -m jobs.analyze", "python -m jobs.evaluate")
        for index, line in enumerate(lines):
            tab(browser, index)
            browser.says(line)
            browser.screenshot(f"empty-{index}-{width}-en")
    assert browser.hosts() <= set(OURS)
