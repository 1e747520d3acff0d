"""Chromium without a window, as Debian ships it with its driver; it asks nobody for anything by itself."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver

QUIET = ("background-networking", "component-update", "sync", "default-apps", "domain-reliability", "extensions")
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


def installed() -> bool:
    """Whether the browser and its driver are there."""
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


@contextmanager
def chromium(language: str = "ko-KR") -> Iterator[webdriver.Chrome]:
    """A browser that logs what its pages log and ask for."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in [*SWITCHES, *(f"--disable-{name}" for name in QUIET), f"--lang={language}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as driver:
        yield driver
