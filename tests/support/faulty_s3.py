"""A proxy before an S3 server that breaks a share of the requests, by a seed.

with FaultyS3(endpoint, share=0.05, seed=1) as faulty:
    os.environ["AWS_ENDPOINT_URL"] = faulty.endpoint
    ...
    assert faulty.faults["lost"]

    busy    503 SlowDown; the server does not see the request
    error   500 InternalError; the same
    denied  403 AccessDenied; the same; not among KINDS, for it does not mend
    reset   the connection is reset; the same
    hang    no answer for `stall` seconds, then the connection ends; the same
    lost    the server does as it is asked, the answer is lost in a reset
    late    the same, the answer is lost after `stall` seconds
    cut     half of the answer's body arrives, then a reset
"""

import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

KINDS = ("busy", "error", "reset", "hang", "lost", "late", "cut")
ANSWERS = {"busy": (503, "SlowDown"), "error": (500, "InternalError"), "denied": (403, "AccessDenied")}
HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "expect", "server", "date")


class FaultyS3:
    """Args:
    endpoint: the server behind, `http://host:port`.
    share: of the requests that break; may be changed at any time, as `kinds` may.
    stall: seconds of a `hang` or `late` fault.

    `ahead` holds faults for the next requests, whatever the share ("" for none); `requests` counts by method, `faults`
    by kind.
    """

    def __init__(
        self, endpoint: str, share: float = 0.05, seed: int = 0, kinds: Sequence[str] = KINDS, stall: float = 3.0
    ) -> None:
        self.behind, self.share, self.kinds, self.stall = urlsplit(endpoint).netloc, share, kinds, stall
        self.ahead: deque[str] = deque()
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._turn = threading.Lock()
        self.begin(seed)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def begin(self, seed: int) -> None:
        """Counts and draws anew; requests of earlier clients may still be on their way."""
        with self._turn:
            self._random = random.Random(seed)
            for counted in (self.ahead, self.requests, self.faults):
                counted.clear()

    def fault(self, method: str) -> str:
        """The kind of fault that the next request meets, or nothing."""
        with self._turn:
            self.requests[method] += 1
            broken = self._random.random() < self.share
            kind = self.ahead.popleft() if self.ahead else self._random.choice(self.kinds) if broken else ""
            self.faults.update([kind] if kind else [])
            return kind


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()


def _handler(faulty: FaultyS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the client is gone
                self.close_connection = True

        def answer(self) -> None:
            kind = faulty.fault(self.command)
            if kind in ("reset", "hang"):
                self.stop(faulty.stall if kind == "hang" else 0)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if kind in ANSWERS:
                status, code = ANSWERS[kind]
                text = b"" if self.command == "HEAD" else error(code)
                self.send(status, [("Content-Type", "application/xml")], text)
                return
            status, headers, data = self.forward(body)
            if kind in ("lost", "late"):
                self.stop(faulty.stall if kind == "late" else 0)
                return
            self.send(status, headers, data, cut=kind == "cut")
            if kind == "cut":
                self.stop(0)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

        def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = HTTPConnection(faulty.behind, timeout=60)
            try:
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
                connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                response = connection.getresponse()
                data = response.read()
                if "Range" in self.headers and response.status == 200 and not data:  # moto says 200, S3 does not
                    return 416, [("Content-Type", "application/xml")], error("InvalidRange")
                return response.status, response.getheaders(), data
            finally:
                connection.close()

        def send(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool = False) -> None:
            length = next((value for name, value in headers if name.lower() == "content-length"), str(len(data)))
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)

        def stop(self, seconds: float) -> None:
            """Ends the connection by a reset."""
            time.sleep(seconds)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
            self.connection.close()
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
