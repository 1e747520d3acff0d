"""Requests for one review each from a few threads, without retries, until the block ends."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from ray_app import sample
from tests.support.waiting import wait_for

TEXTS = [row["text"] for row in sample.written_reviews()[:40]]


@dataclass(frozen=True)
class Answer:
    """`content`: the analysis, or what the error says. `seconds` it took."""

    text: str
    status: int
    content: Any
    seconds: float


class Load:
    """Its answers so far; `pause`: seconds that each thread waits between two requests."""

    def __init__(self, url: str, threads: int = 2, headers: Mapping[str, str] | None = None, pause: float = 0) -> None:
        self.url, self.headers, self.pause = url, headers, pause
        self.stopped = threading.Event()
        self.answers: list[Answer] = []
        self.threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(threads)]

    def _ask(self, at: int) -> None:
        with requests.Session() as session:
            while not self.stopped.wait(self.pause):
                at = (at + 1) % len(TEXTS)
                self.answers.append(self._answer(session, TEXTS[at]))

    def _answer(self, session: requests.Session, text: str) -> Answer:
        start = time.monotonic()
        try:
            got = session.post(f"{self.url}/analyze", json={"reviews": [text]}, headers=self.headers, timeout=60)
        except requests.RequestException as error:
            return Answer(text, 0, repr(error), time.monotonic() - start)
        content = got.json()["analyses"][0] if got.ok else got.text
        return Answer(text, got.status_code, content, time.monotonic() - start)

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def more(self, count: int = 20) -> None:
        """Waits until so many more requests were answered."""
        before = len(self.answers)
        wait_for(lambda: len(self.answers) > before + count)

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]
