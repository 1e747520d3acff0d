"""The Python client against real servers: the endpoint's own HTTP side, and one that answers by a script."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
import uvicorn

from ray_app.errors import UserError
from ray_app.serving import http_app
from ray_app.serving.batcher import BatchResult
from ray_app.serving.client import LOST, ROW, Client
from ray_app.serving.http_app import Limits
from tests.serving.test_http_app import FakeService

TOKEN = "열쇠"
EMPTY: dict[str, list[Any]] = {"analyses": [], "rejected": []}
Reply = tuple[int, dict[str, str], bytes]
Script = Callable[..., tuple[str, list[dict[str, Any]]]]


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The URL of an ASGI application that a uvicorn in a thread serves."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))  # type: ignore[arg-type, unused-ignore]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def service() -> FakeService:
    return FakeService()


@pytest.fixture(scope="module")
def url(service: FakeService) -> Iterator[str]:
    limits = Limits(reviews=64, body_bytes=200_000)
    with served(http_app.build_app(service, limits, http_app.hashed(TOKEN))) as address:
        yield address


@pytest.fixture
def script() -> Iterator[Script]:
    """Starts a server of given replies, one per request and the last one forever: its URL, and the requests it gets."""
    servers = []

    def start(*replies: Reply) -> tuple[str, list[dict[str, Any]]]:
        seen: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status, headers, body = replies[min(len(seen), len(replies) - 1)]
                text = self.rfile.read(int(self.headers["Content-Length"]))
                seen.append({"time": time.monotonic(), "body": json.loads(text), "headers": dict(self.headers)})
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        return f"http://127.0.0.1:{server.server_port}", seen

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def reply(content: Any, status: int = 200, **headers: str) -> Reply:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(content).encode()


def quick(url: str, **settings: float) -> Client:
    """A client whose pauses begin at 10 ms."""
    return Client(url, first_wait=0.01, **settings)  # type: ignore[arg-type] # no test sets chunk by it


BUSY = reply({"error": "too much is waiting", "field": None}, 503)


def test_reviews_go_in_chunks_and_come_back_at_their_places(url: str, service: FakeService) -> None:
    service.tables.clear()
    reviews = [" " if i % 4 == 1 else {"text": f"글 {i}", "review_id": 1_000 + i} for i in range(130)]
    found = Client(url, TOKEN, chunk=50)(reviews, top_k=2, threshold=None)
    good = [i for i in range(130) if i % 4 != 1]
    assert found.analyses["index"].to_pylist() == good
    assert found.analyses["review_id"].to_pylist() == [str(1_000 + i) for i in good]
    assert found.rejected["index"].to_pylist() == [i for i in range(130) if i % 4 == 1]
    assert set(found.rejected["reason"].to_pylist()) == {"empty text"}
    assert (found.analyses.schema, found.rejected.schema) == (ROW, LOST)
    assert [text for table in service.tables for text in table["text"].to_pylist()] == [f"글 {i}" for i in good]
    assert len(service.tables) == 3
    assert set(service.tables[0]["_top_k"].to_pylist()) == {2}
    frame = found.to_pandas()
    assert (len(frame), list(frame.columns)) == (len(good), ROW.names)


def test_no_reviews_need_no_endpoint() -> None:
    found = Client("http://127.0.0.1:1")([])
    assert (len(found.analyses), len(found.rejected), found.analyses.schema) == (0, 0, ROW)


def test_the_other_routes_are_there_too(url: str) -> None:
    client = Client(url + "/", f" {TOKEN}\n")
    assert client.version() == {"bundle": "b1"}
    assert client.taxonomy() == {"keywords": ["배송"]}
    assert client.explain("a") == {"words": [], "drops": {"배송": [0.1]}}


@pytest.mark.parametrize("token", [None, "wrong", "젠"])
def test_without_the_right_token_there_is_one_line(url: str, token: str | None) -> None:
    with pytest.raises(UserError, match="/analyze: a token is needed"):
        Client(url, token)(["a"])


@pytest.mark.parametrize(
    ("reviews", "options", "line"),
    [
        (["a"] * 70 + [{"text": "b", "txet": "c"}], {}, r"reviews\[70\]\.txet Extra inputs are not permitted$"),
        (["a"] * 3 + ["b" * 20_001], {}, r"reviews\[3\] String should have at most 20000 characters$"),
        (["a"], {"topk": 3}, r"options\.topk Extra inputs are not permitted$"),
    ],
)
def test_a_mistake_is_told_by_its_place_in_what_was_given(
    url: str, reviews: list[Any], options: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError, match=line) as raised:
        Client(url, TOKEN, chunk=50, patience=5)(reviews, **options)
    assert "\n" not in str(raised.value)


def test_a_mistake_is_not_sent_again(script: Script) -> None:
    url, seen = script(reply({"error": "valid string", "field": "reviews[0]"}, 422))
    with pytest.raises(UserError, match=r"reviews\[0\] valid string"):
        quick(url, patience=1)(["a"])
    assert len(seen) == 1


def test_a_body_over_the_limit_is_one_line_however_large_it_is(url: str) -> None:
    for size in (220_000, 20_000_000):
        with pytest.raises(UserError, match="over the limit of 200,000 bytes"):
            Client(url, TOKEN)(["a" * size])


@pytest.mark.parametrize("review", [{"text": "a", "review_id": float("nan")}, b"bytes", {"text": {1}}, "\ud800"])
def test_what_is_no_json_is_refused_before_it_is_sent(review: Any) -> None:
    with pytest.raises(UserError, match=r"^reviews: .*a review is a text") as raised:
        Client("http://127.0.0.1:1")(["a", review])
    assert "\n" not in str(raised.value)


def test_gaps_are_rejected_as_everywhere(url: str) -> None:
    result = Client(url, TOKEN)(pd.Series([None, "", {"text": float("nan"), "review_id": "7"}, "옷이 좋아요"]))
    reasons = [(row["index"], row["review_id"], row["reason"]) for row in result.rejected.to_pylist()]
    assert reasons == [(0, None, "null text"), (1, None, "empty text"), (2, "7", "null text")]
    assert result.analyses["index"].to_pylist() == [3]


def test_one_text_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(UserError, match="write a list"):
        Client("http://127.0.0.1:1")("옷은 예뻐요")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429])
def test_what_may_pass_is_tried_again(script: Script, status: int) -> None:
    url, seen = script(reply({"error": "so"}, status), reply({"error": "so"}, status), reply(EMPTY))
    assert quick(url).request(["배송"], threshold=0.5) == EMPTY
    assert [row["body"] for row in seen] == [{"reviews": ["배송"], "options": {"threshold": 0.5}}] * 3


def test_it_waits_as_long_as_the_endpoint_asks(script: Script) -> None:
    url, seen = script(reply({"error": "so"}, 503, Retry_After="1"), reply(EMPTY))
    assert quick(url).request(["a"]) == EMPTY
    assert seen[1]["time"] - seen[0]["time"] >= 1


def test_pauses_grow(script: Script) -> None:
    url, seen = script(*[BUSY] * 6, reply(EMPTY))
    quick(url).request(["a"])
    pauses = [b["time"] - a["time"] for a, b in pairwise(seen)]
    assert all(pause >= 0.005 * 2**i for i, pause in enumerate(pauses))


@pytest.mark.parametrize("odd", ["-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "²"])
def test_an_odd_retry_after_does_no_harm(script: Script, odd: str) -> None:
    url, _ = script(reply({}, 503, Retry_After=odd), reply(EMPTY))
    assert quick(url).request(["a"]) == EMPTY


def test_patience_ends_with_the_line_of_the_endpoint(script: Script) -> None:
    url, seen = script(BUSY)
    with pytest.raises(UserError, match="too much is waiting"):
        quick(url, patience=0.2)(["a"])
    assert len(seen) > 1


def test_an_answer_that_breaks_off_is_asked_for_again(script: Script) -> None:
    broken: Reply = (200, {"Transfer-Encoding": "chunked"}, b'5\r\n{"ana')
    url, seen = script((200, {"Content-Length": "999"}, b'{"ana'), broken, reply(EMPTY))
    assert quick(url).request(["a"]) == EMPTY
    assert len(seen) == 3


def test_the_endpoint_is_told_how_long_the_client_waits(script: Script) -> None:
    url, seen = script(reply(EMPTY))
    quick(url, timeout=7.5).request(["a"])
    assert seen[0]["headers"]["X-Timeout-Seconds"] == "7.5"


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ((200, {}, b"<html>"), "not JSON; is this Nunchi's endpoint"),
        (reply({"detail": "no"}, 404), "404 Not Found"),
        ((403, {}, b"<html>"), "403 Forbidden"),
        (reply([], 400), "400 Bad Request"),
    ],
)
def test_what_another_server_says_is_one_line(script: Script, answer: Reply, line: str) -> None:
    url, seen = script(answer)
    with pytest.raises(UserError, match=line) as raised:
        quick(url).request(["a"])
    assert (len(seen), "\n" in str(raised.value)) == (1, False)


def test_an_endpoint_that_is_not_there_is_a_quick_clear_line() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(UserError, match=r"not reachable; start it with python -m jobs\.serve"):
            Client(f"http://127.0.0.1:{taken.getsockname()[1]}", patience=1)(["a"])
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "localhost", "", "ftp://shop", "http://"])
def test_an_address_that_is_none_is_one_line(address: str) -> None:
    with pytest.raises(UserError) as raised:
        Client(address).version()
    assert "\n" not in str(raised.value)


def test_an_endpoint_refusing_under_load_is_asked_again(url: str, service: FakeService) -> None:
    service.result = BatchResult(refused="overloaded", retry_after=1)
    threading.Timer(0.3, setattr, (service, "result", None)).start()
    assert len(Client(url, TOKEN)(["a"]).analyses) == 1


def test_an_endpoint_that_is_about_to_start_is_waited_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    found: list[int] = []
    asking = threading.Thread(
        target=lambda: found.append(len(quick(f"http://127.0.0.1:{port}")(["a"]).analyses)), daemon=True
    )
    asking.start()
    time.sleep(0.3)
    server = uvicorn.Server(uvicorn.Config(http_app.build_app(FakeService(), Limits()), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    asking.join(30)
    server.should_exit = True
    thread.join(30)
    assert found == [1]


def test_serves_own_404_is_that_of_an_endpoint_which_starts(script: Script) -> None:
    page = b"Path '/analyze' not found. Ping http://.../-/routes for available routes."
    url, seen = script((404, {}, page), reply(EMPTY))
    assert quick(url).request(["a"]) == EMPTY
    assert len(seen) == 2


def test_more_than_one_request_may_hold_goes_in_halves(script: Script) -> None:
    large = reply({"error": "more work than its deadline allows"}, 413)
    rows: dict[str, Any] = {"review_id": None, "keyword_probabilities": [], "findings": [], "truncated": False}
    lost = {"index": 0, "review_id": None, "reason": "empty text"}
    half, quarter = reply({"analyses": [rows], "rejected": [lost]}), reply({"analyses": [rows], "rejected": []})
    url, seen = script(large, half, large, quarter, quarter)
    found = quick(url)(["a", "b", "c", "d"])
    assert [len(request["body"]["reviews"]) for request in seen] == [4, 2, 2, 1, 1]
    assert found.analyses["index"].to_pylist() == [1, 2, 3]
    assert found.rejected["index"].to_pylist() == [0]


def test_a_review_that_is_too_much_alone_is_told_by_its_place(script: Script) -> None:
    large = reply({"error": "at most 50 characters", "field": "reviews[0]"}, 413)
    url, _ = script(large, reply({**EMPTY, "analyses": [{"review_id": None}]}), large)
    with pytest.raises(UserError, match=r"reviews\[1\] at most 50 characters"):
        quick(url)(["a", "b"])


def test_the_token_of_the_environment_is_sent_unless_another_is_given(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUNCHI_TOKEN", "of the environment\n")
    url, seen = script(reply(EMPTY))
    for client in (Client(url), Client(url, "given"), Client(url, "")):
        client.request(["a"])
    sent = [request["headers"].get("Authorization") for request in seen]
    assert sent == ["Bearer of the environment", "Bearer given", None]


@pytest.mark.parametrize("token", ["secretA\nsecretB", "secretA\r\nX: secretB", "secretA\x01", "secretA\u200b"])
def test_a_token_that_no_header_carries_is_refused_and_not_shown(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray_app.serving.process import read_token

    monkeypatch.setenv("NUNCHI_TOKEN", token)
    for use in (lambda: Client("http://127.0.0.1:1", token=token), lambda: read_token("")):
        with pytest.raises(UserError, match="a token is one line") as raised:
            use()
        assert "secret" not in str(raised.value)
    monkeypatch.setenv("NUNCHI_TOKEN", " 비밀 \n")
    assert read_token("") == "비밀"
