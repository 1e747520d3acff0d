"""The report in a real Chromium: nothing is loaded, nothing is wider than a phone, both languages, paper, keyboard."""

import base64
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from ray_app.insights import report
from ray_app.insights.report import Config
from tests.insights.test_report import HOSTILE, shop
from tests.support.chromium import chromium, installed
from tests.support.page_data import EVIL, finding, write_analyses

pytestmark = pytest.mark.skipif(not installed(), reason="no chromium or no chromedriver")
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser that shows the report of hostile names, with a change, quotes, stars and everything folded open."""
    folder = tmp_path_factory.mktemp("report")
    reviews = shop(900)
    for i, row in enumerate(reviews):
        row |= {"product": HOSTILE[i % 3], "mall": HOSTILE[i % len(HOSTILE)]}
        row["text"] = f"{row['text']} {HOSTILE[i % len(HOSTILE)][:200]}"
        row["findings"] = [row["findings"][0], finding(row["text"], EVIL, 1 - 2 * (i % 2), "상품")]
    write_analyses(str(folder / "analyses"), reviews)
    report.run(Config(analyses=str(folder / "analyses"), output=str(folder / "out"), title=EVIL, period="week"))
    with chromium() as driver:
        driver.get(f"file://{folder}/out/report.html#lang=ko")
        driver.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        yield driver


def sized(driver: webdriver.Chrome, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(browser: webdriver.Chrome, width: int) -> None:
    sized(browser, width)
    wide = browser.execute_script(
        """const seen = [...document.querySelectorAll("body *")].filter(one => !one.closest(".scroll, svg"));
        const ends = seen.map(one => one.getBoundingClientRect().right);
        return [document.documentElement.scrollWidth, Math.max(...ends)]"""
    )
    assert max(wide) <= width
    for box in browser.find_elements(By.CSS_SELECTOR, ".scroll"):
        assert box.get_attribute("tabindex") == "0"  # what scrolls can be scrolled without a mouse
        assert box.get_attribute("aria-label")


def test_names_and_texts_run_nothing_and_nothing_is_loaded(browser: webdriver.Chrome) -> None:
    assert browser.title.startswith("<script>")
    assert not browser.find_elements(By.CSS_SELECTOR, "img, iframe, link, [src], [onerror]")
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in urls} <= {"file", "data"}
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_charts_are_named_and_headings_go_down_step_by_step(browser: webdriver.Chrome) -> None:
    charts = browser.find_elements(By.CSS_SELECTOR, "svg")
    assert charts
    assert all(chart.get_attribute("role") == "img" and chart.get_attribute("aria-label") for chart in charts)
    levels = browser.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map(one => +one.tagName[1])")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_language_is_switched_by_keyboard(browser: webdriver.Chrome) -> None:
    def shown() -> Any:
        seen = "one => one.getClientRects().length > 0"
        return browser.execute_script(
            f"""const some = [...document.querySelectorAll("h2 .ko, h2 .en")].filter({seen});
            return [document.documentElement.lang, [...new Set(some.map(one => one.lang))]]"""
        )

    assert shown() == ["ko", ["ko"]]
    browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    focused = browser.switch_to.active_element
    assert focused.get_attribute("id") == "language"  # the first stop
    assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", focused) == "solid"
    focused.send_keys(Keys.ENTER)
    assert shown() == ["en", ["en"]]
    focused.send_keys(Keys.ENTER)
    assert shown() == ["ko", ["ko"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser: webdriver.Chrome, scheme: str) -> None:
    """WCAG 2 AA: 4.5 to 1, for every text on the background that it stands on."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    faint = browser.execute_script(CONTRAST)
    assert faint == []


def test_paper_is_a4_and_nothing_is_cut_or_light_on_white(browser: webdriver.Chrome) -> None:
    """Also where the screen is dark, and where a table would scroll."""
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    boxes = {box.split(b"]")[0] for box in printed.split(b"/MediaBox [")[1:]}
    assert len(boxes) == 1
    assert [round(float(side)) for side in boxes.pop().split()] == pytest.approx([0, 0, 595, 842], abs=1)
    sized(browser, 688)  # A4 without its margins
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    wide, faint = (
        browser.execute_script("return document.documentElement.scrollWidth"),
        browser.execute_script(CONTRAST),
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert faint == []
    assert wide <= 688


CONTRAST = """
const rgb = color => (color.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const linear = part => (part /= 255) <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
const light = color => 0.2126 * linear(color[0]) + 0.7152 * linear(color[1]) + 0.0722 * linear(color[2]);
const behind = one => {
  for (; one; one = one.parentElement) {
    const color = rgb(getComputedStyle(one).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = [];
while (walk.nextNode()) {
  const one = walk.currentNode.parentElement, words = walk.currentNode.textContent.trim();
  if (!words || !one.getClientRects().length || one.closest("script, svg")) continue;
  const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) faint.push([words.slice(0, 20), one.className, Math.round(ratio * 100) / 100]);
}
return faint;
"""
