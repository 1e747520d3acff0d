"""A tab of Chromium that knows when Streamlit has drawn, and a page started from the command line.

Screenshots go to the folder in NUNCHI_ARTIFACTS; without one none are taken. Chromium and its driver are Debian's.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.chromium import chromium, installed
from tests.support.paths import ROOT

ARTIFACTS = os.environ.get("NUNCHI_ARTIFACTS", "")
AXE = Path(os.environ.get("NUNCHI_AXE", str(ROOT / "build" / "axe" / "package" / "axe.min.js")))  # `make axe`
SECONDS = 120.0
IDLE = (
    "const a = document.querySelector('[data-testid=stApp]');"
    "return !!a && a.dataset.testScriptState === 'notRunning' && !document.querySelector('[data-testid=stSpinner]')"
)
WIDE = (
    "const m = document.querySelector('[data-testid=stMain]');"
    "return [m.scrollWidth - m.clientWidth, document.documentElement.scrollWidth]"
)


class Browser:
    """A tab of Chromium."""

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
        """Waits until nothing has been running twice in a row."""
        time.sleep(0.15)
        self.until(lambda: self.script(IDLE), "the script to end")
        time.sleep(0.1)  # a fragment may begin when another one ends
        self.until(lambda: self.script(IDLE), "the script to end")

    def text(self) -> str:
        return str(self.script("return document.body.innerText"))

    def click(self, selector: str, index: int = 0) -> None:
        self.press(self.until(lambda: self.all(selector)[index : index + 1] or None, selector)[0])

    def press(self, element: WebElement) -> None:
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
        self.settle()

    def button(self, text: str) -> None:
        """Presses the button with exactly this text."""
        find = "return [...document.querySelectorAll('button')].find(b => b.innerText.trim() === arguments[0])"
        self.press(self.until(lambda: self.script(find, text), f"the button {text!r}"))

    def says(self, text: str) -> None:
        self.until(lambda: text in self.text(), f"{text!r}")

    def fits(self, name: str) -> None:
        """Nothing is wider than the screen; where screenshots are wanted, one of the whole page is taken."""
        wide = self.script(WIDE)
        if ARTIFACTS:
            tall = self.script("return document.querySelector('[data-testid=stMain]').scrollHeight")
            self.resize(self.width, min(int(tall) + 20, 3_000))
            time.sleep(0.5)
            Path(ARTIFACTS).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(ARTIFACTS) / f"{name}-{self.width}.png"))
            self.resize(self.width)
        assert wide[0] <= 0, f"{name} is {wide[0]} pixels wider than its {self.width}"
        assert wide[1] <= self.width, name

    def faults(self) -> list[str]:
        """What axe-core calls serious or critical, a line each: rule, how many, the first place."""
        self.script(AXE.read_text(encoding="utf-8"))
        run = (
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations))"
        )
        found = self.driver.execute_async_script(run)
        return [
            f"{each['id']} ({each['impact']}) x{len(each['nodes'])}: {each['nodes'][0]['html'][:160]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

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


@contextmanager
def page_browser() -> Iterator[Browser]:
    """A browser of its own."""
    if not installed():
        pytest.fail("no chromium or no chromedriver: apt-get install chromium chromium-driver", pytrace=False)
    with chromium() as chrome:
        chrome.set_script_timeout(SECONDS)
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
