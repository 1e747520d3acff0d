"""The endpoint from Python: chunks, retries, tables.

client = Client("http://127.0.0.1:8000")
client(["옷은 예쁘지만 배송은 늦어요"]).to_pandas()
"""

import json
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import requests

from ray_app.data.schema import ANALYSIS
from ray_app.errors import UserError, check, first_line

Review = str | Mapping[str, Any]
AGAIN = (408, 429, 500, 502, 503, 504)  # analysing twice does no harm
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0  # seconds
UNREACHED = 2.0  # seconds of patience with an endpoint that never answered: its address may be wrong
ROW = pa.schema([("index", pa.int64()), ("review_id", pa.string()), *ANALYSIS])
LOST = pa.schema([("index", pa.int64()), ("review_id", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class ClientResult:
    """Analyses with the position of each review in what was given, and the reviews that were rejected."""

    analyses: pa.Table
    rejected: pa.Table

    def to_pandas(self) -> Any:
        """The analyses as a DataFrame."""
        return self.analyses.to_pandas()


class Client:
    """Calls one endpoint.

    Args:
        token: what the endpoint asks for, if it does.
        timeout: seconds one try of a request may take.
        patience: seconds of trying again, with growing pauses, until a request is given up.
        chunk: reviews a request.
    """

    def __init__(
        self, url: str, token: str | None = None, timeout: float = 30.0, patience: float = 120.0, chunk: int = 64
    ) -> None:
        check(url.startswith(("http://", "https://")), f"{url}: write http://HOST:PORT")
        check(chunk > 0, f"chunk {chunk}: at least 1")
        self.url, self.timeout, self.patience, self.chunk = url.rstrip("/"), timeout, patience, chunk
        self.session, self.reached = requests.Session(), False
        if token:
            self.session.headers["Authorization"] = f"Bearer {token.strip()}".encode()

    def __call__(self, reviews: Sequence[Review], **options: Any) -> ClientResult:
        """Analyses any number of reviews. `options`: highlights, top_k, threshold. Raises UserError."""
        check(not isinstance(reviews, str), "reviews: write a list, also for one text")
        analyses: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        for start in range(0, len(reviews), self.chunk):
            part = reviews[start : start + self.chunk]
            try:
                answer = self.request(part, **options)
            except UserError as error:
                raise UserError(_renumbered(str(error), start)) from None
            lost = {row["index"] for row in answer["rejected"]}
            places: Iterator[int] = (i for i in range(len(part)) if i not in lost)
            analyses += [{"index": start + i, **row} for i, row in zip(places, answer["analyses"], strict=True)]
            rejected += [{**row, "index": start + row["index"]} for row in answer["rejected"]]
        return ClientResult(pa.Table.from_pylist(analyses, ROW), pa.Table.from_pylist(rejected, LOST))

    def request(self, reviews: Sequence[Review], **options: Any) -> dict[str, Any]:
        """One request: `{"analyses": […], "rejected": […]}` as the endpoint answers it."""
        wishes = {name: value for name, value in options.items() if value is not None}
        return self._send("POST", "/analyze", {"reviews": list(reviews), "options": wishes})

    def explain(self, text: str) -> dict[str, Any]:
        """What each word of a review contributes to each of its keywords."""
        return self._send("POST", "/explain", {"text": text})

    def version(self) -> dict[str, Any]:
        return self._send("GET", "/version")

    def taxonomy(self) -> dict[str, Any]:
        return self._send("GET", "/taxonomy")

    def _send(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        deadline, wait = time.monotonic() + self.patience, FIRST_WAIT
        data = None if body is None else _encoded(body)
        while True:
            problem, asked = "no answer", 0.0
            try:
                headers = {"X-Timeout-Seconds": f"{self.timeout:g}", "Content-Type": "application/json"}
                answer = self.session.request(
                    method, self.url + path, data=data, timeout=self.timeout + 5, headers=headers
                )
                self.reached = True
                if answer.ok:
                    content: dict[str, Any] = answer.json()
                    return content
                problem, asked = _said(answer), _retry_after(answer)
                check(answer.status_code in AGAIN, f"{self.url}{path}: {problem}")
            except requests.ConnectionError:
                problem = "not reachable; start it with python -m jobs.serve"
            except requests.Timeout:
                problem = f"no answer within {self.timeout:g} s"
            except requests.exceptions.ChunkedEncodingError:
                problem = "the answer broke off"
            except requests.exceptions.JSONDecodeError:
                raise UserError(f"{self.url}{path}: the answer is not JSON; is this Nunchi's endpoint?") from None
            except requests.RequestException as error:
                raise UserError(f"{self.url}{path}: {first_line(error)}") from None
            pause = max(asked, wait * random.uniform(0.5, 1.0))  # spreads clients out
            ends = deadline if self.reached else deadline - self.patience + min(self.patience, UNREACHED)
            check(time.monotonic() + pause < ends, f"{self.url}{path}: {problem}")
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)


def _encoded(body: Any) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"reviews: {first_line(error)}; a review is a text, or a dict of review_id and text") from None


def _renumbered(line: str, start: int) -> str:
    """`reviews[3]` of one request as it is numbered in what was given."""
    return re.sub(r"\breviews\[(\d+)\]", lambda found: f"reviews[{int(found[1]) + start}]", line)


def _said(answer: requests.Response) -> str:
    """The line of an error answer, with its field."""
    try:
        content = answer.json()
        line = " ".join(str(content[name]) for name in ("field", "error") if content.get(name))
    except (ValueError, AttributeError):
        line = ""
    return line or f"{answer.status_code} {answer.reason}"


def _retry_after(answer: requests.Response) -> float:
    value = answer.headers.get("Retry-After", "")
    return min(float(value), LONGEST_WAIT) if value.isdecimal() else 0.0
