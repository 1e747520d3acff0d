"""The door before a real server: what passes, what is refused, and that slow clients keep nobody out."""

import contextlib
import http.client
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from ray_app import cluster
from ray_app.serving import http_app
from ray_app.serving.door import Door, DoorLimits
from ray_app.serving.door.bodies import CHUNKS
from ray_app.serving.door.http_head import BadRequestError, parse
from ray_app.serving.hosts import AllowedHosts, allowed_hosts
from ray_app.serving.http_app import Limits
from tests.serving.test_client import served
from tests.serving.test_http_app import FakeService
from tests.support.ray_head import free_port

LOCAL = allowed_hosts("127.0.0.1", (), token=False)
LIMITS = DoorLimits(head_seconds=0.5, idle_seconds=5, body_seconds=0.5, body_total_seconds=1.5, connections=40)


@pytest.fixture(scope="module")
def upstream() -> Iterator[tuple[str, int]]:
    with served(http_app.build_app(FakeService(), Limits(body_bytes=300_000))) as url:
        address = url.rpartition("/")[2]
        while not cluster.listens(address):
            time.sleep(0.01)
        yield "127.0.0.1", int(address.rpartition(":")[2])


@pytest.fixture(scope="module")
def door(upstream: tuple[str, int]) -> Iterator[Door]:
    made = Door(host="127.0.0.1", port=free_port(), upstream=upstream, hosts=LOCAL, limits=LIMITS, ready=True)
    made.open()
    yield made
    made.close()


def url(door: Door) -> str:
    return f"http://127.0.0.1:{door.port}"


