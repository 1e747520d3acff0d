"""What comes before the routes: the token, the size of a body; and the docs page, the schema, the metrics."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from ray_app.serving import http_app
from ray_app.serving.batcher import BatchResult
from ray_app.serving.hosts import allowed_hosts
from ray_app.serving.http_app import Limits
from tests.serving.test_http_app import ROUTES, FakeService, client, post, service

__all__ = ["client", "service"]  # fixtures


def status_of(app: Any, path: str, headers: list[tuple[bytes, bytes]], receive: Callable[[], Awaitable[Any]]) -> int:
    """The status of a request that no HTTP library would send."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])


async def nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def test_a_body_over_the_limit_is_a_413(client: TestClient, service: FakeService) -> None:
    body = json.dumps({"reviews": ["가" * 5_000] * 4}).encode()  # \uac00 is six bytes
    assert len(body) > 100_000
    for content in (body, iter([body[:70_000], body[70_000:]])):  # an iterator goes in chunks, without a length
        response = client.post("/analyze", content=content, headers={"Content-Type": "application/json"})
        assert (response.status_code, "limit of 100,000 bytes" in response.json()["error"]) == (413, True)
    assert not service.tables
    assert post(client, {"reviews": ["a" * 19_000] * 5}).status_code == 200


@pytest.mark.parametrize("length", [b"", b"10", b"-1", b"x", b"0" * 30 + b"9", b"9" * 5_000])
def test_a_body_without_end_is_not_read_to_its_end(service: FakeService, length: bytes) -> None:
    async def endless() -> dict[str, Any]:
        read.append(1)
        return {"type": "http.request", "body": b"x" * 1_000, "more_body": True}

    read: list[int] = []
    app = http_app.build_app(service, Limits(body_bytes=10_000))
    headers = [(b"content-length", length)] if length else []
    assert status_of(app, "/analyze", headers, endless) == 413
    assert len(read) == (0 if len(length) > 1_000 else 11)


TOKEN = "열쇠 젠"  # ends in a byte that is white space in latin-1
WRONG = [
    b"",
    b"Bearer",
    b"Bearer ",
    b"Bearer x",
    b"Basic " + TOKEN.encode(),
    TOKEN.encode(),
    b"\xff\x00\xfe",
    b"\x80" * 99,
]


OTHERS = ["/analyze", "/explain", "/", "/docs/oauth2-redirect", "/static-offline-docs/x", "/health/", "//health"]


@pytest.mark.parametrize("path", [*ROUTES, *OTHERS])
def test_every_route_but_those_of_probes_needs_the_token(service: FakeService, path: str) -> None:
    app = http_app.build_app(service, Limits(), http_app.hashed(TOKEN))
    expected = 405 if path in ("/health", "/ready") else 401
    for wrong in WRONG:
        assert status_of(app, path, [(b"authorization", wrong)], nothing) == expected
    assert status_of(app, path, [], nothing) == expected
    for right in (b"Bearer " + TOKEN.encode(), b"bearer  " + TOKEN.encode() + b" "):
        assert status_of(app, path, [(b"authorization", right)], nothing) != 401


def test_without_a_token_the_answer_says_how_to_send_one_and_reads_no_body(service: FakeService) -> None:
    async def unread() -> dict[str, Any]:
        raise AssertionError("the body was read")

    app = http_app.build_app(service, Limits(), http_app.hashed("x"))
    assert status_of(app, "/analyze", [], unread) == 401
    response = TestClient(app).get("/version")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in response.json()["error"]
    assert TestClient(app).get("/version", headers={"Authorization": "Bearer x"}).status_code == 200


