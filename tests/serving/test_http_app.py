"""The HTTP side over a fake service whose answers are set."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from ray_app.data.schema import ANALYSIS, MAX_CHARACTERS
from ray_app.serving import http_app
from ray_app.serving.batcher import BatchResult
from ray_app.serving.http_app import Limits

SECRET = "비밀 후기"
STATS = {"batch_rows": 8.0, "batch_tokens": 300.0, "waited_seconds": 0.02, "tokens": 120.0, "queue_rows": 4.0}
ROUTES = ["/taxonomy", "/version", "/health", "/ready", "/metrics", "/openapi.json", "/docs"]


class FakeService:
    """Its next answers are set; without them every review has the same analysis."""

    def __init__(self) -> None:
        self.result: BatchResult | Exception | None = None
        self.explanation: dict[str, Any] | BatchResult = {"words": [], "drops": {"배송": [0.1]}}
        self.loaded = True
        self.tables: list[pa.Table] = []
        self.deadlines: list[float] = []

    async def analyze(self, table: pa.Table, deadline: float) -> BatchResult:
        self.tables.append(table)
        self.deadlines.append(deadline - time.time())
        if isinstance(self.result, Exception):
            raise self.result
        return self.result or BatchResult(table=same(table), stats=STATS)

    async def explain(self, text: str, deadline: float) -> dict[str, Any] | BatchResult:
        return self.explanation

    async def info(self) -> dict[str, Any]:
        while not self.loaded:
            await asyncio.sleep(0.01)
        return {"version": {"bundle": "b1"}, "taxonomy": {"keywords": ["배송"]}}


def same(table: pa.Table) -> pa.Table:
    values: dict[str, Any] = {"keyword_probabilities": [0.5], "findings": [], "truncated": False}
    for name, kind in ANALYSIS:
        table = table.append_column(name, pa.array([values[name]] * len(table), kind))
    return table


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Iterator[TestClient]:
    app = http_app.build_app(service, Limits(reviews=5, body_bytes=100_000))
    with TestClient(app, raise_server_exceptions=False) as test_client:
        yield test_client


def post(client: TestClient, body: Any, path: str = "/analyze", **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, content=content, headers={"Content-Type": "application/json", **headers})


def test_analyses_keep_the_order_of_the_reviews(client: TestClient, service: FakeService) -> None:
    response = post(client, {"reviews": [{"text": "a", "review_id": 2}, " ", "c"], "options": {"top_k": 1}})
    assert response.status_code == 200
    assert set(response.json()) == {"analyses", "rejected"}
    assert [row["review_id"] for row in response.json()["analyses"]] == ["2", None]
    assert response.json()["rejected"] == [{"index": 1, "review_id": None, "reason": "empty text"}]
    assert service.tables[0]["text"].to_pylist() == ["a", "c"]
    assert service.tables[0]["_top_k"].to_pylist() == [1, 1]


def test_the_other_routes_answer(client: TestClient) -> None:
    assert {path: client.get(path).status_code for path in ROUTES} == dict.fromkeys(ROUTES, 200)
    assert client.get("/version").json() == {"bundle": "b1"}
    assert client.get("/taxonomy").json() == {"keywords": ["배송"]}
    assert post(client, {"text": "a"}, "/explain").json() == {"words": [], "drops": {"배송": [0.1]}}


TOO_LONG = "a" * (MAX_CHARACTERS + 1)
AT_LEAST, AT_MOST = "greater than or equal to", "less than or equal to"
MISTAKES = [
    ({"reviews": ["a"] * 6}, "reviews", "6 reviews, over the limit of 5"),
    ({"reviews": ["a", TOO_LONG]}, "reviews[1]", "at most 20000 characters"),
    ({"reviews": ["a", {"text": TOO_LONG}]}, "reviews[1].text", "at most 20000 characters"),
    ({"reviews": ["a", {"text": "b", "review_id": "x" * 1_001}]}, "reviews[1].review_id", "at most 1000 characters"),
    ({"reviews": [{"text": "b", "review_id": True}]}, "reviews[0].review_id", "valid string"),
    ({"reviews": ["a", 5]}, "reviews[1]", "valid string"),
    ({"reviews": [{"text": 5}]}, "reviews[0].text", "valid string"),
    ({"reviews": [{"text": SECRET, "txet": SECRET}]}, "reviews[0].txet", "not permitted"),
    ({"reviews": [{"review_id": "1"}]}, "reviews[0].text", "required"),
    ({"reviews": [3]}, "reviews[0]", "valid string"),
    ({"reviews": SECRET}, "reviews", "valid list"),
    ({"review": [SECRET]}, "reviews", "required"),
    ({}, "reviews", "required"),
    ({"reviews": [SECRET], "options": {"topk": 1}}, "options.topk", "not permitted"),
    ({"reviews": [SECRET], "options": {"str": 1}}, "options.str", "not permitted"),
    ({"reviews": [SECRET], "body": 1}, "body", "not permitted"),
    ({"reviews": ["a"], "options": None}, "options", "dictionary"),
    ({"reviews": ["a"], "options": {"top_k": 0}}, "options.top_k", f"{AT_LEAST} 1"),
    ({"reviews": ["a"], "options": {"top_k": 10**30}}, "options.top_k", f"{AT_MOST} 10000"),
    ({"reviews": ["a"], "options": {"top_k": "1"}}, "options.top_k", "valid integer"),
    ({"reviews": ["a"], "options": {"threshold": 1.1}}, "options.threshold", f"{AT_MOST} 1"),
    ({"reviews": ["a"], "options": {"threshold": -0.1}}, "options.threshold", f"{AT_LEAST} 0"),
    ({"reviews": ["a"], "options": {"threshold": float("nan")}}, "options.threshold", "than or equal to"),
    ({"reviews": ["a"], "options": {"highlights": "yes"}}, "options.highlights", "valid boolean"),
    ({"reviews": ["\ud800"]}, "reviews[0]", "valid string"),
    (b'{"reviews": [NaN]}', "reviews[0]", "valid string"),
    ({"reviews": ["a"], "a\nb" * 1_000: 1}, ("a?b" * 1_000)[:200], "not permitted"),
]


@pytest.mark.parametrize(("body", "field", "line"), MISTAKES)
def test_a_mistake_is_a_422_that_names_the_field_and_the_limit(
    client: TestClient, service: FakeService, body: Any, field: str, line: str
) -> None:
    response = post(client, body)
    assert (response.status_code, set(response.json())) == (422, {"error", "field"})
    assert (response.json()["field"], line in response.json()["error"]) == (field, True)
    assert "\n" not in response.json()["error"]
    assert not any(part in response.text for part in (SECRET, "Traceback", ".py", "/home", "pydantic"))
    assert not service.tables


@pytest.mark.parametrize(
    "body", [b"", b"{", b"a", b"\xff\xfe", b'{"reviews":["\xff"]}', b"[" * 9_000, b'{"a":' + b"9" * 9_000, b"[]", b"3"]
)
def test_what_is_no_json_object_is_a_422_in_one_line(client: TestClient, body: bytes) -> None:
    response = post(client, body)
    assert (response.status_code, response.json()) == (422, {"error": http_app.NO_OBJECT, "field": None})


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type_is_a_422_that_names_the_right_one(client: TestClient, kind: str) -> None:
    response = client.post("/analyze", content=b'{"reviews":["a"]}', headers={"Content-Type": kind} if kind else {})
    assert (response.status_code, "Content-Type: application/json" in response.text) == (422, True)


def test_another_route_or_method_is_one_line_too(client: TestClient) -> None:
    responses = (client.get("/nowhere"), client.get("/analyze"), client.post("/health"))
    for response, status in zip(responses, (404, 405, 405), strict=True):
        assert (response.status_code, set(response.json())) == (status, {"error", "field"})


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon", "1;2"])
def test_a_timeout_that_is_no_time_is_refused(client: TestClient, service: FakeService, seconds: str) -> None:
    response = post(client, {"reviews": ["a"]}, **{"X-Timeout-Seconds": seconds})
    assert (response.status_code, "X-Timeout-Seconds" in response.text, service.tables) == (422, True, [])


def test_a_client_may_set_a_shorter_time_than_the_limit(client: TestClient, service: FakeService) -> None:
    for seconds in ("2", "1e6", ""):
        post(client, {"reviews": ["a"]}, **{"X-Timeout-Seconds": seconds})
    short, long, none = service.deadlines
    assert short <= 2 < long <= 30
    assert 2 < none <= 30


@pytest.mark.parametrize(
    ("result", "status", "retry_after"),
    [
        (BatchResult(refused="overloaded", retry_after=3, stats={"queue_rows": 9}), 503, "3"),
        (BatchResult(refused="crowded", retry_after=7), 503, "7"),
        (BatchResult(refused="late"), 408, None),
        (BatchResult(refused="large", share=0.3), 413, None),
        (BatchResult(refused="long", share=0.3, failed=(0,)), 413, None),
    ],
)
def test_a_request_that_was_not_run_says_so(
    client: TestClient, service: FakeService, result: BatchResult, status: int, retry_after: str | None
) -> None:
    service.result = service.explanation = result
    for response in (post(client, {"reviews": ["a"]}), post(client, {"text": "a"}, "/explain")):
        assert (response.status_code, response.headers.get("Retry-After")) == (status, retry_after)
        assert set(response.json()) == {"error", "field"}


def test_what_is_too_much_names_what_would_not_be(client: TestClient, service: FakeService) -> None:
    service.result = BatchResult(refused="large", share=0.5)
    assert "at most 2 such reviews, 200 characters in all" in post(client, {"reviews": ["a" * 100] * 4}).text
    service.result = BatchResult(refused="long", share=0.5, failed=(1,))
    response = post(client, {"reviews": [" ", "b", "a" * 100]}).json()
    assert response["field"] == "reviews[2]"
    assert "at most 50 characters, or highlights: false" in response["error"]
    service.explanation = BatchResult(refused="long", share=0.5, failed=(0,))
    assert post(client, {"text": "a" * 100}, "/explain").json()["field"] == "text"


def test_an_error_inside_shows_nothing_of_it(client: TestClient, service: FakeService) -> None:
    service.result = RuntimeError(f"{SECRET} in /data/shop/bundle")
    response = post(client, {"reviews": [SECRET]})
    assert (response.status_code, set(response.json())) == (500, {"error", "field"})
    assert not any(part in response.text for part in (SECRET, "/data", "RuntimeError", "Traceback"))


def test_reviews_that_fail_are_rejected_and_their_neighbours_answered(client: TestClient, service: FakeService) -> None:
    service.result = BatchResult(table=same(pa.table({"review_id": ["1", "3"]})), failed=(1,))
    response = post(client, {"reviews": [{"text": "a", "review_id": i} for i in (1, 2, 3)]}).json()
    assert [row["review_id"] for row in response["analyses"]] == ["1", "3"]
    assert response["rejected"] == [{"index": 1, "review_id": "2", "reason": "analysis failed"}]


def test_it_is_ready_only_when_the_models_are_loaded(service: FakeService) -> None:
    with TestClient(http_app.build_app(service, Limits(ready_seconds=0.05))) as client:
        service.loaded = False
        response = client.get("/ready")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert [client.get(path).status_code for path in ("/health", "/version", "/taxonomy")] == [200, 503, 503]
        service.loaded = True
        assert client.get("/ready").json() == {"status": "ready"}