def sent(door: Door, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What comes back until the end, for bytes that no HTTP library would send."""
    with socket.create_connection(("127.0.0.1", door.port), 10) as client:
        answer = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause)
        with contextlib.suppress(ConnectionResetError):
            while got := client.recv(65_536):
                answer += got
        return answer


def status(answer: bytes) -> int:
    return int(answer.split()[1]) if answer else 0


def test_requests_pass_one_after_the_other_over_one_connection(door: Door) -> None:
    with requests.Session() as session:
        for texts in (["가"], ["나"] * 5, ["다" * 10_000] * 3):
            answer = session.post(f"{url(door)}/analyze", json={"reviews": texts}, timeout=10)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["analyses"]) == len(texts)
        chunked = session.post(
            f"{url(door)}/analyze",
            data=iter([b'{"reviews":', b'["a","b"]}']),
            headers={"Content-Type": "application/json"},
            timeout=10,
        )
        assert len(chunked.json()["analyses"]) == 2
        assert session.get(f"{url(door)}/version", timeout=10).json() == {"bundle": "b1"}
        assert session.head(f"{url(door)}/ready", timeout=10).status_code == 200


def test_many_at_once_each_get_their_own_answer(door: Door) -> None:
    found: list[int] = []

    def ask(count: int) -> None:
        answer = requests.post(f"{url(door)}/analyze", json={"reviews": ["a"] * count}, timeout=20)
        found.append(len(answer.json()["analyses"]) - count)

    threads = [threading.Thread(target=ask, args=(i + 1,)) for i in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 30


def test_an_answer_before_the_end_of_a_body_is_passed_back(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 400000\r\n\r\n"
    assert status(sent(door, head, b"x" * 400_000)) == 413
    assert status(sent(door, head, b"x" * 1_000, b"x" * 1_000, pause=0.2)) == 413
    closing = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert status(sent(door, closing, b"more", b"more", pause=0.1)) == 200
    assert not caplog.records, "asyncio logs what a connection's task raises"


def test_until_it_is_ready_and_when_it_stops_it_says_when_to_try_again(upstream: tuple[str, int]) -> None:
    made = Door(host="127.0.0.1", port=free_port(), upstream=upstream, hosts=LOCAL, limits=LIMITS)
    made.open()
    try:
        with requests.Session() as session:
            for ready in (False, True, False):
                made.ready = ready
                for path in ("/ready", "/analyze", "/nowhere"):
                    answer = session.post(f"{url(made)}{path}", json={}, timeout=10)
                    assert (answer.status_code == 503) == (not ready)
                    assert answer.headers.get("Retry-After") == (None if ready else "1")
                assert session.get(f"{url(made)}/health", timeout=10).json() == {"status": "alive"}
                assert session.head(f"{url(made)}/ready", timeout=10).content == b""
        made.ready, made.upstreams.address = True, ("127.0.0.1", free_port())
        assert requests.get(f"{url(made)}/ready", timeout=10).status_code == 503
    finally:
        made.close()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url(made)}/health", timeout=10)


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
FRAMINGS = [
    CHUNKED + b"5;" + b"a" * 70_000 + b"\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5 5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5\nhello\n0\n\n",
    CHUNKED + b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    CHUNKED + b"F" * 16 + b"\r\nhello",
    CHUNKED + b"1\r\na\r\n" * (CHUNKS + 2) + b"0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n" + CHUNKED + b"0\r\n\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5, 5\r\n\r\nhello",
    b"Content-Length: \r\n\r\n",
    "Content-Length: ٥\r\n\r\nhello".encode(),
    b"X: a\rContent-Length: 5\r\n\r\nhello",
    b"X: a\0\r\n\r\n",
    b"Origin: http://localhost\r\nOrigin: http://evil.example\r\n\r\n",
]
NAMES = [
    *(b"evil.example\\@localhost", b"localhost/evil.example", b"localhost#evil.example", b"localhost?evil.example"),
    *(
        b"localhost@evil.example",
        b"localhost:80@evil.example",
        b"2130706433",
        b"0x7f000001",
        b"[::1",
        b"[fe80::1%25evil]",
    ),
    *("ⅼocalhost".encode(), "localhost\u200b".encode(), b"localhost evil.example", b"a." * 20_000 + b"localhost"),
]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /-/routes HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /%2D/routes HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET http://localhost/-/routes HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"\x16\x03\x01\x02\x00 TLS\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n", 400),
        (b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        *((b"POST / HTTP/1.1\r\nHost: localhost\r\n" + framing, 400) for framing in FRAMINGS),
        *((b"GET /health HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", 421) for host in NAMES),
    ],
)
def test_what_is_ambiguous_or_for_another_host_does_not_pass(door: Door, head: bytes, expected: int) -> None:
    assert status(sent(door, head)) == expected


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [("http://evil.example", "localhost", 403), ("null", "localhost", 403), ("http://localhost", "evil.example", 421)],
)
def test_a_page_of_another_site_opens_no_websocket(door: Door, origin: str, host: str, expected: int) -> None:
    fields = f"Host: {host}\r\nOrigin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket"
    assert status(sent(door, f"GET /x HTTP/1.1\r\n{fields}\r\n\r\n".encode())) == expected


def test_before_http_1_1_there_are_no_chunks(door: Door) -> None:
    head = b"POST /analyze HTTP/1.0\r\nHost: localhost\r\n" + CHUNKED + b"0\r\n\r\n"
    assert status(sent(door, head)) == 400


def test_what_is_refused_is_not_taken_for_the_answer_to_the_request_before(door: Door) -> None:
    """Both came at once: a refusal would overtake the first one's answer."""
    body = b'{"reviews":["a"]}'
    fields = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n"
    answer = sent(door, b"POST /analyze HTTP/1.1\r\n" + fields + body + b"GET /-/routes HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(answer) == 200
    assert answer.count(b"HTTP/1.1 ") == 1
    many = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50
    last = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert sent(door, many + last).count(b"HTTP/1.1 200") == 51


@pytest.mark.parametrize(
    "connection", ["Connection: Upgrade\r\n", "", "Upgrade: h2c\r\n", "Upgrade: websocket, h2c\r\n"]
)
def test_an_endpoint_upgrades_nothing(door: Door, connection: str) -> None:
    """What follows an upgrade would pass unread."""
    fields = f"Host: localhost\r\n{connection}Upgrade: websocket"
    assert status(sent(door, f"GET /x HTTP/1.1\r\n{fields}\r\n\r\n".encode())) == 403


def test_slow_clients_are_let_go_and_keep_nobody_out(door: Door) -> None:
    half_open = [socket.create_connection(("127.0.0.1", door.port), 10) for _ in range(60)]  # 40 are allowed
    for client in half_open[30:]:
        client.sendall(b"POST /analyze HTTP/1.1\r\nHost: local")
    try:
        assert requests.get(f"{url(door)}/ready", timeout=10).status_code == 200
        end = time.monotonic() + 10
        while door.open_by_address and time.monotonic() < end:
            time.sleep(0.05)
        assert not door.open_by_address
        answers = [client.recv(100) for client in half_open[40:]]
        assert {status(answer) for answer in answers} <= {0, 408}
    finally:
        for client in half_open:
            client.close()


@pytest.mark.parametrize("pieces", [1, 30])
def test_a_body_that_comes_too_slowly_is_a_408(door: Door, pieces: int) -> None:
    head = b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", door.port), 10) as client:
        client.sendall(head)
        for _ in range(pieces):
            try:
                client.sendall(b"x")
            except OSError:
                break
            time.sleep(0.1)
        assert status(client.recv(1_000)) == 408
    assert time.monotonic() - began < 5


def test_where_all_of_an_address_is_in_use_there_is_room_for_no_more(upstream: tuple[str, int]) -> None:
    limits = DoorLimits(connections=2, head_seconds=5)
    made = Door(host="127.0.0.1", port=free_port(), upstream=upstream, hosts=AllowedHosts(), limits=limits, ready=True)
    made.open()
    try:
        busy: list[Any] = []
        for _ in range(2):
            client = socket.create_connection(("127.0.0.1", made.port), 10)
            client.sendall(b"POST /analyze HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
            busy.append(client)
        time.sleep(0.2)
        assert sent(made, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        for client in busy:
            client.close()
        time.sleep(0.2)
        assert requests.get(f"{url(made)}/health", timeout=10).status_code == 200
    finally:
        made.close()


@pytest.fixture
def slow() -> Iterator[tuple[str, int]]:
    """A server that answers each request after 0.7 seconds."""

    class Slow(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(0.7)
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"late")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield "127.0.0.1", server.server_port
        server.shutdown()


def test_an_answer_may_take_longer_than_a_connection_may_idle(slow: tuple[str, int]) -> None:
    """Nor does its connection give way to new ones, nor does what is malformed behind it answer in its place."""
    limits = DoorLimits(idle_seconds=0.2, head_seconds=0.5, connections=2)
    made = Door(host="127.0.0.1", port=free_port(), upstream=slow, hosts=LOCAL, limits=limits, ready=True)
    made.open()
    try:
        answers: list[bytes] = []
        request = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
        asking = [
            threading.Thread(target=lambda behind=behind: answers.append(sent(made, request + behind)))
            for behind in (b"", b"BAD\r\n\r\n")
        ]
        for thread in asking:
            thread.start()
        time.sleep(0.1)
        assert sent(made, b"GET") == b"", "there is room for two"
        for thread in asking:
            thread.join()
        assert [(status(each), each[-4:], each.count(b"HTTP/1.1 ")) for each in answers] == [(200, b"late", 1)] * 2
    finally:
        made.close()


def test_many_chunks_pass_where_they_are_of_some_size(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_app.serving.door.bodies.CHUNKS", 50)
    body = b'{"reviews":["' + b"a" * 5_000 + b'"]}'
    for size, expected in ((70, 200), (20, 400)):
        pieces = iter([body[i : i + size] for i in range(0, len(body), size)])
        kind = {"Content-Type": "application/json"}
        assert requests.post(f"{url(door)}/analyze", data=pieces, headers=kind, timeout=10).status_code == expected


def test_headers_are_added_to_every_answer(upstream: tuple[str, int]) -> None:
    added = b"Content-Security-Policy: frame-ancestors 'self'\r\n"
    made = Door(
        host="127.0.0.1", port=free_port(), upstream=upstream, hosts=LOCAL, limits=LIMITS, headers=added, ready=True
    )
    made.open()
    try:
        for _ in range(3):
            client = http.client.HTTPConnection("127.0.0.1", made.port, timeout=10)
            client.request("POST", "/analyze", b'{"reviews": ["a"]}', {"Content-Type": "application/json"})
            answer = client.getresponse()
            assert answer.getheader("Content-Security-Policy") == "frame-ancestors 'self'"
            assert len(answer.read()) > 10
    finally:
        made.close()


def test_a_head_says_how_its_body_is_framed() -> None:
    head = parse(b"POST /a%20b?x=/-/ HTTP/1.1\r\nHost: h:1\r\nTransfer-Encoding: Chunked\r\n\r\n")
    assert (head.path, head.host, head.length, head.upgrade) == ("/a b", "h:1", -1, False)
    with pytest.raises(BadRequestError):
        parse(b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n")