def test_the_docs_page_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/docs").text
    links = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)""", page)
    assert len(links) >= 4
    assert all(link.startswith("/") and not link.startswith("//") for link in links)
    assert "http" not in page.replace("http-equiv", "")
    assert {link: client.get(link).status_code for link in links} == dict.fromkeys(links, 200)
    assert client.get("/redoc").status_code == 404


def test_the_schema_declares_what_requests_and_answers_hold(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/analyze", "/explain", *ROUTES} - {"/openapi.json", "/docs"}
    answers = schema["paths"]["/analyze"]["post"]["responses"]
    assert set(answers) == {"200", *map(str, http_app.ANALYSIS_ERRORS)}
    for status, answer in answers.items():
        model = "AnalyzeResponse" if status == "200" else "Error"
        assert answer["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{model}"}


def test_metrics_count_requests_batches_queue_rejections_and_tokens(client: TestClient, service: FakeService) -> None:
    post(client, {"reviews": ["a", " "]})
    post(client, {"reviews": [5]})
    service.result = BatchResult(refused="overloaded", retry_after=1)  # without stats of a queue
    post(client, {"reviews": ["a"]})
    for path in ("/nowhere", "/nowhere/else", "/" + "x" * 5_000):
        client.get(path)
    samples: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        samples |= {(sample.name, *sorted(sample.labels.values())): sample.value for sample in family.samples}
    requests = {key: value for key, value in samples.items() if key[0] == "nunchi_requests_total"}
    assert {key[1:]: value for key, value in requests.items()} == {
        ("/analyze", "200"): 1,
        ("/analyze", "422"): 1,
        ("/analyze", "503"): 1,
        ("404", "other"): 3,
    }
    assert samples["nunchi_request_seconds_count", "/analyze"] == 3
    assert (samples["nunchi_reviews_total", "analysed"], samples["nunchi_reviews_total", "rejected"]) == (1, 1)
    assert (samples["nunchi_batch_reviews_sum",], samples["nunchi_batch_tokens_sum",]) == (8, 300)
    assert (samples["nunchi_tokens_total",], samples["nunchi_queue_reviews",]) == (120, 4)
    assert samples["nunchi_queue_wait_seconds_count",] == 1


def test_two_tokens_are_none(service: FakeService) -> None:
    app = http_app.build_app(service, Limits(), http_app.hashed("x"))
    right, wrong = (b"authorization", b"Bearer x"), (b"authorization", b"Bearer y")
    for headers in ([right, wrong], [wrong, right], [right, right]):
        assert status_of(app, "/analyze", headers, nothing) == 400


@pytest.mark.parametrize("coding", ["gzip", "deflate, gzip", "br", "x\r"])
def test_a_compressed_body_is_told_apart_from_a_wrong_one(service: FakeService, coding: str) -> None:
    app = http_app.build_app(service, Limits())
    assert status_of(app, "/analyze", [(b"content-encoding", coding.encode())], nothing) == 415
    assert status_of(app, "/analyze", [(b"content-encoding", b"identity")], nothing) == 422


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_may_ask_for_the_head_alone(client: TestClient, path: str) -> None:
    response = client.head(path)
    assert (response.status_code, response.content) == (200, b"")


HOSTS = allowed_hosts("127.0.0.1", (), token=False)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "10.1.2.3:80", "[::1]:80"])
def test_a_host_that_is_this_machine_is_served(service: FakeService, host: str) -> None:
    app = http_app.build_app(service, Limits(hosts=HOSTS))
    assert status_of(app, "/health", [(b"host", host.encode())], nothing) == 405


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[", "::1", "a@localhost.b", "localhost:x:y"],
)
def test_another_name_that_leads_here_is_not_served(service: FakeService, host: str) -> None:
    app = http_app.build_app(service, Limits(hosts=HOSTS))
    assert status_of(app, "/health", [(b"host", host.encode())], nothing) == 421
    two = [(b"host", b"localhost"), (b"host", host.encode())]
    assert status_of(app, "/health", two, nothing) == 421


def test_the_hosts_are_those_of_the_start() -> None:
    assert allowed_hosts("0.0.0.0", (), token=True).admits("anything.example")
    assert not allowed_hosts("0.0.0.0", (), token=False).admits("anything.example")
    assert allowed_hosts("shop.example", (), token=False).admits("shop.example:8000")
    given = allowed_hosts("0.0.0.0", ("Shop.example", ".svc"), token=True)
    assert [given.admits(name) for name in ("shop.example", "a.svc", "svc", "xsvc", "a.shop.example")] == [
        *(True, True, True),
        *(False, False),
    ]
    assert given.admits_origin("http://shop.example:1")
    assert not given.admits_origin("null")


def test_a_websocket_is_closed(service: FakeService) -> None:
    app = TestClient(http_app.build_app(service, Limits()))
    with pytest.raises(WebSocketDisconnect), app.websocket_connect("/analyze"):
        pass


def test_metrics_tell_of_the_bundle_and_of_one_that_could_not_be_loaded(
    client: TestClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown() -> set[str]:
        return {line for line in client.get("/metrics").text.splitlines() if line.startswith("nunchi_bundle")}

    told = {"bundle": "b1", "update": "failed", "wanted": "elsewhere"}

    async def info() -> dict[str, Any]:
        return {"version": told, "taxonomy": {}}

    monkeypatch.setattr(service, "info", info)
    assert shown() == {'nunchi_bundle_info{bundle="b1"} 1.0', "nunchi_bundle_update_failed 1.0"}
    told |= {"bundle": "b2", "update": "done"}
    assert shown() == {
        'nunchi_bundle_info{bundle="b1"} 0.0',
        'nunchi_bundle_info{bundle="b2"} 1.0',
        "nunchi_bundle_update_failed 0.0",
    }


def test_metrics_are_there_while_no_replica_answers(
    client: TestClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def info() -> dict[str, Any]:
        raise RuntimeError

    monkeypatch.setattr(service, "info", info)
    assert client.get("/metrics").status_code == 200
