"""The endpoint from Python. In: any number of reviews, sent in chunks and with retries. Out: tables.

client = Client("http://127.0.0.1:8000")
client(["옷은 예쁘지만 배송은 늦어요"]).to_pandas()
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import requests

from ray_app.data.given_texts import is_gap, listed
from ray_app.data.schema import ANALYSIS
from ray_app.errors import UserError, check, checked_token, first_line

if TYPE_CHECKING:
    import pandas as pd

    from ray_app.serving.protocol import AnalyzeBody, RejectedRow

Review = str | Mapping[str, object]  # a text, or `text` and `review_id`
Option = bool | int | float | None
RETRIED = (408, 429, 500, 502, 503, 504)  # analyzing twice does no harm
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0  # seconds between tries
UNREACHED = (
    15.0  # seconds of patience with an endpoint that never answered: it may start again, or the address be wrong
)
NO_APPLICATION = "/-/routes"  # what Ray Serve's own 404 names while the endpoint starts or stops behind it
log = logging.getLogger(__name__)
ROW = pa.schema([("index", pa.int64()), ("review_id", pa.string()), *ANALYSIS])
LOST = pa.schema([("index", pa.int64()), ("review_id", pa.string()), ("reason", pa.string())])


class TooMuchError(UserError):
    """A request of this size is not taken (413): a smaller one may be."""


@dataclass(frozen=True)
class ClientResult:
    """The analyses (ROW) and the rejected reviews (LOST); `index` is each review's position in the call's list."""

    analyses: pa.Table
    rejected: pa.Table

    def to_pandas(self) -> pd.DataFrame:
        """The analyses as a DataFrame."""
        return self.analyses.to_pandas()


class Client:
    """Calls one endpoint. Its methods raise UserError, one line, where the endpoint refuses or cannot be reached.

    Args:
        token: for an endpoint that needs one; without it NUNCHI_TOKEN, if that is set. "" for none.
        timeout: seconds per try of a request.
        patience: seconds until a request is given up; tries that may succeed later are repeated.
        chunk: reviews per request.
        first_wait: seconds before the second try; each later wait is twice as long, at most LONGEST_WAIT.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 30.0,
        patience: float = 120.0,
        chunk: int = 64,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        check(url.startswith(("http://", "https://")), f"{url}: write http://HOST:PORT")
        check(chunk > 0, f"chunk {chunk}: at least 1")
        self.url, self.timeout, self.patience, self.chunk = url.rstrip("/"), timeout, patience, chunk
        self.first_wait, self.session, self.reached = first_wait, requests.Session(), False
        if token := checked_token(os.environ.get("NUNCHI_TOKEN", "") if token is None else token, "token"):
            self.session.headers["Authorization"] = f"Bearer {token}".encode()

    def __call__(self, reviews: Iterable[Review | None], **options: Option) -> ClientResult:
        """Analyzes any number of reviews, a missing one (None, NaN) among them is rejected.

        `options`: highlights, top_k, threshold; None for the bundle's own.
        """
        rows = [_without_gap(review) for review in listed(reviews, "reviews")]
        analyses: list[dict[str, object]] = []
        rejected: list[RejectedRow] = []
        for start in range(0, len(rows), self.chunk):
            chunk = rows[start : start + self.chunk]
            try:
                body = self._chunk(chunk, options)
            except UserError as error:
                raise UserError(_renumbered(str(error), start)) from None
            lost = {row["index"] for row in body["rejected"]}
            analyzed: Iterator[int] = (i for i in range(len(chunk)) if i not in lost)
            analyses += [{"index": start + i, **row} for i, row in zip(analyzed, body["analyses"], strict=True)]
            rejected += [{**row, "index": start + row["index"]} for row in body["rejected"]]
        return ClientResult(pa.Table.from_pylist(analyses, ROW), pa.Table.from_pylist(rejected, LOST))

    def _chunk(self, reviews: Sequence[object], options: Mapping[str, Option]) -> AnalyzeBody:
        """`request`, in halves where the endpoint takes no request of this size."""
        try:
            return self.request(reviews, **options)
        except TooMuchError:
            if len(reviews) == 1:
                raise
        half = len(reviews) // 2
        parts = []
        for start, part in ((0, reviews[:half]), (half, reviews[half:])):
            try:
                parts.append(self._chunk(part, options))
            except UserError as error:
                raise type(error)(_renumbered(str(error), start)) from None
        moved: list[RejectedRow] = [{**row, "index": row["index"] + half} for row in parts[1]["rejected"]]
        return {
            "analyses": [*parts[0]["analyses"], *parts[1]["analyses"]],
            "rejected": [*parts[0]["rejected"], *moved],
        }

    def request(self, reviews: Sequence[object], **options: Option) -> AnalyzeBody:
        """One request, whatever its size; the body of the response."""
        given = {name: value for name, value in options.items() if value is not None}
        body: AnalyzeBody = self._send("POST", "/analyze", {"reviews": list(reviews), "options": given})
        return body

    def explain(self, text: str) -> dict[str, Any]:
        """What each word of a review contributes to each of its keywords, as `Occlusion.explain` returns it."""
        explanation: dict[str, Any] = self._send("POST", "/explain", {"text": text})
        return explanation

    def version(self) -> dict[str, Any]:
        """The served bundle: its id, file hashes and metrics."""
        version: dict[str, Any] = self._send("GET", "/version")
        return version

    def taxonomy(self) -> dict[str, Any]:
        """The bundle's keywords with their guidelines, and the scale of scores."""
        taxonomy: dict[str, Any] = self._send("GET", "/taxonomy")
        return taxonomy

    def _send(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of the response, tried until it succeeds or patience ends. Raises UserError."""
        deadline, wait = time.monotonic() + self.patience, self.first_wait
        data = None if body is None else _encoded(body)
        headers = {"X-Timeout-Seconds": f"{self.timeout:g}", "Content-Type": "application/json"}
        while True:
            problem, retry_after = "no answer", 0.0
            try:
                response = self.session.request(
                    method, self.url + path, data=data, timeout=self.timeout + 5, headers=headers
                )
                self.reached = True
                if response.ok:
                    return response.json()
                problem, retry_after = _error_line(response), _retry_after(response)
                starting = response.status_code == 404 and NO_APPLICATION in response.text
                if response.status_code == 413:
                    raise TooMuchError(f"{self.url}{path}: {problem}")
                check(response.status_code in RETRIED or starting, f"{self.url}{path}: {problem}")
            except requests.ConnectionError:
                problem = "not reachable; start it with python -m jobs.serve"
            except requests.Timeout:
                problem = f"no answer within {self.timeout:g} s"
            except requests.exceptions.ChunkedEncodingError:
                problem = "the response was cut off"
            except requests.exceptions.JSONDecodeError:
                raise UserError(f"{self.url}{path}: the response is not JSON; is this Nunchi's endpoint?") from None
            except requests.RequestException as error:
                raise UserError(f"{self.url}{path}: {first_line(error)}") from None
            pause = max(retry_after, wait * random.uniform(0.5, 1.0))  # spreads clients out
            end = deadline if self.reached else deadline - self.patience + min(self.patience, UNREACHED)
            check(time.monotonic() + pause < end, f"{self.url}{path}: {problem}")
            if not self.reached and wait == self.first_wait:
                log.info("%s: %s; trying again", self.url, problem)
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)


def _without_gap(review: object) -> object:
    """A review whose text is missing has null for it."""
    return {**review, "text": None} if isinstance(review, Mapping) and is_gap(review.get("text", "")) else review


def _encoded(body: object) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"reviews: {first_line(error)}; a review is a text, or a dict of review_id and text") from None


def _renumbered(line: str, start: int) -> str:
    """`reviews[3]` of one request, renumbered as in the call's list."""
    return re.sub(r"\breviews\[(\d+)\]", lambda match: f"reviews[{int(match[1]) + start}]", line)


def _error_line(response: requests.Response) -> str:
    """The line of an error response, with its field."""
    try:
        content = response.json()
        line = " ".join(str(content[name]) for name in ("field", "error") if content.get(name))
    except (ValueError, AttributeError):
        line = ""
    return line or f"{response.status_code} {response.reason}"


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), LONGEST_WAIT) if value.isdecimal() else 0.0
